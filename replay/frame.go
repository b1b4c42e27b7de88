package replay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"eventstream/event"
	"eventstream/internal/binread"
)

// Layout of a stream: a header, batches, and an end or a failure. Each is a frame,
// and a stream without an end was cut. All numbers are uvarints.
//
//	frame    length of what follows | kind 1 byte | body
//	header   version 1 | partitions | from, for each | to, for each | number of lost | lost ...
//	lost     reason 1 byte | partition | from | to
//	batch    partition | next | 0, or a reason 1 byte | from, to of what is lost | entry
//	end      nothing
//	failure  why, as text
const (
	frameHeader byte = iota + 1
	frameBatch
	frameEnd
	frameFailure

	streamVersion = 1

	// maxFrame bounds a frame: a batch, whose last event may exceed it, or a header.
	maxFrame = 16 << 20
)

// ErrStream reports a stream that can't be decoded.
var ErrStream = errors.New("malformed replay stream")

// header is what a stream begins with.
type header struct {
	from, to []int64
	lost     []Lost
}

func (h *header) append(b []byte) []byte {
	b = append(b, streamVersion)
	b = binary.AppendUvarint(b, uint64(len(h.from)))
	for _, list := range [][]int64{h.from, h.to} {
		for _, o := range list {
			b = binary.AppendUvarint(b, uint64(o))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(h.lost)))
	for _, l := range h.lost {
		b = append(b, reasonByte(l.Reason))
		b = binary.AppendUvarint(b, uint64(l.Partition))
		b = binary.AppendUvarint(b, uint64(l.From))
		b = binary.AppendUvarint(b, uint64(l.To))
	}
	return b
}

func reasonByte(reason string) byte {
	i := slices.Index(reasons[1:], reason)
	if i < 0 {
		panic("replay: unknown reason " + reason)
	}
	return byte(i + 1)
}

// appendBatch appends all of b but its entry, which comes last.
func appendBatch(dst []byte, b *Batch) []byte {
	dst = binary.AppendUvarint(dst, uint64(b.Partition))
	dst = binary.AppendUvarint(dst, uint64(b.Next))
	if b.Lost == nil {
		return append(dst, 0)
	}
	dst = append(dst, reasonByte(b.Lost.Reason))
	dst = binary.AppendUvarint(dst, uint64(b.Lost.From))
	return binary.AppendUvarint(dst, uint64(b.Lost.To))
}

// frames reads a stream, frame by frame.
type frames struct {
	r    *bufio.Reader
	head header
	next []int64 // by partition
	buf  []byte
}

// open reads the header.
func (f *frames) open() error {
	kind, body, err := f.frame()
	if err != nil {
		return err
	}
	d := decoder{binread.Reader{Rest: body}}
	if kind == frameFailure {
		return fmt.Errorf("%w: %s", ErrBroken, body)
	}
	if kind != frameHeader || d.Byte() != streamVersion {
		return fmt.Errorf("%w: it does not begin with a header of version %d", ErrStream, streamVersion)
	}
	n := d.Uvarint(min(event.MaxPartitions, uint64(len(body))))
	f.head.from, f.head.to = d.offsets(n), d.offsets(n)
	for range d.Uvarint(uint64(len(body))) {
		reason := d.Byte()
		f.head.lost = append(f.head.lost, d.lost(reason, d.partition(n)))
	}
	for p := range f.head.from {
		if f.head.from[p] > f.head.to[p] {
			d.Fail()
		}
	}
	if !d.Done() {
		return fmt.Errorf("%w: header", ErrStream)
	}
	f.next = slices.Clone(f.head.from)
	return nil
}

// batch reads the next batch: io.EOF after the end, io.ErrUnexpectedEOF if the
// stream was cut. The batch is valid until the next call.
func (f *frames) batch() (Batch, error) {
	kind, body, err := f.frame()
	if err != nil {
		return Batch{}, err
	}
	d := decoder{binread.Reader{Rest: body}}
	switch {
	case kind == frameEnd && len(body) == 0:
		return Batch{}, io.EOF
	case kind == frameFailure:
		return Batch{}, fmt.Errorf("%w: %s", ErrBroken, body)
	case kind != frameBatch:
		return Batch{}, fmt.Errorf("%w: frame of kind %d", ErrStream, kind)
	}
	b := Batch{Partition: d.partition(uint64(len(f.next))), Next: d.offset()}
	if reason := d.Byte(); reason != 0 {
		lost := d.lost(reason, b.Partition)
		b.Lost = &lost
		if lost.To > b.Next {
			d.Fail()
		}
	}
	if d.Failed() || b.Next < f.next[b.Partition] || b.Next > f.head.to[b.Partition] {
		return Batch{}, fmt.Errorf("%w: batch", ErrStream)
	}
	b.Entry, f.next[b.Partition] = d.Rest, b.Next
	return b, nil
}

// frame reads one frame. Its body is valid until the next call.
func (f *frames) frame() (kind byte, body []byte, err error) {
	size, err := binary.ReadUvarint(f.r)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, nil, err
	}
	if size == 0 || size > maxFrame {
		return 0, nil, fmt.Errorf("%w: frame of %d bytes", ErrStream, size)
	}
	// It grows as bytes come: a length alone is not worth memory.
	for f.buf = f.buf[:0]; uint64(len(f.buf)) < size; {
		at := len(f.buf)
		f.buf = slices.Grow(f.buf, int(min(size-uint64(at), 64<<10)))
		f.buf = f.buf[:min(size, uint64(cap(f.buf)))]
		if _, err := io.ReadFull(f.r, f.buf[at:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, err
		}
	}
	return f.buf[0], f.buf[1:], nil
}

// decoder reads what is in frames.
type decoder struct{ binread.Reader }

func (d *decoder) offset() int64 { return int64(d.Uvarint(math.MaxInt64)) }

func (d *decoder) offsets(n uint64) []int64 {
	list := make([]int64, n)
	for i := range list {
		list[i] = d.offset()
	}
	return list
}

// partition reads the number of one of n partitions.
func (d *decoder) partition(n uint64) int32 {
	if n == 0 {
		d.Fail()
		return 0
	}
	return int32(d.Uvarint(n - 1))
}

func (d *decoder) lost(reason byte, partition int32) Lost {
	l := Lost{Partition: partition, From: d.offset(), To: d.offset()}
	if int(reason) >= len(reasons) || reason == 0 || l.From >= l.To {
		d.Fail()
		return l
	}
	l.Reason = reasons[reason]
	return l
}
