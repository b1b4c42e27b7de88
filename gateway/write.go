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

// hello writes the answer to the handshake and the first message, at once, so
// that no answer to the client comes between. The cursor is from before
// anything that waits, so that a client which dies with it in hand loses
// nothing.
func (s *worker) hello(o *open) {
	c := o.conn
	from := c.opening.from
	if o.from != nil {
		from = o.from
	}
	cursor := s.cursor(c, from)
	resumed := o.from != nil && o.gap.reason == ""
	hello := wire.AppendHello(nil, c.subscriber, cursor, resumed, s.gw.cfg.heartbeatSeconds())
	c.opened.Store(true)
	id := cursor
	if o.gap.reason != "" {
		id = "" // who goes on from it would not be told of the gap
	}
	c.sock.Write(append(o.ask.Answer, c.framing.Message(hello, id)...))
	s.counts.frames.Add(1)
	if expires := c.expires.Load(); expires != 0 {
		s.send(c, framing.OpText, wire.AppendToken(nil, expires))
	}
	if o.gap.reason != "" {
		s.gap(c, o.gap, cursor)
	}
	s.lost(c, c.reader.Losses(), o.heardOf(from), cursor)
}

func (s *worker) gap(c *conn, g gap, to string) {
	s.gw.metrics.gaps.WithLabelValues(g.reason).Inc()
	s.sendCursor(c, wire.AppendGap(nil, g.cursor, to, g.reason, g.missing), to)
}

// cursorDue reports whether a busy connection may have a cursor: once a second.
func (s *worker) cursorDue(c *conn) bool {
	now := uptime.SecondsOf(s.now)
	if now <= c.lastCursor {
		return false
	}
	c.lastCursor = now
	return true
}

// flush writes what waits for c, if its socket has room. It returns the number
// of writes.
func (s *worker) flush(c *conn) int {
	if c.state == gone || c.state == joining || c.sock.Stall() {
		return 0
	}
	if c.replayDone != nil {
		close(c.replayDone)
		c.replayDone = nil
	}
	if c.state == closing {
		s.hangUp(c)
	}
	if c.state != live || len(c.pending) == 0 {
		return 0
	}
	n := s.sendSome(c, c.pending, s.positions(c))
	sent, rest := c.pending[:n], c.pending[n:]
	oldest := sent[0].TimeMs
	for _, m := range sent {
		c.pendingBytes -= uint32(len(m.JSON))
		oldest = min(oldest, m.TimeMs)
	}
	if oldest > 0 { // some producers give no time
		s.counts.age(s.now.UnixMilli() - oldest)
	}
	if len(rest) == 0 {
		c.dropPending()
		return 1
	}
	c.pending = slices.Clone(rest)
	s.markDirty(c)
	return 1
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

// sendEvents writes one frame of events. The cursor, if it is not "", is its id, and if told
// also in it.
func (s *worker) sendEvents(c *conn, messages []*history.Event, cursor string, told bool) {
	s.counts.sent.Add(int64(len(messages)))
	if c.framing == framing.Deflated && worthDeflating(messages) {
		s.sendDeflated(c, messages, cursor)
		return
	}
	buf, inside := appendEvents(s.scratch[:framing.HeadRoom], c.framing, messages), ""
	if told {
		inside = cursor
	}
	s.seal(c, framing.OpText, appendEventsTail(buf, inside), cursor)
}

// appendEvents appends an events message up to its last event.
func appendEvents(buf []byte, f framing.Kind, messages []*history.Event) []byte {
	buf = wire.AppendEventsHead(buf)
	for i, m := range messages {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = f.AppendJSON(buf, m.JSON)
	}
	return buf
}

func appendEventsTail(buf []byte, cursor string) []byte {
	if cursor == "" {
		return append(buf, wire.EventsTail...)
	}
	return wire.AppendEventsTail(buf, cursor)
}

// send writes one frame with the given payload.
func (s *worker) send(c *conn, op byte, payload []byte) {
	s.seal(c, op, append(s.scratch[:framing.HeadRoom], payload...), "")
}

// answer writes an answer to something that the client sent.
func (s *worker) answer(c *conn, payload []byte) {
	if c.mayAnswer(len(payload)) {
		s.send(c, framing.OpText, payload)
	}
}

// sendCursor writes a message from after which the client can resume with cursor.
func (s *worker) sendCursor(c *conn, payload []byte, cursor string) {
	s.seal(c, framing.OpText, append(s.scratch[:framing.HeadRoom], payload...), cursor)
}

func (s *worker) seal(c *conn, op byte, buf []byte, cursor string) {
	frame, buf := c.framing.Seal(buf, op, cursor)
	s.writeFrame(c, frame, buf)
}

// writeFrame writes a frame that stands in buf, and keeps buf for the next one.
func (s *worker) writeFrame(c *conn, frame, buf []byte) {
	c.sock.Write(frame)
	s.counts.frames.Add(1)
	if cap(buf) <= 1<<20 { // a huge event's buffer is not kept
		s.scratch = buf
	}
}

// cursor returns c's cursor for the given positions. Before c's floor events are
// addressed to nobody, so that it names no address until it is there. Our lanes
// may be behind the floor even then.
func (s *worker) cursor(c *conn, next []int64) string {
	cur := event.Cursor{
		Topic: s.gw.topic.Load().ID, Issued: time.Now(),
		Addr: event.Address{Gateway: s.gw.id, Seat: c.seat}, Next: next,
	}
	if position.Below(next, c.floor) >= 0 {
		if c.reached {
			cur.Next = position.Highest(next, c.floor)
		} else {
			cur.Addr = event.Address{}
		}
	} else if c.floor != nil && c.reached && position.Below(s.positions(c), c.floor) < 0 {
		c.floor = nil
	}
	if r := c.resume; r != nil {
		cur.Next = position.Highest(cur.Next, r.from)
		if !r.over(cur.Next) {
			cur.Old = r.old
		}
	}
	return cur.String()
}

// beat sends what a quiet connection is due.
func (s *worker) beat(c *conn, now, beat int64) {
	if c.state == live && len(c.pending) == 0 && now-c.lastCursor >= beat {
		s.cursorTo(c, now)
	}
	if now-c.lastPing >= beat {
		s.send(c, framing.OpPing, nil)
		c.lastPing = now
	}
}

func (s *worker) cursorTo(c *conn, now int64) {
	cursor := s.cursor(c, s.positions(c))
	s.sendCursor(c, wire.AppendCursor(nil, cursor), cursor)
	c.lastCursor = now
}
