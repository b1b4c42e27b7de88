package event

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"

	"eventstream/internal/binread"
)

// Cursor says how far a client has come: it has every event addressed to it
// whose offset is below Next of its partition. It is resumed by scanning on
// from there for events addressed to Addr or, when set, Old.
//
// Old is the connection that this one itself resumed from. It is carried until
// it is sure that no event from Next on was matched before this connection was
// known to the filter service.
type Cursor struct {
	Topic  TopicID
	Issued time.Time // seconds
	Addr   Address
	Old    Address // zero if none
	Next   []int64 // next offset, by partition
}

// MaxPartitions bounds the partitions of a cursor and so of a topic.
const MaxPartitions = 4096

// ErrCursor reports a string that is no cursor of ours.
var ErrCursor = errors.New("malformed cursor")

const (
	cursorVersion = 1
	maxUnix       = 253402300799      // seconds; the end of the year 9999, which is the last that RFC 3339 can write
	maxOffset     = math.MaxInt64 - 1 // there is a next one
)

// MaxClockAhead is how far the clock of another machine may be ahead of ours. What
// is from later than that is no time that we would have given.
const MaxClockAhead = 10 * time.Minute

// maxCursor bounds the text of a cursor.
var maxCursor = MaxCursorLen(MaxPartitions)

// cursorHead bounds what a cursor has before its offsets.
const cursorHead = 64

// MaxCursorLen bounds the text of a cursor of so many partitions, in bytes.
func MaxCursorLen(partitions int) int {
	return base64.RawURLEncoding.EncodedLen(cursorHead + partitions*binary.MaxVarintLen64)
}

// CursorLen bounds the text of a cursor whose offsets are no larger than these.
func CursorLen(next []int64) int {
	n := cursorHead
	for _, offset := range next {
		n += max(1, (bits.Len64(uint64(offset))+6)/7)
	}
	return base64.RawURLEncoding.EncodedLen(n)
}

// Layout before base64url:
//
//	version 1 | topic 16 | issued, unix seconds: uvarint
//	gateway 8 | seat: uvarint | old gateway 8 | old seat: uvarint
//	partitions: uvarint | next offset: uvarint, for each partition

// String returns the cursor as one opaque base64url token.
func (c *Cursor) String() string { return string(c.Append(make([]byte, 0, 512))) }

// Append appends the cursor's text to dst.
func (c *Cursor) Append(dst []byte) []byte {
	b := append(make([]byte, 0, 384), cursorVersion) // most often enough
	b = append(b, c.Topic[:]...)
	b = binary.AppendUvarint(b, uint64(max(c.Issued.Unix(), 0)))
	b = c.Addr.append(b)
	b = c.Old.append(b)
	b = binary.AppendUvarint(b, uint64(len(c.Next)))
	for _, n := range c.Next {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return base64.RawURLEncoding.AppendEncode(dst, b)
}

func (a Address) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(a.Gateway))
	return binary.AppendUvarint(b, uint64(a.Seat))
}

// ParseCursor is the inverse of Cursor.String. A cursor is untrusted input:
// that it parses says nothing about whose it is. Errors wrap ErrCursor.
func ParseCursor(s string) (*Cursor, error) {
	if len(s) > maxCursor {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrCursor, len(s), maxCursor)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%w: not base64url", ErrCursor)
	}
	r := binread.Reader{Rest: b}
	if r.Byte() != cursorVersion {
		return nil, fmt.Errorf("%w: unknown version", ErrCursor)
	}
	c := &Cursor{}
	copy(c.Topic[:], r.Bytes(uint64(len(c.Topic))))
	c.Issued = time.Unix(int64(r.Uvarint(maxUnix)), 0)
	c.Addr = readAddress(&r)
	c.Old = readAddress(&r)
	n := r.Uvarint(MaxPartitions)
	if r.Failed() || n > uint64(len(r.Rest)) {
		return nil, fmt.Errorf("%w: cut short", ErrCursor)
	}
	c.Next = make([]int64, n)
	for i := range c.Next {
		c.Next[i] = int64(r.Uvarint(maxOffset))
	}
	if !r.Done() {
		return nil, fmt.Errorf("%w: wrong length or a number out of range", ErrCursor)
	}
	// base64 skips line breaks, and a varint can be written at length. A cursor
	// is sent back to its client inside JSON, so only the exact text will do.
	if c.String() != s {
		return nil, fmt.Errorf("%w: not as it was issued", ErrCursor)
	}
	return c, nil
}

func readAddress(r *binread.Reader) Address {
	return Address{Gateway(r.Uint64()), Seat(r.Uvarint(math.MaxUint32))}
}
