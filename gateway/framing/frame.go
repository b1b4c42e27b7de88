package framing

import (
	"encoding/binary"
	"unicode/utf8"
)

// WebSocket framing, RFC 6455 section 5, for the server's side.

const (
	OpContinuation = 0x0
	OpText         = 0x1
	OpBinary       = 0x2
	OpClose        = 0x8
	OpPing         = 0x9
	OpPong         = 0xA

	finBit  = 0x80
	maskBit = 0x80

	maxControl = 125
	HeadRoom   = 10 // longest header of a server's frame
)

// Close codes of RFC 6455 section 7.4.1 that framing needs.
const (
	CloseNormal      = 1000
	CloseProtocol    = 1002
	CloseUnsupported = 1003
	CloseNoStatus    = 1005
	CloseInvalidData = 1007
	CloseTooBig      = 1009
)

// Error says why a connection ends.
type Error struct {
	Code   int
	Reason string
	Bye    bool // no error: the client closes
}

func (e *Error) Error() string { return e.Reason }

var ErrTooBig = &Error{Code: CloseTooBig, Reason: "message too big"}

// Rules are what a connection's frames are held to.
type Rules struct {
	Limit   int  // bytes of a message
	Deflate bool // messages may be compressed
}

// frame is a client's frame with its payload unmasked.
type frame struct {
	op      byte
	fin     bool
	packed  bool // the message that it begins is compressed
	payload []byte
}

// parseFrame takes the first frame off b and unmasks it in place. n is its
// length, 0 if b holds only a part of it. The limit is that of data.
func parseFrame(b []byte, r Rules) (f frame, n int, err *Error) {
	if len(b) < 2 {
		return f, 0, nil
	}
	f = frame{op: b[0] & 0x0F, fin: b[0]&finBit != 0, packed: b[0]&rsv1Bit != 0}
	size, head := uint64(b[1]&^maskBit), 2
	if err := checkHeader(b, f, size, r.Deflate); err != nil {
		return f, 0, err
	}
	switch size {
	case 126:
		if head = 4; len(b) < head {
			return f, 0, nil
		}
		size = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if head = 10; len(b) < head {
			return f, 0, nil
		}
		size = binary.BigEndian.Uint64(b[2:])
	}
	if f.op < OpClose && size > uint64(r.Limit) {
		return f, 0, ErrTooBig
	}
	n = head + 4 + int(size)
	if len(b) < n {
		return f, 0, nil
	}
	f.payload = b[head+4 : n]
	unmask(f.payload, b[head:head+4])
	return f, n, nil
}

func checkHeader(b []byte, f frame, size uint64, deflate bool) *Error {
	control := f.op&0x8 != 0
	begins := f.op == OpText || f.op == OpBinary
	switch {
	case b[0]&0x30 != 0, f.packed && !(deflate && begins):
		return &Error{Code: CloseProtocol, Reason: "reserved bit set"}
	case f.op > OpBinary && f.op < OpClose || f.op > OpPong:
		return &Error{Code: CloseProtocol, Reason: "unknown opcode"}
	case b[1]&maskBit == 0:
		return &Error{Code: CloseProtocol, Reason: "frame is not masked"}
	case control && (!f.fin || size > maxControl):
		return &Error{Code: CloseProtocol, Reason: "control frame fragmented or too long"}
	}
	return nil
}

func unmask(b, key []byte) {
	k := binary.LittleEndian.Uint32(key)
	kk := uint64(k)<<32 | uint64(k)
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^kk)
	}
	for i := range b {
		b[i] ^= key[i&3]
	}
}

// CloseStatus reads a close frame's payload: the code to answer with, or what
// is wrong with it.
func CloseStatus(payload []byte) (code int, err *Error) {
	if len(payload) == 0 {
		return CloseNoStatus, nil
	}
	if len(payload) == 1 {
		return 0, &Error{Code: CloseProtocol, Reason: "close frame of one byte"}
	}
	code = int(binary.BigEndian.Uint16(payload))
	switch {
	case code < 1000, code >= 1004 && code <= 1006, code >= 1015 && code < 3000, code >= 5000:
		return 0, &Error{Code: CloseProtocol, Reason: "close code not allowed"}
	case !utf8.Valid(payload[2:]):
		return 0, &Error{Code: CloseInvalidData, Reason: "close reason is not valid UTF-8"}
	}
	return code, nil
}

// sealFrame turns buf, whose first HeadRoom bytes are free and whose rest is a
// payload, into a frame. It returns the part of buf that is the frame.
func sealFrame(buf []byte, op byte) []byte {
	size := len(buf) - HeadRoom
	start := HeadRoom - 2
	switch {
	case size < 126:
		buf[start+1] = byte(size)
	case size <= 0xFFFF:
		start = HeadRoom - 4
		buf[start+1] = 126
		binary.BigEndian.PutUint16(buf[start+2:], uint16(size))
	default:
		start = HeadRoom - 10
		buf[start+1] = 127
		binary.BigEndian.PutUint64(buf[start+2:], uint64(size))
	}
	buf[start] = finBit | op
	return buf[start:]
}

// NewFrame returns a frame with a copy of payload.
func NewFrame(op byte, payload []byte) []byte {
	buf := make([]byte, HeadRoom, HeadRoom+len(payload))
	return sealFrame(append(buf, payload...), op)
}

// newClose returns a close frame. code CloseNoStatus makes an empty one.
func newClose(code int, reason string) []byte {
	if code == CloseNoStatus {
		return NewFrame(OpClose, nil)
	}
	payload := binary.BigEndian.AppendUint16(nil, uint16(code))
	payload = append(payload, reason[:min(len(reason), maxControl-2)]...)
	return NewFrame(OpClose, payload)
}
