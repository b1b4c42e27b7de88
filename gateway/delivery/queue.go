package delivery

import (
	"runtime"
	"slices"
	"time"

	"eventstream/gateway/history"
	"eventstream/gateway/position"
	"eventstream/lane"
)

// queue adds an event for c, unless it has it: an event can be addressed to its
// own seat and to the one it resumed from.
func (w *worker) queue(c *conn, m *history.Event) {
	if c.state >= closing || c.last == m.ID || c.opening != nil && c.opening.end != nil {
		return
	}
	if c.resume != nil && m.ID.Offset < position.Of(c.resume.From, m.ID.Partition) || m.ID.Offset < position.Of(c.floor, m.ID.Partition) {
		return
	}
	c.last = m.ID
	if c.pending == nil {
		c.pending = c.one[:0]
	}
	c.pending = append(c.pending, m)
	c.pendingBytes += uint32(len(m.JSON))
	if int(c.pendingBytes) > w.cfg.MaxPending && len(c.pending) > 1 { // one large event is no sign of a slow client
		w.fallBehind(c)
		return
	}
	w.markDirty(c)
}

func (w *worker) markDirty(c *conn) {
	if !c.dirty {
		c.dirty = true
		w.dirty = append(w.dirty, c)
	}
}

// settle ends the following of old addresses: every event from here on is
// addressed to the seats announced up to at. A conn that has yet to send earlier
// ones goes on: its cursors, and what it is behind with, need the old address.
func (w *worker) settle(reader int, at lane.ControlID) {
	w.conns.each(func(c *conn) {
		r := c.resume
		if r == nil || c.reader.Index() != reader || c.state == joining || r.join.Compare(at) > 0 {
			return
		}
		if r.until == nil {
			r.until = w.positions(c)
		}
		if c.state == live && r.over(before(w.positions(c), c.pending)) {
			c.resume = nil
			c.reader.Unfollow(r.Old, c.seat)
		}
	})
}

// flushAll visits every connection that has something waiting, once. What came
// in meanwhile is for the next round.
func (w *worker) flushAll() {
	visit := w.dirty
	w.dirty, w.spare = w.spare[:0], nil
	writes := 0
	for i, c := range visit {
		visit[i] = nil
		c.dirty = false
		if writes%16 == 0 {
			w.now = time.Now()
		}
		writes += w.flush(c)
		if writes >= 64 { // keep others' latency flat, and let what came in share the next writes
			writes = 0
			runtime.Gosched()
			w.collect()
		}
	}
	w.spare = visit
}

// flush writes what waits for c, if its socket has room. It returns the number
// of writes.
func (w *worker) flush(c *conn) int {
	if c.state == gone || c.state == joining || c.sock.Stall() {
		return 0
	}
	if c.replayDone != nil {
		close(c.replayDone)
		c.replayDone = nil
	}
	if c.state == closing {
		c.hangUp()
	}
	if c.state != live || len(c.pending) == 0 {
		return 0
	}
	n := w.sendSome(c, c.pending, w.positions(c))
	sent, rest := c.pending[:n], c.pending[n:]
	oldest := sent[0].TimeMs
	for _, m := range sent {
		c.pendingBytes -= uint32(len(m.JSON))
		oldest = min(oldest, m.TimeMs)
	}
	if oldest > 0 { // some producers give no time
		w.counts.age(w.now.UnixMilli() - oldest)
	}
	if len(rest) == 0 {
		c.dropPending()
		return 1
	}
	c.pending = slices.Clone(rest)
	w.markDirty(c)
	return 1
}
