// Package framing turns messages into a connection's bytes and back: WebSocket
// frames (RFC 6455), compressed ones (RFC 7692), and server-sent events. It does
// no I/O and knows no connection.
package framing

import "eventstream/wire"

// Kind is how a connection's messages stand in its bytes. It is chosen at the
// handshake and never changes.
type Kind uint8

const (
	WebSocket   Kind = iota // RFC 6455
	Deflated                // the same with permessage-deflate, RFC 7692
	EventStream             // server-sent events: a client says nothing, and doesn't answer a close
)

// Seal makes a message of buf, which is HeadRoom free bytes and a payload. cursor
// is that of the message, or "". It returns the part of buf that is the message, and
// buf, which may have grown.
func (k Kind) Seal(buf []byte, op byte, cursor string) (message, grown []byte) {
	if k == EventStream {
		buf = appendEventEnd(buf, op, cursor)
		return sealEvent(buf, op), buf
	}
	return sealFrame(buf, op), buf
}

// AppendJSON appends an event's JSON to a payload.
func (k Kind) AppendJSON(buf, json []byte) []byte {
	if k == EventStream {
		return appendLine(buf, json)
	}
	return append(buf, json...)
}

// Message returns a text message with a copy of payload.
func (k Kind) Message(payload []byte, cursor string) []byte {
	buf := append(make([]byte, HeadRoom, HeadRoom+len(payload)+len(cursor)+32), payload...)
	message, _ := k.Seal(buf, OpText, cursor)
	return message
}

// Close returns the last message, which says why it is.
func (k Kind) Close(code int, reason string) []byte {
	if k == EventStream {
		return k.Message(wire.AppendClose(nil, code, reason), "")
	}
	return newClose(code, reason)
}
