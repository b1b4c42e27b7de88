package framing

import "unicode/utf8"

// Inbound puts a client's messages together. A connection needs one only while
// a frame or a fragmented message is incomplete.
type Inbound struct {
	bytes   []byte // of an incomplete frame
	op      byte   // of a fragmented message; 0 if there is none
	packed  bool   // it is compressed
	message []byte // its fragments so far
	valid   int    // how many bytes of it are valid UTF-8, if it is text
	parts   int    // how many fragments there are: they may be empty
}

// MaxFragments bounds the fragments of one message.
const MaxFragments = 1024

// Feed parses b, in which it unmasks payloads, and calls on with each control
// frame and each complete message; payloads are valid during the call. It
// returns what has to be kept for the next call, or nil.
func (in *Inbound) Feed(b []byte, r Rules, on func(op byte, payload []byte) *Error) (*Inbound, *Error) {
	if in == nil {
		in = &Inbound{}
	}
	if len(in.bytes) > 0 {
		in.bytes = append(in.bytes, b...)
		b = in.bytes
	}
	for {
		f, n, err := parseFrame(b, Rules{r.Limit - len(in.message), r.Deflate})
		if err != nil {
			return in, err
		}
		if n == 0 {
			break
		}
		b = b[n:]
		if err := in.frame(f, r.Limit, on); err != nil {
			return in, err
		}
	}
	if len(b) == 0 && in.op == 0 {
		return nil, nil
	}
	in.bytes = append([]byte(nil), b...)
	return in, nil
}

func (in *Inbound) frame(f frame, limit int, on func(op byte, payload []byte) *Error) *Error {
	switch {
	case f.op >= OpClose:
		return on(f.op, f.payload)
	case f.op == OpContinuation && in.op == 0:
		return &Error{Code: CloseProtocol, Reason: "continuation of nothing"}
	case f.op != OpContinuation && in.op != 0:
		return &Error{Code: CloseProtocol, Reason: "new message inside a fragmented one"}
	}
	if in.op == 0 {
		in.op, in.packed, in.message, in.valid, in.parts = f.op, f.packed, nil, 0, 0
	}
	if f.fin && in.parts == 0 { // nearly always: no copy
		in.message = f.payload
	} else {
		in.message = append(in.message, f.payload...)
	}
	if in.parts++; in.parts > MaxFragments {
		return &Error{Code: CloseTooBig, Reason: "too many fragments"}
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
	if err == nil && op == OpText && !utf8.Valid(message) {
		err = errNotUTF8
	}
	if err != nil {
		return err
	}
	return on(op, message)
}

var errNotUTF8 = &Error{Code: CloseInvalidData, Reason: "text is not valid UTF-8"}

// check looks at text as it comes, but for what is compressed. A rune may go on in
// the next fragment.
func (in *Inbound) check(fin bool) *Error {
	if in.op != OpText || in.packed {
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
