package gateway

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"eventstream/event"
	"eventstream/lane"
	"eventstream/wire"
)

// shard serves the connections whose seats fall to it. One worker owns all of
// their state and writes all of their events; others leave posts in its mailbox.
//
// The worker clocks itself: it visits each connection that has something
// waiting and writes all of it as one frame. What comes in meanwhile waits for
// the next visit, so load raises the events in a write and not the writes.
type shard struct {
	gw *Gateway

	mu      sync.Mutex
	room    sync.Cond // signalled when the worker has taken the mail
	mail    mailbox
	stopped bool
	ready   chan struct{} // there is mail; capacity 1

	// worker
	conns   table
	next    []int64 // positions: every event below has been queued for its recipients
	dirty   []*conn // have something waiting
	spare   []*conn // memory for the next dirty
	work    mailbox // being applied
	scratch []byte
}

// mailbox is what waits for the worker.
type mailbox struct {
	posts   []post
	size    int     // bytes in posts: events, and a pointer's worth for each recipient
	drained []*conn // sockets that have sent all that was queued
}

// maxMail bounds the bytes of events that wait for a shard's worker; then the
// lane reader waits. The worker waits for nobody.
const maxMail = 16 << 20

// post is one thing for the worker to do.
type post struct {
	deliveries []delivery
	next       []int64        // positions after deliveries; nil if unchanged
	settled    lane.ControlID // addresses announced up to here are in use everywhere; zero if nothing new

	conn  *conn
	what  verb
	join  lane.ControlID // verbOpen: where its seat was announced
	ask   ask            // verbOpen, verbGap
	http  []byte         // verbOpen: answer to the handshake
	from  []int64        // verbOpen, verbGap: where a resumed connection goes on; verbReplay: after batch
	gap   string         // verbOpen, verbGap: why the cursor can't be resumed in full; "" if it can
	batch []*message     // verbReplay
	done  chan struct{}  // verbReplay: closed when the batch has left, or never will

	ending      // verbEnd, verbCloseAll
	bye    bool // verbEnd: the client has closed already
}

// delivery is an event and the seats of this shard that it is for.
type delivery struct {
	msg   *message
	seats []event.Seat
}

type verb uint8

const (
	verbNone     verb = iota
	verbJoin          // conn exists, events for it wait
	verbOpen          // its socket is open: say hello
	verbReplay        // earlier events, before the live ones
	verbLive          // no more earlier events
	verbGap           // some of the earlier events are gone
	verbAbort         // the replay failed: it has to reconnect
	verbEnd           // it is to be closed
	verbClosed        // its socket is closed
	verbCloseAll      // every connection is to be closed
)

func newShard(gw *Gateway) *shard {
	s := &shard{gw: gw, ready: make(chan struct{}, 1), scratch: make([]byte, headRoom)}
	s.room.L = &s.mu
	return s
}

// post leaves p in the mailbox. Deliveries wait while it is full.
func (s *shard) post(p post) {
	s.mu.Lock()
	for len(p.deliveries) > 0 && s.mail.size > maxMail && !s.stopped {
		s.room.Wait()
	}
	s.mail.posts = append(s.mail.posts, p)
	for i := range p.deliveries {
		s.mail.size += len(p.deliveries[i].msg.json) + 8*len(p.deliveries[i].seats)
	}
	s.mu.Unlock()
	s.wake()
}

// drained tells that c's socket has sent all that was queued.
func (s *shard) drained(c *conn) {
	s.mu.Lock()
	s.mail.drained = append(s.mail.drained, c)
	s.mu.Unlock()
	s.wake()
}

func (s *shard) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// run is the worker. It ends when ctx does.
func (s *shard) run(ctx context.Context) error {
	sweep := time.NewTicker(time.Second)
	defer sweep.Stop()
	for {
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
		case now := <-sweep.C:
			s.sweep(now.Unix())
		}
	}
}

// stop lets go of those who wait for room.
func (s *shard) stop() {
	s.mu.Lock()
	s.stopped = true
	s.room.Broadcast()
	s.mu.Unlock()
}

// collect applies all mail.
func (s *shard) collect() {
	s.mu.Lock()
	s.work, s.mail = s.mail, mailbox{posts: s.work.posts[:0], drained: s.work.drained[:0]}
	s.room.Broadcast()
	s.mu.Unlock()
	for i := range s.work.posts {
		s.apply(&s.work.posts[i])
	}
	clear(s.work.posts)
	for _, c := range s.work.drained {
		s.markDirty(c)
	}
	clear(s.work.drained)
}

func (s *shard) apply(p *post) {
	for i := range p.deliveries {
		d := &p.deliveries[i]
		for _, seat := range d.seats {
			if c := s.conns.get(seat); c != nil {
				s.queue(c, d.msg)
			}
		}
	}
	if p.next != nil {
		s.next = p.next
	}
	if p.settled != (lane.ControlID{}) {
		s.settle(p.settled)
	}
	if p.conn != nil {
		s.applyTo(p.conn, p)
	}
	if p.what == verbCloseAll {
		s.dismiss(p.code, p.reason)
	}
}

// reconnectRate is how many clients a second may come back after all were sent
// away at once.
const reconnectRate = 5000

// dismiss closes all connections and asks each client to wait a while of its
// own before it comes back.
func (s *shard) dismiss(code int, reason string) {
	spread := time.Duration(s.gw.open.Load())*time.Second/reconnectRate + 1
	s.conns.each(func(c *conn) {
		s.close(c, code, reason+" in "+rand.N(spread).Round(time.Millisecond).String())
	})
}

func (s *shard) applyTo(c *conn, p *post) {
	switch {
	case p.what == verbJoin:
		s.conns.set(c.seat, c)
		c.opening = &opening{from: s.next}
	case c.state == gone:
		if p.done != nil {
			close(p.done)
		}
	case p.what == verbOpen:
		s.open(c, p)
	case p.what == verbReplay:
		s.replay(c, p)
	case p.what == verbLive && c.state == replaying:
		c.state = live
		s.markDirty(c)
	case p.what == verbGap && c.state == replaying:
		s.gap(c, p.ask.text, s.cursor(c, p.from), p.gap)
	case p.what == verbAbort:
		s.close(c, wire.CloseDrain, "what was missed can't be read now; reconnect")
	case p.what == verbEnd:
		s.close(c, p.code, p.reason)
		if p.bye {
			c.sock.Close()
		}
	case p.what == verbClosed:
		s.remove(c)
	}
}

// queue adds an event for c, unless it has it: an event can be addressed to its
// own seat and to the one it resumed from.
func (s *shard) queue(c *conn, m *message) {
	if c.state >= closing || c.last == m.id || c.opening != nil && c.opening.end != nil {
		return
	}
	if c.resume != nil && m.id.Offset < c.resume.from[m.id.Partition] {
		return
	}
	c.last = m.id
	c.pending = append(c.pending, m)
	c.pendingBytes += len(m.json)
	if c.pendingBytes > s.gw.cfg.MaxPending {
		s.gw.metrics.tooSlow.Inc()
		s.close(c, wire.CloseTooSlow, "too slow: reconnect with your last cursor")
		return
	}
	s.markDirty(c)
}

func (s *shard) markDirty(c *conn) {
	if !c.dirty {
		c.dirty = true
		s.dirty = append(s.dirty, c)
	}
}

// open answers the handshake and says hello. A conn that resumed a cursor
// replays before it goes live.
func (s *shard) open(c *conn, p *post) {
	c.state = live
	if c.resume != nil {
		c.resume.join = p.join
		c.state = replaying
	}
	s.hello(c, p)
	s.gw.metrics.active.Inc()
	c.lastPing = time.Now().Unix()
	end := c.opening.end
	c.opening = nil
	if end != nil {
		s.close(c, end.code, end.reason)
		return
	}
	s.markDirty(c)
}

// hello writes the answer to the handshake and the first message, at once, so
// that no answer to the client comes between. The cursor is from before
// anything that waits, so that a client which dies with it in hand loses
// nothing.
func (s *shard) hello(c *conn, p *post) {
	cursor := s.cursor(c, c.opening.from)
	if c.resume != nil {
		cursor = s.cursor(c, p.from)
	}
	resumed := p.ask.cursor != nil && p.gap == ""
	hello := wire.AppendHello(nil, c.subscriber, cursor, resumed, s.gw.heartbeatSeconds())
	c.opened.Store(true)
	c.write(append(p.http, newFrame(opText, hello)...))
	s.gw.metrics.frames.Inc()
	if p.gap != "" {
		s.gap(c, p.ask.text, cursor, p.gap)
	}
}

func (s *shard) gap(c *conn, from, to, reason string) {
	s.gw.metrics.gaps.WithLabelValues(reason).Inc()
	s.send(c, opText, wire.AppendGap(nil, from, to, reason))
}

// replay writes earlier events and tells the resumer when they have left.
func (s *shard) replay(c *conn, p *post) {
	for rest := p.batch; len(rest) > 0 && c.state == replaying; {
		n := fit(rest)
		cursor := ""
		if n == len(rest) && s.cursorDue(c) {
			cursor = s.cursor(c, p.from)
		}
		s.sendEvents(c, rest[:n], cursor)
		rest = rest[n:]
	}
	if c.state != replaying || !c.stall() {
		close(p.done)
		return
	}
	c.replayDone = p.done
}

// cursorDue reports whether a busy connection may have a cursor: once a second.
func (s *shard) cursorDue(c *conn) bool {
	now := time.Now().Unix()
	if now <= c.lastCursor {
		return false
	}
	c.lastCursor = now
	return true
}

// settle ends the following of old addresses: every event from here on is
// addressed to the seats announced up to at.
func (s *shard) settle(at lane.ControlID) {
	s.conns.each(func(c *conn) {
		r := c.resume
		if r == nil || c.state != live || r.join == (lane.ControlID{}) || r.join.Compare(at) > 0 {
			return
		}
		for p, from := range r.from {
			if s.next[p] < from {
				return
			}
		}
		c.resume = nil
		s.gw.reader.unfollow(r.old, c.seat)
	})
}

// flushAll visits every connection that has something waiting, once. What came
// in meanwhile is for the next round.
func (s *shard) flushAll() {
	visit := s.dirty
	s.dirty, s.spare = s.spare[:0], nil
	writes := 0
	for i, c := range visit {
		visit[i] = nil
		c.dirty = false
		writes += s.flush(c)
		if writes >= 64 { // keep others' latency flat, and let what came in share the next writes
			writes = 0
			runtime.Gosched()
			s.collect()
		}
	}
	s.spare = visit
}

// flush writes what waits for c, if its socket has room. It returns the number
// of writes.
func (s *shard) flush(c *conn) int {
	if c.state == gone || c.state == joining || c.stall() {
		return 0
	}
	if c.replayDone != nil {
		close(c.replayDone)
		c.replayDone = nil
	}
	if c.state != live || len(c.pending) == 0 {
		return 0
	}
	n := fit(c.pending)
	sent, rest := c.pending[:n], c.pending[n:]
	cursor := ""
	if s.cursorDue(c) {
		cursor = s.cursor(c, before(s.next, rest))
	}
	s.sendEvents(c, sent, cursor)
	for _, m := range sent {
		c.pendingBytes -= len(m.json)
	}
	if len(rest) == 0 {
		c.pending = nil // an idle connection keeps no buffer
		return 1
	}
	c.pending = slices.Clone(rest)
	s.markDirty(c)
	return 1
}

// before lowers positions so far that they are below all the messages.
func before(next []int64, messages []*message) []int64 {
	if len(messages) == 0 {
		return next
	}
	next = slices.Clone(next)
	for _, m := range messages {
		next[m.id.Partition] = min(next[m.id.Partition], m.id.Offset)
	}
	return next
}

// maxGather bounds the events of one frame, in bytes; one event may exceed it.
const maxGather = 64 << 10

// fit returns how many of the messages go into one frame.
func fit(messages []*message) int {
	size := 0
	for i, m := range messages {
		size += len(m.json) + 1
		if i > 0 && size > maxGather {
			return i
		}
	}
	return len(messages)
}

// sendEvents writes one frame of events, with a cursor unless it is "".
func (s *shard) sendEvents(c *conn, messages []*message, cursor string) {
	buf := wire.AppendEventsHead(s.scratch[:headRoom])
	for i, m := range messages {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, m.json...)
	}
	if cursor != "" {
		buf = wire.AppendEventsTail(buf, cursor)
	} else {
		buf = append(buf, wire.EventsTail...)
	}
	s.gw.metrics.sent.Add(float64(len(messages)))
	s.seal(c, opText, buf)
}

// send writes one frame with the given payload.
func (s *shard) send(c *conn, op byte, payload []byte) {
	s.seal(c, op, append(s.scratch[:headRoom], payload...))
}

func (s *shard) seal(c *conn, op byte, buf []byte) {
	c.write(sealFrame(buf, op))
	s.gw.metrics.frames.Inc()
	if cap(buf) <= 1<<20 { // a huge event's buffer is not kept
		s.scratch = buf
	}
}

// cursor returns c's cursor for the given positions.
func (s *shard) cursor(c *conn, next []int64) string {
	cur := event.Cursor{
		Topic: s.gw.topic.Load().ID, Issued: time.Now(),
		Addr: event.Address{Gateway: s.gw.id, Seat: c.seat}, Next: next,
	}
	if r := c.resume; r != nil {
		cur.Old = r.old
		cur.Next = slices.Clone(next)
		for p := range cur.Next {
			cur.Next[p] = max(cur.Next[p], r.from[p])
		}
	}
	return cur.String()
}

// close says goodbye to c; the sweeper cuts it off if it does not answer. A conn
// that has yet to say hello does that first.
func (s *shard) close(c *conn, code int, reason string) {
	if c.state >= closing {
		return
	}
	c.pending, c.pendingBytes = nil, 0
	if c.state == joining {
		c.opening.end = &ending{code, reason}
		return
	}
	c.state = closing
	s.endReplay(c)
	c.closeBy = time.Now().Unix() + 5
	c.write(closeFrame(code, reason))
}

// sweep looks after connections once a second: a cursor for those that are
// quiet, an end for those that are dead.
func (s *shard) sweep(now int64) {
	beat := int64(s.gw.heartbeatSeconds())
	s.conns.each(func(c *conn) {
		switch {
		case c.state == joining:
		case c.state == closing:
			if now > c.closeBy {
				c.sock.Close()
			}
		case now-c.heard.Load() > 2*beat+beat/2:
			s.gw.metrics.dead.Inc()
			c.sock.Close()
		case c.unsent.Load() > 0:
			c.stall() // so that what it takes shows that it is alive
		default:
			s.beat(c, now, beat)
		}
	})
}

// beat sends what a quiet connection is due.
func (s *shard) beat(c *conn, now, beat int64) {
	if c.state == live && len(c.pending) == 0 && now-c.lastCursor >= beat {
		s.send(c, opText, wire.AppendCursor(nil, s.cursor(c, s.next)))
		c.lastCursor = now
	}
	if now-c.lastPing >= beat {
		s.send(c, opPing, nil)
		c.lastPing = now
	}
}

func (s *shard) remove(c *conn) {
	if c.state != joining {
		s.gw.metrics.active.Dec()
	}
	c.state = gone
	s.gw.open.Add(-1)
	c.pending, c.opening = nil, nil
	s.conns.set(c.seat, nil)
	s.endReplay(c)
	if c.resume != nil {
		s.gw.reader.unfollow(c.resume.old, c.seat)
	}
	s.gw.presence.left(c.seat)
}

func (s *shard) endReplay(c *conn) {
	if c.replayDone != nil {
		close(c.replayDone)
		c.replayDone = nil
	}
	if c.resume != nil && c.resume.stop != nil {
		c.resume.stop()
	}
}
