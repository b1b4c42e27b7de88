package event

import "math"

// Kind is what a Value is.
type Kind uint8

const (
	Other  Kind = iota // present, but equal to nothing: null, an object, an empty array
	String             // a JSON string
	Number             // a JSON number, as a 64-bit float
	Bool               // true or false
)

// Value is one value of an attribute. An attribute whose value is an array has
// one for each element.
type Value struct {
	Kind  Kind
	timed timed
	attr  Attr  // noAttr if its key came again
	next  int32 // the attribute's next value, its place in Event.values plus 1
	size  int32 // see Size

	Text []byte // of a String: its bytes, unescaped
	Key  uint64 // of a Number: its NumberKey; of a Bool: 0 or 1

	Hash uint64 // free for whoever matches the event; 0 when it was decoded

	time uint64
}

// Size is the bytes of the attribute's texts from this value on, and one more for
// each value: what it takes to look at all of them.
func (v *Value) Size() int { return int(v.size) }

// timed tells whether a Value's time is known.
type timed uint8

const (
	unasked timed = iota
	isTime
	noTime
)

// Time returns the TimeKey of a String that is an RFC 3339 timestamp. It parses
// once.
func (v *Value) Time() (key uint64, ok bool) {
	if v.timed == unasked {
		v.timed = noTime
		if v.Kind == String {
			if v.time, ok = ParseTime(v.Text); ok {
				v.timed = isTime
			}
		}
	}
	return v.time, v.timed == isTime
}

// NumberKey returns a number that is in the order of f: NumberKey(a) < NumberKey(b)
// if and only if a < b. Both zeros have one key, and between the keys of two
// neighbouring floats there is no other, so that the next larger float has the
// next larger key (but for the zeros). f must not be NaN.
func NumberKey(f float64) uint64 {
	if f == 0 {
		f = 0 // of the two zeros, the positive one
	}
	bits := math.Float64bits(f)
	if bits>>63 == 1 {
		return ^bits
	}
	return bits | 1<<63
}

// KeyNumber is the inverse of NumberKey.
func KeyNumber(key uint64) float64 {
	if key>>63 == 1 {
		return math.Float64frombits(key &^ (1 << 63))
	}
	return math.Float64frombits(^key)
}
