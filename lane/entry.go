package lane

import (
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"math/bits"
	"slices"

	"eventstream/event"
)

// Layout of an entry (all numbers uvarint, unless noted):
//
//	version 1
//	number of gateways | gateway 8 bytes each
//	first offset
//	per event:
//	  offset - offset of the event before (0 for the first)
//	  time - time of the event before, ms, zigzag varint
//	  length of groups | groups
//	  length of data | data
//
// A group holds the recipients at one gateway:
//
//	gateway's index | length of body << 1 | kind
//	kind 0: seats, ascending: the first, then the difference to the one before
//	kind 1: first seat | bitmap: bit i of it (lowest bit first) is seat first+i
const entryVersion = 1

// ErrEntry reports an entry that can't be decoded.
var ErrEntry = errors.New("malformed lane entry")

// Group is the recipients of an event at one gateway. Runs ascend, and no seat is
// in two of them.
type Group struct {
	Gateway event.Gateway
	Runs    []Run
}

// Run is up to 64 seats near each other: First, which bit 0 of Mask stands for,
// and First+i for each bit i.
type Run struct {
	First event.Seat
	Mask  uint64 // bit 0 is set
}

// Last returns the last seat of r.
func (r Run) Last() event.Seat { return r.First + event.Seat(63-bits.LeadingZeros64(r.Mask)) }

// RunsOf returns ascending seats as Runs.
func RunsOf(seats ...event.Seat) []Run { return AppendRuns(nil, seats) }

// AppendRuns appends ascending seats to dst as Runs.
func AppendRuns(dst []Run, seats []event.Seat) []Run {
	open := len(dst) // where the first of these is
	for _, s := range seats {
		if n := len(dst); n > open && s-dst[n-1].First < 64 {
			dst[n-1].Mask |= 1 << (s - dst[n-1].First)
		} else {
			dst = append(dst, Run{s, 1})
		}
	}
	return dst
}

// Packer builds an entry out of events. The zero value works.
type Packer struct {
	gateways []event.Gateway
	body     []byte
	first    int64
	last     int64
	time     int64
	count    int
	scratch  []byte // the groups of one event
	list     []byte // the list of one group
	out      []byte
}

// Reset begins a new entry.
func (p *Packer) Reset() {
	p.gateways, p.body = p.gateways[:0], p.body[:0]
	p.count, p.time = 0, 0
}

// Count is the number of events in the entry.
func (p *Packer) Count() int { return p.count }

// Len is about the size of the entry in bytes.
func (p *Packer) Len() int { return len(p.body) + 8*len(p.gateways) + 16 }

// Last is the offset of the last event in the entry.
func (p *Packer) Last() int64 { return p.last }

// Add appends an event. Offsets must ascend. timeMs is the time of its Kafka
// record in Unix milliseconds.
func (p *Packer) Add(offset, timeMs int64, data []byte, to []Group) {
	if p.count == 0 {
		p.first, p.last = offset, offset
	}
	p.body = binary.AppendUvarint(p.body, uint64(offset-p.last))
	p.body = binary.AppendVarint(p.body, timeMs-p.time)
	p.scratch = p.scratch[:0]
	for _, g := range to {
		p.scratch = binary.AppendUvarint(p.scratch, uint64(p.gateway(g.Gateway)))
		p.scratch = p.appendRuns(p.scratch, g.Runs)
	}
	p.body = binary.AppendUvarint(p.body, uint64(len(p.scratch)))
	p.body = append(p.body, p.scratch...)
	p.body = binary.AppendUvarint(p.body, uint64(len(data)))
	p.body = append(p.body, data...)
	p.last, p.time = offset, timeMs
	p.count++
}

// gateway returns g's index. There are few gateways: a scan beats a map.
func (p *Packer) gateway(g event.Gateway) int {
	if i := slices.Index(p.gateways, g); i >= 0 {
		return i
	}
	p.gateways = append(p.gateways, g)
	return len(p.gateways) - 1
}

// manySeats is from how many seats on a bitmap may be half again as long as the
// list would be: it is written and read many seats at a time.
const manySeats = 1024

// appendRuns appends a group's header and body: as a list where that is shorter.
func (p *Packer) appendRuns(b []byte, runs []Run) []byte {
	if len(runs) == 0 {
		return append(b, 0)
	}
	first, count := runs[0].First, 0
	for _, r := range runs {
		count += bits.OnesCount64(r.Mask)
	}
	width := int(runs[len(runs)-1].Last()-first)/8 + 1
	if width+1 >= count && !(count >= manySeats && 2*width <= 3*count) { // a list takes a byte for each seat, or more
		if p.list = appendList(p.list[:0], runs); len(p.list) <= uvarintLen(uint64(first))+width {
			b = binary.AppendUvarint(b, uint64(len(p.list))<<1)
			return append(b, p.list...)
		}
	}
	b = binary.AppendUvarint(b, uint64(uvarintLen(uint64(first))+width)<<1|1)
	b = binary.AppendUvarint(b, uint64(first))
	return appendBitmap(b, runs, width)
}

func appendList(b []byte, runs []Run) []byte {
	prev := event.Seat(0)
	for _, r := range runs {
		b = binary.AppendUvarint(b, uint64(r.First-prev))
		b = slices.Grow(b, 64)
		rest, n := b[len(b):len(b)+64], 0
		last := 0
		for mask := r.Mask &^ 1; mask != 0; mask &= mask - 1 { // within a run, a gap is one byte
			at := bits.TrailingZeros64(mask)
			rest[n&63] = byte(at - last)
			last = at
			n++
		}
		b = b[:len(b)+n]
		prev = r.First + event.Seat(last)
	}
	return b
}

// appendBitmap appends width bytes with a bit for each seat. A word is written
// once, when it is done: to read again what was just written makes the processor wait.
func appendBitmap(b []byte, runs []Run, width int) []byte {
	start, first := len(b), runs[0].First
	b = slices.Grow(b, width+16) // whole words, one of them past the last
	words := b[start : start+width+16]
	clear(words)
	at, low, high := 0, uint64(0), uint64(0) // the word at at, and the next one
	for _, r := range runs {
		d := int(r.First - first)
		if d/64 != at {
			binary.LittleEndian.PutUint64(words[8*at:], low)
			at, low, high = at+1, high, 0
		}
		if d/64 != at {
			binary.LittleEndian.PutUint64(words[8*at:], low)
			at, low = d/64, 0
		}
		low |= r.Mask << (d % 64)
		high |= r.Mask >> 1 >> (63 - d%64)
	}
	binary.LittleEndian.PutUint64(words[8*at:], low)
	binary.LittleEndian.PutUint64(words[8*at+8:], high)
	return b[:start+width]
}

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// Bytes returns the entry. It is valid until the next Reset or Add.
func (p *Packer) Bytes() []byte {
	b := append(p.out[:0], entryVersion)
	b = binary.AppendUvarint(b, uint64(len(p.gateways)))
	for _, g := range p.gateways {
		b = binary.BigEndian.AppendUint64(b, uint64(g))
	}
	b = binary.AppendUvarint(b, uint64(p.first))
	p.out = append(b, p.body...)
	return p.out
}

// Unpacker reads the events of an entry one after another. The zero value
// works; Data and groups point into the entry.
//
//	for u.Open(e.Blob); u.Next(); {
//		for gateway, seats := range u.Groups() { … }
//	}
//	if u.Err() != nil { … }
type Unpacker struct {
	Gateways []event.Gateway // of the whole entry; groups name them by index
	Offset   int64           // of the event
	TimeMs   int64           // of its Kafka record, Unix milliseconds
	Data     []byte          // the event's JSON

	rest   []byte
	groups []byte
	err    error
}

// Open begins with an entry.
func (u *Unpacker) Open(blob []byte) {
	*u = Unpacker{Gateways: u.Gateways[:0], rest: blob}
	if len(blob) == 0 || blob[0] != entryVersion {
		u.fail()
		return
	}
	u.rest = blob[1:]
	for range u.uvarint(uint64(len(u.rest) / 8)) {
		u.Gateways = append(u.Gateways, event.Gateway(binary.BigEndian.Uint64(u.take(8))))
	}
	u.Offset = int64(u.uvarint(math.MaxInt64))
}

// Next goes to the next event. It returns false at the end, and when the entry
// can't be decoded any further: see Err.
func (u *Unpacker) Next() bool {
	if u.err != nil || len(u.rest) == 0 {
		return false
	}
	u.Offset += int64(u.uvarint(uint64(math.MaxInt64 - u.Offset)))
	delta, n := binary.Varint(u.rest)
	if n <= 0 {
		u.fail()
		return false
	}
	u.rest = u.rest[n:]
	u.TimeMs += delta
	u.groups = u.take(u.uvarint(math.MaxInt32))
	u.Data = u.take(u.uvarint(math.MaxInt32))
	return u.err == nil
}

// Groups yields the index of each gateway that the event has recipients at,
// and the seats there.
func (u *Unpacker) Groups() iter.Seq2[int, Seats] {
	return func(yield func(int, Seats) bool) {
		rest := u.rest
		defer func() { u.rest = rest }()
		u.rest = u.groups
		for u.err == nil && len(u.rest) > 0 {
			g := int(u.uvarint(uint64(max(len(u.Gateways), 1) - 1)))
			head := u.uvarint(math.MaxInt32)
			s := Seats{body: u.take(head >> 1), bitmap: head&1 == 1}
			if u.err != nil || len(u.Gateways) == 0 {
				u.fail()
				return
			}
			if !yield(g, s) {
				return
			}
		}
	}
}

// Err tells why the entry could not be read to its end: nil or ErrEntry.
func (u *Unpacker) Err() error { return u.err }

func (u *Unpacker) fail() { u.err, u.rest = ErrEntry, nil }

func (u *Unpacker) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(u.rest)
	if n <= 0 || v > limit {
		u.fail()
		return 0
	}
	u.rest = u.rest[n:]
	return v
}

func (u *Unpacker) take(n uint64) []byte {
	if uint64(len(u.rest)) < n {
		u.fail()
		return make([]byte, min(n, 8))
	}
	b := u.rest[:n:n]
	u.rest = u.rest[n:]
	return b
}

// Seats is the encoded seats of one group.
type Seats struct {
	body   []byte
	bitmap bool
}

// Cheap reports whether Has looks at one place only, and not at all seats.
func (s Seats) Cheap() bool { return s.bitmap }

// Has reports whether a seat is among them.
func (s Seats) Has(seat event.Seat) bool {
	b := s.body
	first, n := binary.Uvarint(b)
	if n <= 0 || uint64(seat) < first {
		return false
	}
	b = b[n:]
	if s.bitmap {
		i := uint64(seat) - first
		return i/8 < uint64(len(b)) && b[i/8]>>(i%8)&1 == 1
	}
	for first < uint64(seat) && len(b) > 0 {
		d, n := binary.Uvarint(b)
		if n <= 0 || d > math.MaxUint32 {
			return false
		}
		first += d
		b = b[n:]
	}
	return first == uint64(seat)
}

// Append appends the seats to dst, ascending. What can't be decoded is left out.
func (s Seats) Append(dst []event.Seat) []event.Seat {
	b := s.body
	first, n := binary.Uvarint(b)
	if n <= 0 || first > math.MaxUint32 {
		return dst
	}
	b = b[n:]
	if s.bitmap {
		for ; len(b) >= 8; b, first = b[8:], first+64 {
			dst = appendMask(dst, first, binary.LittleEndian.Uint64(b))
		}
		for ; len(b) > 0; b, first = b[1:], first+8 {
			dst = appendMask(dst, first, uint64(b[0]))
		}
		return dst
	}
	dst = append(dst, event.Seat(first))
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		if first += d; n <= 0 || d > math.MaxUint32 || first > math.MaxUint32 {
			return dst
		}
		b = b[n:]
		dst = append(dst, event.Seat(first))
	}
	return dst
}

// appendMask appends first+i for each bit i of mask.
func appendMask(dst []event.Seat, first, mask uint64) []event.Seat {
	for ; mask != 0; mask &= mask - 1 {
		if seat := first + uint64(bits.TrailingZeros64(mask)); seat <= math.MaxUint32 {
			dst = append(dst, event.Seat(seat))
		}
	}
	return dst
}
