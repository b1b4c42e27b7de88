package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"eventstream/event"
	"eventstream/gateway/admission"
	"eventstream/gateway/delivery"
	"eventstream/gateway/framing"
	"eventstream/gateway/framing/framingtest"
	"eventstream/gateway/position"
	"eventstream/gateway/socket"
	"eventstream/wire"
)

// modelSocket takes frames. Between it and the client is a network that a death
// of the socket takes frames from.
type modelSocket struct {
	mu     sync.Mutex
	c      *delivery.Client
	ours   bool      // c's worker was told of the end
	closed bool      // no frame goes in any more
	end    time.Time // of it
	stuck  bool      // no frame leaves
	queued [][]byte  // in the gateway
	way    [][]byte  // on the way to the client
}

func (s *modelSocket) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return -1, net.ErrClosed
	}
	if len(b) == 0 {
		return 0, nil
	}
	s.queued = append(s.queued, slices.Clone(b))
	if !s.stuck {
		s.leaveLocked(len(s.queued))
	}
	return len(b), nil
}

// leaveLocked lets the first frames leave the gateway.
func (s *modelSocket) leaveLocked(n int) {
	size := 0
	for _, f := range s.queued[:n] {
		size += len(f)
	}
	s.way = append(s.way, s.queued[:n]...)
	s.queued = slices.Delete(s.queued, 0, n)
	socket.Written(s.c, size)
}

func (s *modelSocket) Close() error {
	s.mu.Lock()
	told := s.ours
	if !s.closed {
		s.end = time.Now()
	}
	s.closed, s.ours = true, true
	c := s.c
	s.mu.Unlock()
	if !told && c != nil {
		c.Closed()
	}
	return nil
}

// stick lets frames pass no more, or again.
func (s *modelSocket) stick(stuck bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuck = stuck
	if !stuck && s.c != nil && !s.closed {
		s.leaveLocked(len(s.queued))
	}
}

// sip lets some frames pass.
func (s *modelSocket) sip(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c != nil && !s.closed {
		s.leaveLocked(min(n, len(s.queued)))
	}
}

// arrived takes up to n frames off the network.
func (s *modelSocket) arrived(n int) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(n, len(s.way))
	out := slices.Clone(s.way[:n])
	s.way = slices.Delete(s.way, 0, n)
	return out
}

func (s *modelSocket) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// known is a cursor that a client holds. Every event below it that is at or above
// base, the client has or was told to be gone.
type known struct {
	text string
	cur  *event.Cursor // with what was seen since
	seen string        // that, as it is said; "" if it is not
	base []int64       // how far the topic was when the client's first hello came
}

// modelClient connects again and again. Cursors are shared by all clients of a
// subscriber: they may be resumed twice.
type modelClient struct {
	name       string
	subscriber string
	last       *known  // nil before the first
	since      []int64 // what came since that
	conn       *modelConn
}

// saying is the client's last cursor, and what it has got since.
func (cl *modelClient) saying(m *model) *known {
	if cl.last == nil || cl.since == nil {
		return cl.last
	}
	k := *cl.last
	var err error
	if k.cur, err = k.cur.Since(cl.since); err != nil {
		m.fail("%s of %s: %v", cl.name, cl.subscriber, err)
	}
	k.seen = string(event.AppendSeen(nil, cl.since))
	return &k
}

// modelConn is one connection, as its client sees it.
type modelConn struct {
	m        *model
	client   *modelClient
	gw       *modelGateway
	sock     *modelSocket
	from     *known // that it resumes
	began    time.Time
	joined   atomic.Bool // the goroutine that connects is done
	refused  error
	noted    bool // its seat is in the model's list
	seat     *seatRecord
	over     bool // for the client
	greeted  bool
	resumed  bool
	trimmed  []int64 // below, neither lanes nor ring held anything when it began
	last     *known
	base     []int64
	got      map[event.ID]bool
	latest   []int64 // offset of the last event, by partition
	checked  []int64 // below, everything is there
	gaps     []wire.Missing
	promised bool // a gap has to come now
}

// trimmedFor returns below which offsets a gateway has nothing left. Its ring may hold
// what the lanes do not, and let go of it after hello.
func (m *model) trimmedFor(gw *modelGateway) []int64 {
	trimmed := slices.Clone(m.gone)
	r := gw.topics.laneReaders()[0]
	known := len(r.Positions())
	for p := range trimmed {
		if p >= known {
			trimmed[p] = 0 // taken up in a moment, maybe
		} else {
			trimmed[p] = min(trimmed[p], r.Past().InMemory(int32(p)))
		}
	}
	return trimmed
}

// seatRecord is what became of an address since its last connection began.
type seatRecord struct {
	gw     *modelGateway
	joined time.Time
	ended  time.Time // zero: not yet
}

// connect lets a client connect. What the handshake does in a goroutine of its
// own, it does here.
func (m *model) connect(cl *modelClient, gw *modelGateway, from *known) {
	if refused := gw.gate.enter("", "", gw.unready); refused != nil {
		m.trace("  refused: %s", refused.Detail)
		return
	}
	a := admission.Ask{Subscriber: cl.subscriber}
	if from != nil {
		a.Text = from.text
		a.Cursor, _ = event.ParseCursor(from.text)
		a.Issued = a.Cursor
		if from.seen != "" {
			var err error
			if a.Seen, a.Cursor, err = admission.Saw(a.Cursor, from.seen); err != nil {
				m.fail("%s of %s: %v", cl.name, cl.subscriber, err)
			}
		}
	}
	c := &modelConn{m: m, client: cl, gw: gw, from: from, sock: &modelSocket{}, began: time.Now(), trimmed: m.trimmedFor(gw), got: make(map[event.ID]bool)}
	cl.conn = c
	m.conns = append(m.conns, c)
	go func() {
		defer gw.gate.admitted.Done()
		ctx, cancel := context.WithTimeout(context.Background(), gw.cfg.timeout)
		defer cancel()
		e, err := gw.joins.join(ctx, a)
		if err != nil {
			c.refused = err
		} else if c.sock.isClosed() {
			e.client.Closed()
			c.refused = net.ErrClosed
		} else {
			c.sock.mu.Lock()
			c.sock.c = e.client
			e.client.Socket().Attach(c.sock)
			c.sock.mu.Unlock()
			gw.joins.welcome(e)
		}
		c.joined.Store(true)
	}()
}

// settle looks how a handshake went. It is called when nothing moves.
func (c *modelConn) settle() {
	if !c.joined.Load() || c.noted {
		return
	}
	c.noted = true
	if c.refused != nil {
		c.m.trace("  %s could not join: %v", c.client.name, c.refused)
		if errors.Is(c.refused, event.ErrSeen) {
			c.fail("refused, and it was sent what it has seen: %v", c.refused)
		}
		c.lose()
		return
	}
	c.seat = &seatRecord{gw: c.gw, joined: c.began}
	c.m.seats[event.Address{Gateway: c.gw.id, Seat: c.sock.c.Seat()}] = c.seat
}

// lose is the end of a connection for its client.
func (c *modelConn) lose() {
	c.over = true
	if c.client.conn == c {
		c.client.conn = nil
	}
}

// end breaks the connection. Of what is on the way, so many frames arrive yet.
func (c *modelConn) end(arrive int) {
	c.sock.Close()
	if c.noted && c.refused == nil {
		c.read(arrive)
		c.endSeat()
	}
	c.lose()
}

func (c *modelConn) endSeat() {
	if c.seat != nil && c.seat.ended.IsZero() {
		c.seat.ended = c.sock.end
	}
}

// read takes up to n frames.
func (c *modelConn) read(n int) {
	if c.over || !c.noted {
		return
	}
	for _, f := range c.sock.arrived(n) {
		op, payload := framingtest.ServerFrame(c.m.t, f)
		switch op {
		case framing.OpText:
			var m wire.Message
			if err := json.Unmarshal(payload, &m); err != nil {
				c.fail("message %.100q: %v", payload, err)
			}
			c.message(&m)
		case framing.OpClose:
			c.closed(int(payload[0])<<8|int(payload[1]), string(payload[2:]))
			return
		}
		if !c.sock.isClosed() {
			c.sock.c.Moved() // as if pings were answered
		}
	}
	if n > 0 && c.sock.isClosed() && len(c.sock.arrived(0)) == 0 && c.drained() {
		c.m.trace("  %s was cut off", c.client.name)
		c.endSeat()
		c.lose()
	}
}

func (c *modelConn) drained() bool {
	c.sock.mu.Lock()
	defer c.sock.mu.Unlock()
	return len(c.sock.way) == 0
}

func (c *modelConn) closed(code int, reason string) {
	c.m.trace("  %s is sent away: %d %s", c.client.name, code, reason)
	switch code {
	case wire.CloseDrain:
	case wire.CloseTooSlow:
		if !c.tooSlow() {
			c.fail("closed as too slow, and nothing was trimmed that it had yet to get: %s", reason)
		}
	default:
		c.fail("closed with %d %s", code, reason)
	}
	c.sock.Close()
	c.endSeat()
	c.lose()
}

func (c *modelConn) tooSlow() bool {
	return position.Below(c.last.cur.Next, c.m.trimmed) >= 0
}

func (c *modelConn) fail(format string, args ...any) {
	c.m.fail(c.client.name+" of "+c.client.subscriber+": "+format, args...)
}

func (c *modelConn) message(m *wire.Message) {
	if c.m.tells {
		c.m.trace("  %s gets %s", c.client.name, brief(m))
	}
	if !c.greeted {
		c.hello(m)
		return
	}
	if c.promised != (m.Type == wire.Gap) && c.promised {
		c.fail("hello said not resumed, and no gap follows but %s", m.Type)
	}
	c.promised = false
	switch m.Type {
	case wire.Events:
		for _, e := range m.Events {
			c.event(&e)
		}
	case wire.Gap:
		c.gap(m)
	case wire.Cursor:
	default:
		c.fail("unexpected message %s", m.Type)
	}
	if m.Cursor != "" {
		c.cursor(m.Cursor)
	}
}

func (c *modelConn) hello(m *wire.Message) {
	if m.Type != wire.Hello || m.SubscriberID != c.client.subscriber {
		c.fail("first message: %+v, want hello", m)
		return
	}
	c.greeted, c.resumed, c.promised = true, m.Resumed, c.from != nil && !m.Resumed
	c.latest = slices.Repeat([]int64{-1}, mostPartitions)
	c.base = c.m.ends() // a partition that comes later is due from its start
	if c.from != nil {
		c.base = c.from.base
	}
	c.checked = position.Extend(c.base, mostPartitions)
	if c.from != nil {
		c.checked = position.Highest(c.checked, c.from.cur.Next)
	} else if m.Resumed {
		c.fail("hello says resumed to who had no cursor")
	}
	c.cursor(m.Cursor)
}

func (c *modelConn) event(e *wire.Event) {
	id, err := event.ParseID(e.ID)
	if err != nil {
		c.fail("event: %v", err)
		return
	}
	if int(id.Partition) >= len(c.m.kafka) {
		c.fail("event %s is of a partition that there is not", id)
		return
	}
	switch r := c.m.kafka[id.Partition]; {
	case id.Offset >= int64(len(r)):
		c.fail("event %s was never produced", id)
		return
	case !slices.Contains(r[id.Offset].to, c.client.subscriber):
		c.fail("event %s is for %v", id, r[id.Offset].to)
	case string(e.Data) != string(r[id.Offset].data):
		c.fail("event %s is %s, was %s", id, e.Data, r[id.Offset].data)
	case c.got[id]:
		c.fail("event %s came twice over one connection", id)
	case id.Offset < c.latest[id.Partition]:
		c.fail("event %s came after offset %d", id, c.latest[id.Partition])
	case c.from != nil && id.Offset < position.Of(c.from.cur.Next, id.Partition):
		c.fail("event %s is below %v, which it has by its cursor, or has seen: %q", id, c.from.cur.Next, c.from.seen)
	}
	c.complete(int(id.Partition), id.Offset) // who says that it has seen this has all before
	c.got[id] = true
	c.m.received++
	c.latest[id.Partition] = id.Offset
	if c.last == c.client.last {
		c.client.since = position.Extend(c.client.since, int(id.Partition)+1)
		c.client.since[id.Partition] = id.Offset + 1
	}
}

// cursor notes a cursor. What is below it has to be there.
func (c *modelConn) cursor(text string) {
	cur, err := event.ParseCursor(text)
	if err != nil {
		c.fail("cursor: %v", err)
		return
	}
	if c.last != nil && position.Below(cur.Next, c.last.cur.Next) >= 0 {
		c.fail("cursor goes back from %v to %v", c.last.cur.Next, cur.Next)
	}
	for p, next := range cur.Next {
		if next > int64(len(c.m.kafka[p])) {
			c.fail("cursor %v is beyond the end %v", cur.Next, c.m.ends())
			return
		}
		if c.promised { // and the first missing of what the gap will tell
			continue
		}
		c.complete(p, next)
	}
	c.last = &known{text: text, cur: cur, base: c.base}
	if !c.promised {
		c.client.last, c.client.since = c.last, nil
		c.m.note(c.client.subscriber, c.last)
	}
}

// complete checks that nothing is missing below an offset.
func (c *modelConn) complete(p int, next int64) {
	for ; c.checked[p] < next; c.checked[p]++ {
		if o := c.checked[p]; c.missing(p, o) {
			c.fail("lost event %d-%d, below the cursor or the end; resumed from %s", p, o, c.from)
		}
	}
}

func (c *modelConn) missing(p int, o int64) bool {
	return slices.Contains(c.m.kafka[p][o].to, c.client.subscriber) && !c.got[event.ID{Partition: int32(p), Offset: o}] &&
		!slices.ContainsFunc(c.gaps, func(g wire.Missing) bool { return g.Partition == int32(p) && g.From <= o && o < g.To })
}

// done reports whether the client has everything that was produced.
func (c *modelConn) done() bool {
	if !c.greeted || c.promised {
		return false
	}
	for p := range c.m.kafka {
		for o := c.checked[p]; o < int64(len(c.m.kafka[p])); o++ {
			if c.missing(p, o) {
				return false
			}
		}
	}
	return true
}

func (c *modelConn) gap(m *wire.Message) {
	c.gaps = append(c.gaps, m.Missing...)
	switch m.Reason {
	case wire.GapTrimmed:
		for _, g := range m.Missing {
			if g.To > c.m.trimmed[g.Partition] {
				c.fail("told of a gap %+v, and only what is below %v was trimmed", g, c.m.trimmed)
			}
			if c.resumed && g.To <= position.Of(c.trimmed, g.Partition) {
				c.fail("told of a gap %+v after hello said resumed, and it was there already then: below %v was trimmed", g, c.trimmed)
			}
		}
	case wire.GapUnknownAddress:
		if c.from == nil {
			c.fail("told of a gap without a cursor")
			return
		}
		if !c.m.forgettable(c.from.cur) {
			c.fail("told of a gap as its address is unknown, and nothing was done to make it forgotten; resumed from %s", c.from)
		}
	default:
		c.fail("told of a gap with reason %s", m.Reason)
	}
	c.cursor(m.To)
}
