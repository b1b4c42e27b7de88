package gateway

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"eventstream/event"
	"eventstream/gateway/framing"
	"eventstream/gateway/history"
	"eventstream/gateway/position"
	"eventstream/gateway/uptime"
	"eventstream/internal/watchdog"
	"eventstream/lane"
	"eventstream/wire"
)

// worker serves the connections whose seats fall to it. One goroutine owns all of
// their state and writes all of their events; others leave posts in its mailbox.
//
// The worker clocks itself: it visits each connection that has something
// waiting and writes all of it as one frame. What comes in meanwhile waits for
// the next visit, so load raises the events in a write and not the writes.
type worker struct {
	gw    *Gateway
	pulse *watchdog.Part // of run

	mu      sync.Mutex
	room    sync.Cond // signalled when the worker has taken the mail
	mail    mailbox
	stopped bool
	ready   chan struct{} // there is mail; capacity 1

	// worker
	conns   table
	next    [][]int64 // positions, by reader: every event below has been queued for its recipients
	dirty   []*conn   // have something waiting
	owing   []*conn   // have got events without a cursor
	spare   []*conn   // memory for the next dirty
	work    mailbox   // being applied
	scratch []byte
	now     time.Time // of a few writes: to ask costs as much as half of the work for one

	counts counts

	deflater deflater
}

// newWorker returns one of so many workers.
func newWorker(gw *Gateway, of int) *worker {
	s := &worker{gw: gw, conns: table{workers: event.Seat(of)}, ready: make(chan struct{}, 1), scratch: make([]byte, framing.HeadRoom)}
	s.room.L = &s.mu
	return s
}

// run is the worker. It ends when ctx does.
func (s *worker) run(ctx context.Context) error {
	sweep, cursors := time.NewTicker(time.Second), time.NewTicker(cursorsEvery)
	defer sweep.Stop()
	defer cursors.Stop()
	for {
		s.pulse.Beat()
		select {
		case <-ctx.Done():
			s.stop()
			return nil
		case <-s.ready:
			s.collect()
			s.flushAll()
			if len(s.dirty) > 0 {
				s.wake() // go on, but let the others of this select have their turn
			}
		case <-cursors.C:
			s.settleCursors()
		case now := <-sweep.C:
			s.sweep(uptime.SecondsOf(now), now.Unix())
		}
	}
}

// stop lets go of those who wait for room.
func (s *worker) stop() {
	s.mu.Lock()
	s.stopped = true
	s.room.Broadcast()
	s.mu.Unlock()
}

func (s *worker) apply(p *post) {
	for i := range p.Deliveries {
		d := &p.Deliveries[i]
		for _, seat := range d.Seats {
			if c := s.conns.get(seat); c != nil {
				s.queue(c, d.Event)
			}
		}
	}
	if p.Next != nil {
		s.next[p.Reader] = p.Next
	}
	if p.Settled != (lane.ControlID{}) {
		s.settle(p.Reader, p.Settled)
	}
	if p.command != nil {
		p.command.apply(s)
	}
}

// positions returns how far the lanes of c's events have been queued.
func (s *worker) positions(c *conn) []int64 { return s.next[c.reader.Index()] }

// goLive ends the replay, unless c has fallen behind meanwhile.
func (s *worker) goLive(c *conn) {
	s.endReplay(c)
	if c.state == replaying {
		s.lostMeanwhile(c)
	}
	c.state, c.reached = live, true
	if position.Below(s.positions(c), c.floor) < 0 {
		c.floor = nil
	}
	if c.behind != nil {
		s.catchUp(c)
		return
	}
	s.markDirty(c)
}

// queue adds an event for c, unless it has it: an event can be addressed to its
// own seat and to the one it resumed from.
func (s *worker) queue(c *conn, m *history.Event) {
	if c.state >= closing || c.last == m.ID || c.opening != nil && c.opening.end != nil {
		return
	}
	if c.resume != nil && m.ID.Offset < position.Of(c.resume.from, m.ID.Partition) || m.ID.Offset < position.Of(c.floor, m.ID.Partition) {
		return
	}
	c.last = m.ID
	if c.pending == nil {
		c.pending = c.one[:0]
	}
	c.pending = append(c.pending, m)
	c.pendingBytes += uint32(len(m.JSON))
	if int(c.pendingBytes) > s.gw.cfg.MaxPending && len(c.pending) > 1 { // one large event is no sign of a slow client
		s.fallBehind(c)
		return
	}
	s.markDirty(c)
}

func (s *worker) markDirty(c *conn) {
	if !c.dirty {
		c.dirty = true
		s.dirty = append(s.dirty, c)
	}
}

// raise has what is live begin at the floor: what waits from below comes from the
// replay, or is not wanted.
func (s *worker) raise(c *conn, floor []int64) {
	if floor == nil {
		return
	}
	c.floor = floor
	c.pending = slices.DeleteFunc(c.pending, func(m *history.Event) bool {
		below := m.ID.Offset < position.Of(floor, m.ID.Partition)
		if below {
			c.pendingBytes -= uint32(len(m.JSON))
		}
		return below
	})
	if c.behind != nil {
		for i := range c.behind.spans {
			sp := &c.behind.spans[i]
			sp.From = max(sp.From, position.Of(floor, sp.Partition))
		}
	}
}

// settle ends the following of old addresses: every event from here on is
// addressed to the seats announced up to at. A conn that has yet to send earlier
// ones goes on: its cursors, and what it is behind with, need the old address.
func (s *worker) settle(reader int, at lane.ControlID) {
	s.conns.each(func(c *conn) {
		r := c.resume
		if r == nil || c.reader.Index() != reader || c.state == joining || r.join.Compare(at) > 0 {
			return
		}
		if r.until == nil {
			r.until = s.positions(c)
		}
		if c.state == live && r.over(before(s.positions(c), c.pending)) {
			c.resume = nil
			c.reader.Unfollow(r.old, c.seat)
		}
	})
}

// flushAll visits every connection that has something waiting, once. What came
// in meanwhile is for the next round.
func (s *worker) flushAll() {
	visit := s.dirty
	s.dirty, s.spare = s.spare[:0], nil
	writes := 0
	for i, c := range visit {
		visit[i] = nil
		c.dirty = false
		if writes%16 == 0 {
			s.now = time.Now()
		}
		writes += s.flush(c)
		if writes >= 64 { // keep others' latency flat, and let what came in share the next writes
			writes = 0
			runtime.Gosched()
			s.collect()
		}
	}
	s.spare = visit
}

// close says goodbye to c; the sweeper cuts it off if it does not answer. A conn
// that has yet to say hello does that first.
func (s *worker) close(c *conn, code int, reason string) {
	if c.state >= closing {
		return
	}
	c.dropPending()
	c.behind = nil
	if c.state == joining {
		c.opening.end = &ending{code, reason}
		return
	}
	c.state = closing
	s.endReplay(c)
	c.closeBy = uptime.Seconds() + 5
	c.sock.Write(c.framing.Close(code, reason))
	s.hangUp(c)
}

// sweep looks after connections once a second: a cursor for those that are
// quiet, an end for those that are dead. now is uptime, wall Unix time, in seconds:
// only the ends of tokens go by wall.
func (s *worker) sweep(now, wall int64) {
	beat := int64(s.gw.cfg.heartbeatSeconds())
	s.conns.each(func(c *conn) {
		if c.framing == framing.EventStream && c.sock.Unsent() == 0 {
			c.heard.Store(now) // it says nothing; that it takes what it is sent, the kernel watches: see tune
		}
		switch {
		case c.state == joining:
		case c.state == closing:
			if now > c.closeBy {
				c.sock.Close()
			}
		case c.expired(wall):
			s.gw.metrics.expired.Inc()
			s.close(c, wire.CloseExpired, "the token has expired; connect with a new one")
		case now-c.heard.Load() > s.gw.cfg.deadSeconds():
			s.gw.metrics.dead.Inc()
			s.gw.log.Debug("closing a connection from which nothing is heard", "conn", c.seat, "subscriber", c.subscriber, "for", time.Duration(now-c.heard.Load())*time.Second)
			c.sock.Close()
		case c.sock.Unsent() > 0:
			c.sock.Stall() // so that what it takes shows that it is alive
		default:
			s.beat(c, now, beat)
		}
	})
}

func (s *worker) remove(c *conn) {
	if c.state != joining {
		s.gw.metrics.count(c.framing, -1)
	}
	c.state = gone
	c.dropPending()
	c.opening, c.behind = nil, nil
	s.conns.set(c.seat, nil)
	s.endReplay(c)
	if c.resume != nil {
		c.reader.Unfollow(c.resume.old, c.seat)
	}
	s.gw.presence.Left(c.seat, time.Now())
	s.gw.acks.Gone(c)
	s.gw.countOut(c) // now, so that who comes in its place finds its seat free
}

func (s *worker) endReplay(c *conn) {
	if c.replayDone != nil {
		close(c.replayDone)
		c.replayDone = nil
	}
	if c.stopReplay != nil {
		c.stopReplay()
		c.stopReplay = nil
	}
}
