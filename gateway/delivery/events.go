package delivery

import (
	"eventstream/event"
	"eventstream/gateway/framing"
	"eventstream/gateway/history"
	"eventstream/gateway/uptime"
	"eventstream/wire"
)

// sendSome sends c the first of its messages, as many as one may hold, and returns how many.
// Once all are sent it has everything below at. A cursor comes with them if it is due. In a
// stream it stands at each message, as its id, unless that would be long. Of a client that has
// said nothing of sizes, an event that has no room stands alone.
func (w *writer) sendSome(c *conn, messages []*history.Event, at []int64) (n int) {
	n, room := len(messages), limit(c)-envelope
	fits := true
	if bytesOf(messages) > room-event.MaxCursorLen(len(at)) { // mostly there is room for any cursor
		n, fits = fit(messages, room-cursorRoom(c, at))
	}
	some, rest := messages[:n], messages[n:]
	if !fits && c.maxMessage > 0 && bytesOf(some) > room {
		w.tooLarge(c, some[0], w.cursor(c, before(at, rest)))
		return n
	}
	due, cursor := fits && w.cursorDue(c), "" // beside an event that just fits a cursor would not
	if due || c.framing == framing.EventStream && len(at) <= maxIDPartitions {
		cursor = w.cursor(c, before(at, rest))
	}
	w.sendEvents(c, some, cursor, due)
	if !due {
		w.owe(c)
	}
	return n
}

// limit is how large a message of several events to c may be.
func limit(c *conn) int {
	if c.maxMessage > 0 {
		return int(c.maxMessage)
	}
	return defaultMaxMessage
}

// maxIDPartitions is of how many partitions a cursor may be to be sent with every message: it
// has some 450 bytes then.
const maxIDPartitions = 64

// tooLarge tells c that it does not get an event, as it said that it can't take it.
func (w *writer) tooLarge(c *conn, m *history.Event, cursor string) {
	w.metrics.gaps.WithLabelValues(wire.GapTooLarge).Inc()
	missing := []wire.Missing{{Partition: m.ID.Partition, From: m.ID.Offset, To: m.ID.Offset + 1}}
	w.sendCursor(c, wire.AppendGap(nil, "", cursor, wire.GapTooLarge, missing), cursor)
	c.lastCursor = uptime.SecondsOf(w.now)
	c.owes = owesNothing
}

// sendEvents writes one frame of events. The cursor, if it is not "", is its id, and if told
// also in it.
func (w *writer) sendEvents(c *conn, messages []*history.Event, cursor string, told bool) {
	w.counts.sent.Add(int64(len(messages)))
	if c.framing == framing.Deflated && worthDeflating(messages) {
		frame, buf := w.deflater.seal(w.scratch[:framing.HeadRoom], messages, cursor)
		w.writeFrame(c, frame, buf)
		return
	}
	buf, inside := appendEvents(w.scratch[:framing.HeadRoom], c.framing, messages), ""
	if told {
		inside = cursor
	}
	w.seal(c, framing.OpText, appendEventsTail(buf, inside), cursor)
}
