// Package binread reads values off the front of bytes that others wrote. A value that is cut
// short or larger than allowed makes the Reader fail; from then on it returns zeros, so that
// the caller checks once, at the end.
package binread

import "encoding/binary"

// Reader reads values off Rest, which begins as all bytes.
type Reader struct {
	Rest   []byte // nil once the Reader failed
	failed bool
}

// Fail makes the Reader fail, for a value that its caller does not allow.
func (r *Reader) Fail() { r.Rest, r.failed = nil, true }

// Failed reports whether a value was missing or not allowed.
func (r *Reader) Failed() bool { return r.failed }

// Done reports whether all was read, and nothing failed.
func (r *Reader) Done() bool { return !r.failed && len(r.Rest) == 0 }

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if len(r.Rest) == 0 {
		r.Fail()
		return 0
	}
	b := r.Rest[0]
	r.Rest = r.Rest[1:]
	return b
}

// Uvarint reads an unsigned varint of at most limit.
func (r *Reader) Uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.Rest)
	if n <= 0 || v > limit {
		r.Fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Uint64 reads 8 bytes, big endian.
func (r *Reader) Uint64() uint64 {
	b := r.Bytes(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// Bytes reads n bytes, which stay part of what is read. They are nil if there are fewer.
func (r *Reader) Bytes(n uint64) []byte {
	if uint64(len(r.Rest)) < n {
		r.Fail()
		return nil
	}
	b := r.Rest[:n:n]
	r.Rest = r.Rest[n:]
	return b
}

// Text reads a string with its length, a varint, before it.
func (r *Reader) Text() string { return string(r.Bytes(r.Uvarint(uint64(len(r.Rest))))) }
