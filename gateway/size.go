package gateway

import (
	"slices"
	"time"

	"eventstream/event"
	"eventstream/gateway/framing"
	"eventstream/gateway/history"
	"eventstream/gateway/position"
	"eventstream/gateway/uptime"
	"eventstream/wire"
)

// A client takes messages up to some size, and fails with one that is larger; then it
// resumes, and gets the same message again, for ever. 32 KiB is what coder/websocket takes
// when nobody has said anything else; others begin at 64 KiB.
const (
	defaultMaxMessage = 32 << 10
)

// envelope is what an events message has beside its events and a cursor, and the name of
// the field in which a stream has it.
const envelope = len(`{"type":"events","events":[],"cursor":""}`) + len(framing.DataField)

// cursorRoom bounds the bytes of a cursor of c's that is not beyond at.
func (s *worker) cursorRoom(c *conn, at []int64) int {
	at = position.Highest(at, c.floor)
	if c.resume != nil {
		at = position.Highest(at, c.resume.from)
	}
	return event.CursorLen(at)
}

// bytesOf returns how many bytes messages are in one, with the commas between them.
func bytesOf(messages []*history.Event) (n int) {
	for _, m := range messages {
		n += len(m.JSON) + 1
	}
	return n - 1
}

// fit returns how many of the messages go into one with that much room, one at least, and
// whether they do.
func fit(messages []*history.Event, room int) (n int, fits bool) {
	used := -1
	for i, m := range messages {
		if used += len(m.JSON) + 1; i > 0 && used > room {
			return i, used-len(m.JSON)-1 <= room
		}
	}
	return len(messages), used <= room
}

// limit is how large a message of several events to c may be.
func (c *conn) limit() int {
	if c.maxMessage > 0 {
		return int(c.maxMessage)
	}
	return defaultMaxMessage
}

// sendSome sends c the first of its messages, as many as one may hold, and returns how many.
// Once all are sent it has everything below at. A cursor comes with them if it is due. In a
// stream it stands at each message, as its id, unless that would be long. Of a client that has
// said nothing of sizes, an event that has no room stands alone.
func (s *worker) sendSome(c *conn, messages []*history.Event, at []int64) (n int) {
	n, room := len(messages), c.limit()-envelope
	fits := true
	if bytesOf(messages) > room-event.MaxCursorLen(len(at)) { // mostly there is room for any cursor
		n, fits = fit(messages, room-s.cursorRoom(c, at))
	}
	some, rest := messages[:n], messages[n:]
	if !fits && c.maxMessage > 0 && bytesOf(some) > room {
		s.tooLarge(c, some[0], s.cursor(c, before(at, rest)))
		return n
	}
	due, cursor := fits && s.cursorDue(c), "" // beside an event that just fits a cursor would not
	if due || c.framing == framing.EventStream && len(at) <= maxIDPartitions {
		cursor = s.cursor(c, before(at, rest))
	}
	s.sendEvents(c, some, cursor, due)
	if !due {
		s.owe(c)
	}
	return n
}

// maxIDPartitions is of how many partitions a cursor may be to be sent with every message: it
// has some 450 bytes then.
const maxIDPartitions = 64

// tooLarge tells c that it does not get an event, as it said that it can't take it.
func (s *worker) tooLarge(c *conn, m *history.Event, cursor string) {
	s.gw.metrics.gaps.WithLabelValues(wire.GapTooLarge).Inc()
	missing := []wire.Missing{{Partition: m.ID.Partition, From: m.ID.Offset, To: m.ID.Offset + 1}}
	s.sendCursor(c, wire.AppendGap(nil, "", cursor, wire.GapTooLarge, missing), cursor)
	c.lastCursor = uptime.SecondsOf(s.now)
	c.owes = owesNothing
}

// cursorsEvery is how often is looked for them: a cursor follows the last events by a
// second at most.
const cursorsEvery = 450 * time.Millisecond

// owe notes that events went to c without a cursor.
func (s *worker) owe(c *conn) {
	if c.owes == owesNothing {
		s.owing = append(s.owing, c)
	}
	c.owes = owesNewly
}

// settleCursors gives a cursor to those that have got no events between two looks.
func (s *worker) settleCursors() {
	s.owing = slices.DeleteFunc(s.owing, func(c *conn) bool {
		switch {
		case c.state != live && c.state != replaying || c.owes == owesNothing:
			c.owes = owesNothing
			return true
		case c.owes == owesNewly || c.state == replaying || len(c.pending) > 0 || c.sock.Unsent() > 0:
			c.owes = owesQuietly
			return false
		}
		c.owes = owesNothing
		s.cursorTo(c, uptime.Seconds())
		return true
	})
}
