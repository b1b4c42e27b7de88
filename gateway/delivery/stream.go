package delivery

import (
	"time"

	"eventstream/gateway/framing"
)

// Server-sent events, for clients behind proxies that break WebSockets: the same
// messages in the stream format of the HTML standard, section 9.2.
//
//	data: {"type":"events","events":[…],"cursor":"…"}
//	event: events
//	id: <cursor>
//
// When an EventSource comes back it sends the last id that it saw. So each message with
// events has one, a cursor, also where there is none in it (if the topic has at most
// maxIDPartitions), and a hello that a gap follows has none. It comes back by itself after the end of a stream, but never after
// an answer other than 200.

// hint asks a stream's client to wait so long before it comes back. The message which
// follows has to be the last.
func (c *conn) hint(wait time.Duration) {
	if c.framing == framing.EventStream && (c.state == replaying || c.state == live) {
		c.sock.Write(framing.AppendRetry(nil, wait))
	}
}

// hangUp ends a stream, after its last message, when that has gone: a client does
// not answer it.
func (c *conn) hangUp() {
	if c.framing == framing.EventStream && !c.sock.Stall() {
		c.sock.Close()
	}
}
