package binread

import (
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"
)

// value is one of those that a Reader reads, as it was written.
type value struct {
	kind  int // byte, uvarint, uint64, bytes, text
	n     uint64
	limit uint64 // of a uvarint
	text  string
}

func drawValue(t *rapid.T) value {
	v := value{kind: rapid.IntRange(0, 4).Draw(t, "kind"), n: rapid.Uint64().Draw(t, "number")}
	if v.kind == 0 {
		v.n %= 256
	}
	v.limit = max(v.n, rapid.Uint64().Draw(t, "limit"))
	v.text = rapid.StringN(0, 20, -1).Draw(t, "text")
	return v
}

func (v value) append(b []byte) []byte {
	switch v.kind {
	case 0:
		return append(b, byte(v.n))
	case 1:
		return binary.AppendUvarint(b, v.n)
	case 2:
		return binary.BigEndian.AppendUint64(b, v.n)
	case 3:
		return append(b, v.text...)
	}
	return append(binary.AppendUvarint(b, uint64(len(v.text))), v.text...)
}

// read reports whether r returned v.
func (v value) read(r *Reader) bool {
	switch v.kind {
	case 0:
		return r.Byte() == byte(v.n)
	case 1:
		return r.Uvarint(v.limit) == v.n
	case 2:
		return r.Uint64() == v.n
	case 3:
		return string(r.Bytes(uint64(len(v.text)))) == v.text
	}
	return r.Text() == v.text
}

// TestReader: what was written is read, and what was cut short fails for good.
func TestReader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Custom(drawValue), 1, 10).Draw(t, "values")
		var b []byte
		for _, v := range values {
			b = v.append(b)
		}
		r := Reader{Rest: b}
		for i, v := range values {
			if !v.read(&r) || r.Failed() {
				t.Fatalf("value %d of %x: want %+v", i, b, v)
			}
		}
		if !r.Done() {
			t.Fatalf("%x is left of %x", r.Rest, b)
		}
		if len(b) == 0 {
			return
		}
		r = Reader{Rest: b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]}
		for _, v := range values {
			v.read(&r)
		}
		if !r.Failed() || r.Done() || len(r.Rest) > 0 || r.Byte() != 0 || r.Uvarint(9) != 0 || r.Uint64() != 0 || r.Bytes(1) != nil || r.Text() != "" {
			t.Fatalf("%x was cut short, and the reader did not fail for good: %+v", b, r)
		}
	})
}

func TestReaderRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		b    []byte
		read func(*Reader)
	}{
		"a number above the limit":         {[]byte{6}, func(r *Reader) { r.Uvarint(5) }},
		"a varint of more than 64 bits":    {[]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 2}, func(r *Reader) { r.Uvarint(1<<64 - 1) }},
		"a text longer than what is there": {[]byte{3, 'a', 'b'}, func(r *Reader) { r.Text() }},
		"a length beyond int":              {[]byte{1}, func(r *Reader) { r.Bytes(1 << 63) }},
		"what the caller refuses":          {[]byte{1}, (*Reader).Fail},
	} {
		r := Reader{Rest: tt.b}
		if tt.read(&r); !r.Failed() || r.Done() {
			t.Errorf("%s: failed = %t, done = %t", name, r.Failed(), r.Done())
		}
	}
}

// FuzzReader reads any bytes in any way: it never panics, and never returns more than there is.
func FuzzReader(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4}, []byte{0, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b, how []byte) {
		r, got := Reader{Rest: b}, 0
		for _, h := range how {
			switch h % 5 {
			case 0:
				r.Byte()
			case 1:
				if limit := uint64(h) << (h % 60); r.Uvarint(limit) > limit {
					t.Fatalf("a number above its limit of %d", limit)
				}
			case 2:
				r.Uint64()
			case 3:
				got += len(r.Bytes(uint64(h)))
			case 4:
				got += len(r.Text())
			}
		}
		if got+len(r.Rest) > len(b) || r.Failed() && r.Rest != nil {
			t.Fatalf("%d bytes returned and %d left of %d, failed = %t", got, len(r.Rest), len(b), r.Failed())
		}
	})
}
