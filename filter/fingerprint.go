package filter

import (
	"encoding/binary"
	"math/bits"
)

// Ranges is the number of ranges that a Fingerprint divides filters into.
const Ranges = 1024

// Fingerprint is a sum of hashes for each range of filters. If two sets of filters have
// the same sums, they have the same filters in the same revisions. PostgreSQL computes it,
// too: the hashes are its uuid_hash and uuid_hash_extended. The zero value is that of no filters.
type Fingerprint [Ranges]uint64

// RangeOf returns the range that a filter's ID, as 16 bytes, is in: uuid_hash(id) & 1023.
func RangeOf(id [16]byte) int32 { return int32(HashID(id, 0) % Ranges) }

// Add adds a filter.
func (f *Fingerprint) Add(id [16]byte, revision int64) { f[RangeOf(id)] += HashID(id, revision) }

// Remove undoes Add.
func (f *Fingerprint) Remove(id [16]byte, revision int64) { f[RangeOf(id)] -= HashID(id, revision) }

// HashID is PostgreSQL's uuid_hash_extended on machines that are little-endian; its lower
// half with a seed of 0 is uuid_hash. Both are Bob Jenkins' lookup3.
func HashID(id [16]byte, seed int64) uint64 {
	a := uint32(0x9e3779b9 + 16 + 3923095)
	b, c := a, a
	if seed != 0 {
		a, b, c = mix(a+uint32(uint64(seed)>>32), b+uint32(seed), c)
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(id[i:]) }
	a, b, c = mix(a+word(0), b+word(4), c+word(8))
	a += word(12)

	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	c = (c ^ b) - bits.RotateLeft32(b, 24)
	return uint64(b)<<32 | uint64(c)
}

func mix(a, b, c uint32) (uint32, uint32, uint32) {
	a = (a - c) ^ bits.RotateLeft32(c, 4)
	c += b
	b = (b - a) ^ bits.RotateLeft32(a, 6)
	a += c
	c = (c - b) ^ bits.RotateLeft32(b, 8)
	b += a
	a = (a - c) ^ bits.RotateLeft32(c, 16)
	c += b
	b = (b - a) ^ bits.RotateLeft32(a, 19)
	a += c
	c = (c - b) ^ bits.RotateLeft32(b, 4)
	b += a
	return a, b, c
}
