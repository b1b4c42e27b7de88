// Package framingtest reads and writes what framing does, slowly and obviously, for
// tests.
package framingtest

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"slices"
	"testing"
)

// RSV1 is the bit in a frame's first byte that says that its message is compressed.
const RSV1 = 0x40

// ClientFrame is the slow obvious way to write a client's frame.
func ClientFrame(op byte, fin bool, payload []byte, key uint32) []byte {
	b := []byte{op, 0x80}
	if fin {
		b[0] |= 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b[1] |= byte(n)
	case n < 1<<16:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	mask := binary.BigEndian.AppendUint32(nil, key)
	b = append(b, mask...)
	for i, x := range payload {
		b = append(b, x^mask[i%4])
	}
	return b
}

// ServerFrame is the slow obvious reading of one whole frame.
func ServerFrame(t testing.TB, b []byte) (op byte, payload []byte) {
	n, head := int(b[1]), 2
	switch n {
	case 126:
		n, head = int(b[2])<<8|int(b[3]), 4
	case 127:
		n, head = 0, 10
		for _, x := range b[2:10] {
			n = n<<8 | int(x)
		}
	}
	if b[0]&0xF0 != 0x80 || n != len(b)-head {
		t.Fatalf("frame %x…: header says %d bytes, there are %d", b[:head], n, len(b)-head)
	}
	return b[0] & 0xF, b[head:]
}

// Compressed is a compressed message's payload, as the RFC has it made.
func Compressed(t testing.TB, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 9)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(text)
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

// Decompressed is the slow obvious reading of one.
func Decompressed(t testing.TB, payload []byte) []byte {
	t.Helper()
	out, err := io.ReadAll(flate.NewReader(bytes.NewReader(append(slices.Clone(payload), "\x00\x00\xff\xff\x01\x00\x00\xff\xff"...))))
	if err != nil {
		t.Fatalf("payload %x: %v", payload, err)
	}
	return out
}
