package delivery

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

// cursor returns c's cursor for the given positions. Before c's floor events are
// addressed to nobody, so that it names no address until it is there. Our lanes
// may be behind the floor even then.
func (w *writer) cursor(c *conn, next []int64) string {
	cur := event.Cursor{
		Topic: w.topic, Issued: time.Now(),
		Addr: event.Address{Gateway: w.cfg.Gateway, Seat: c.seat}, Next: next,
	}
	if position.Below(next, c.floor) >= 0 {
		if c.reached {
			cur.Next = position.Highest(next, c.floor)
		} else {
			cur.Addr = event.Address{}
		}
	} else if c.floor != nil && c.reached && position.Below(w.positions(c), c.floor) < 0 {
		c.floor = nil
	}
	if r := c.resume; r != nil {
		cur.Next = position.Highest(cur.Next, r.From)
		if !r.over(cur.Next) {
			cur.Old = r.Old
		}
	}
	return cur.String()
}

// cursorRoom bounds the bytes of a cursor of c's that is not beyond at.
func cursorRoom(c *conn, at []int64) int {
	at = position.Highest(at, c.floor)
	if c.resume != nil {
		at = position.Highest(at, c.resume.From)
	}
	return event.CursorLen(at)
}

// before lowers positions so far that they are below all the messages.
func before(next []int64, messages []*history.Event) []int64 {
	if len(messages) == 0 {
		return next
	}
	next = slices.Clone(next)
	for _, m := range messages { // of partitions that are in next, since their messages come with it
		next[m.ID.Partition] = min(next[m.ID.Partition], m.ID.Offset)
	}
	return next
}

// cursorDue reports whether a busy connection may have a cursor: once a second.
func (w *writer) cursorDue(c *conn) bool {
	now := uptime.SecondsOf(w.now)
	if now <= c.lastCursor {
		return false
	}
	c.lastCursor = now
	return true
}

// beat sends what a quiet connection is due.
func (w *writer) beat(c *conn, now int64) {
	if c.state == live && len(c.pending) == 0 && now-c.lastCursor >= w.cfg.Heartbeat {
		w.cursorTo(c, now)
	}
	if now-c.lastPing >= w.cfg.Heartbeat {
		w.send(c, framing.OpPing, nil)
		c.lastPing = now
	}
}

func (w *writer) cursorTo(c *conn, now int64) {
	cursor := w.cursor(c, w.positions(c))
	w.sendCursor(c, wire.AppendCursor(nil, cursor), cursor)
	c.lastCursor = now
}

// cursorsEvery is how often is looked for them: a cursor follows the last events by a
// second at most.
const cursorsEvery = 450 * time.Millisecond

// owe notes that events went to c without a cursor.
func (w *writer) owe(c *conn) {
	if c.owes == owesNothing {
		w.owing = append(w.owing, c)
	}
	c.owes = owesNewly
}

// settleCursors gives a cursor to those that have got no events between two looks.
func (w *writer) settleCursors() {
	w.owing = slices.DeleteFunc(w.owing, func(c *conn) bool {
		switch {
		case c.state != live && c.state != replaying || c.owes == owesNothing:
			c.owes = owesNothing
			return true
		case c.owes == owesNewly || c.state == replaying || len(c.pending) > 0 || c.sock.Unsent() > 0:
			c.owes = owesQuietly
			return false
		}
		c.owes = owesNothing
		w.cursorTo(c, uptime.Seconds())
		return true
	})
}
