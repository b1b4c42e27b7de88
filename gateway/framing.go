package gateway

import "eventstream/wire"

// framing is how a connection's messages stand in its bytes. It is chosen at the
// handshake and never changes.
type framing uint8

const (
	webSocket   framing = iota // RFC 6455
	deflated                   // the same with permessage-deflate, RFC 7692
	eventStream                // server-sent events: a client says nothing, and doesn't answer a close
)

// end appends what a message has after its payload. cursor is that of the
// message, or "".
func (f framing) end(buf []byte, op byte, cursor string) []byte {
	if f == eventStream {
		return appendEventEnd(buf, op, cursor)
	}
	return buf
}

// seal makes a message of buf, which is headRoom free bytes, a payload, and its
// end. It returns the part of buf that is the message.
func (f framing) seal(buf []byte, op byte) []byte {
	if f == eventStream {
		return sealEvent(buf, op)
	}
	return sealFrame(buf, op)
}

// appendJSON appends an event's JSON to a payload.
func (f framing) appendJSON(buf, json []byte) []byte {
	if f == eventStream {
		return appendLine(buf, json)
	}
	return append(buf, json...)
}

// message returns a text message with a copy of payload.
func (f framing) message(payload []byte, cursor string) []byte {
	buf := append(make([]byte, headRoom, headRoom+len(payload)+len(cursor)+32), payload...)
	return f.seal(f.end(buf, opText, cursor), opText)
}

// close returns the last message, which says why it is.
func (f framing) close(code int, reason string) []byte {
	if f == eventStream {
		return f.message(wire.AppendClose(nil, code, reason), "")
	}
	return closeFrame(code, reason)
}
