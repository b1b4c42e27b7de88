package gateway

import (
	"encoding/binary"
	"unicode/utf8"
)

// WebSocket framing, RFC 6455 section 5, for the server's side.

const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA

	finBit  = 0x80
	maskBit = 0x80

	maxControl = 125
	headRoom   = 10 // longest header of a server's frame
)

// Close codes of RFC 6455 section 7.4.1 that framing needs.
const (
	closeNormal      = 1000
	closeProtocol    = 1002
	closeUnsupported = 1003
	closeNoStatus    = 1005
	closeInvalidData = 1007
	closeTooBig      = 1009
)

// protocolError says why a connection ends.
type protocolError struct {
	code   int
	reason string
	bye    bool // no error: the client closes
}

func (e *protocolError) Error() string { return e.reason }

var errTooBig = &protocolError{code: closeTooBig, reason: "message too big"}

// rules are what a connection's frames are held to.
type rules struct {
	limit   int  // bytes of a message
	deflate bool // messages may be compressed
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
func parseFrame(b []byte, r rules) (f frame, n int, err *protocolError) {
	if len(b) < 2 {
		return f, 0, nil
	}
	f = frame{op: b[0] & 0x0F, fin: b[0]&finBit != 0, packed: b[0]&rsv1Bit != 0}
	size, head := uint64(b[1]&^maskBit), 2
	if err := checkHeader(b, f, size, r.deflate); err != nil {
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
	if f.op < opClose && size > uint64(r.limit) {
		return f, 0, errTooBig
	}
	n = head + 4 + int(size)
	if len(b) < n {
		return f, 0, nil
	}
	f.payload = b[head+4 : n]
	unmask(f.payload, b[head:head+4])
	return f, n, nil
}

func checkHeader(b []byte, f frame, size uint64, deflate bool) *protocolError {
	control := f.op&0x8 != 0
	begins := f.op == opText || f.op == opBinary
	switch {
	case b[0]&0x30 != 0, f.packed && !(deflate && begins):
		return &protocolError{code: closeProtocol, reason: "reserved bit set"}
	case f.op > opBinary && f.op < opClose || f.op > opPong:
		return &protocolError{code: closeProtocol, reason: "unknown opcode"}
	case b[1]&maskBit == 0:
		return &protocolError{code: closeProtocol, reason: "frame is not masked"}
	case control && (!f.fin || size > maxControl):
		return &protocolError{code: closeProtocol, reason: "control frame fragmented or too long"}
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

// inbound puts a client's messages together. A connection needs one only while
// a frame or a fragmented message is incomplete.
type inbound struct {
	bytes   []byte // of an incomplete frame
	op      byte   // of a fragmented message; 0 if there is none
	packed  bool   // it is compressed
	message []byte // its fragments so far
	valid   int    // how many bytes of it are valid UTF-8, if it is text
	parts   int    // how many fragments there are: they may be empty
}

// maxFragments bounds the fragments of one message.
const maxFragments = 1024

// feed parses b, in which it unmasks payloads, and calls on with each control
// frame and each complete message; payloads are valid during the call. It
// returns what has to be kept for the next call, or nil.
func (in *inbound) feed(b []byte, r rules, on func(op byte, payload []byte) *protocolError) (*inbound, *protocolError) {
	if in == nil {
		in = &inbound{}
	}
	if len(in.bytes) > 0 {
		in.bytes = append(in.bytes, b...)
		b = in.bytes
	}
	for {
		f, n, err := parseFrame(b, rules{r.limit - len(in.message), r.deflate})
		if err != nil {
			return in, err
		}
		if n == 0 {
			break
		}
		b = b[n:]
		if err := in.frame(f, r.limit, on); err != nil {
			return in, err
		}
	}
	if len(b) == 0 && in.op == 0 {
		return nil, nil
	}
	in.bytes = append([]byte(nil), b...)
	return in, nil
}

func (in *inbound) frame(f frame, limit int, on func(op byte, payload []byte) *protocolError) *protocolError {
	switch {
	case f.op >= opClose:
		return on(f.op, f.payload)
	case f.op == opContinuation && in.op == 0:
		return &protocolError{code: closeProtocol, reason: "continuation of nothing"}
	case f.op != opContinuation && in.op != 0:
		return &protocolError{code: closeProtocol, reason: "new message inside a fragmented one"}
	}
	if in.op == 0 {
		in.op, in.packed, in.message, in.valid, in.parts = f.op, f.packed, nil, 0, 0
	}
	if f.fin && in.parts == 0 { // nearly always: no copy
		in.message = f.payload
	} else {
		in.message = append(in.message, f.payload...)
	}
	if in.parts++; in.parts > maxFragments {
		return &protocolError{code: closeTooBig, reason: "too many fragments"}
	}
	if err := in.check(f.fin); err != nil || !f.fin {
		return err
	}
	op, message, packed := in.op, in.message, in.packed
	in.op, in.message = 0, nil
	if !packed {
		return on(op, message)
	}
	message, err := inflate(message, limit)
	if err == nil && op == opText && !utf8.Valid(message) {
		err = errNotUTF8
	}
	if err != nil {
		return err
	}
	return on(op, message)
}

var errNotUTF8 = &protocolError{code: closeInvalidData, reason: "text is not valid UTF-8"}

// check looks at text as it comes, but for what is compressed. A rune may go on in
// the next fragment.
func (in *inbound) check(fin bool) *protocolError {
	if in.op != opText || in.packed {
		return nil
	}
	rest := in.message[in.valid:]
	n := len(rest)
	if !fin {
		n -= unfinished(rest)
	}
	if !utf8.Valid(rest[:n]) {
		return errNotUTF8
	}
	in.valid += n
	return nil
}

// unfinished returns how many bytes at the end of b can be the beginning of a rune.
func unfinished(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if last := b[len(b)-n:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				return n
			}
			return 0
		}
	}
	return 0
}

// closeStatus reads a close frame's payload: the code to answer with, or what
// is wrong with it.
func closeStatus(payload []byte) (code int, err *protocolError) {
	if len(payload) == 0 {
		return closeNoStatus, nil
	}
	if len(payload) == 1 {
		return 0, &protocolError{code: closeProtocol, reason: "close frame of one byte"}
	}
	code = int(binary.BigEndian.Uint16(payload))
	switch {
	case code < 1000, code >= 1004 && code <= 1006, code >= 1015 && code < 3000, code >= 5000:
		return 0, &protocolError{code: closeProtocol, reason: "close code not allowed"}
	case !utf8.Valid(payload[2:]):
		return 0, &protocolError{code: closeInvalidData, reason: "close reason is not valid UTF-8"}
	}
	return code, nil
}

// sealFrame turns buf, whose first headRoom bytes are free and whose rest is a
// payload, into a frame. It returns the part of buf that is the frame.
func sealFrame(buf []byte, op byte) []byte {
	size := len(buf) - headRoom
	start := headRoom - 2
	switch {
	case size < 126:
		buf[start+1] = byte(size)
	case size <= 0xFFFF:
		start = headRoom - 4
		buf[start+1] = 126
		binary.BigEndian.PutUint16(buf[start+2:], uint16(size))
	default:
		start = headRoom - 10
		buf[start+1] = 127
		binary.BigEndian.PutUint64(buf[start+2:], uint64(size))
	}
	buf[start] = finBit | op
	return buf[start:]
}

// newFrame returns a frame with a copy of payload.
func newFrame(op byte, payload []byte) []byte {
	buf := make([]byte, headRoom, headRoom+len(payload))
	return sealFrame(append(buf, payload...), op)
}

// closeFrame returns a close frame. code closeNoStatus makes an empty one.
func closeFrame(code int, reason string) []byte {
	if code == closeNoStatus {
		return newFrame(opClose, nil)
	}
	payload := binary.BigEndian.AppendUint16(nil, uint16(code))
	payload = append(payload, reason[:min(len(reason), maxControl-2)]...)
	return newFrame(opClose, payload)
}
