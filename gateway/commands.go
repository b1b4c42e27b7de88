package gateway

import (
	"eventstream/auth"
	"eventstream/event"
	"eventstream/gateway/admission"
	"eventstream/gateway/history"
	"eventstream/gateway/uptime"
	"eventstream/lane"
	"eventstream/wire"
)

// command is one thing for the worker to do, beside deliveries.
type command interface {
	apply(s *worker)
}

// added: a connection exists, and events for it wait.
type added struct{ conn *conn }

func (a added) apply(s *worker) {
	s.conns.set(a.conn.seat, a.conn)
	a.conn.opening = &opening{from: s.positions(a.conn)}
}

// open: a connection's socket is open. The handshake is answered, with hello.
type open struct {
	conn  *conn
	join  lane.ControlID // where its seat was announced
	from  []int64        // where a resumed connection goes on
	floor []int64        // what is live begins here; nil if with its seat
	ask   admission.Ask
	gap   gap
}

// gap is why a cursor can't be resumed in full.
type gap struct {
	reason  string // "" if it can
	missing []wire.Missing
	cursor  string // of the client, as it came; "" if it has none
}

// apply answers the handshake and says hello. A connection that resumed a cursor
// replays before it goes live.
func (o *open) apply(s *worker) {
	c := o.conn
	if c.state == gone {
		return
	}
	c.state = live
	if c.resume != nil {
		c.resume.join = o.join
	}
	if o.from != nil {
		c.state = replaying
	}
	c.reached = o.from == nil // what is below the floor is not sent then
	s.raise(c, o.floor)
	s.hello(o)
	s.gw.metrics.count(c.framing, 1)
	c.lastPing = uptime.Seconds()
	c.since = uint32(c.lastPing)
	end := c.opening.end
	c.opening = nil
	if end != nil {
		s.close(c, end.code, end.reason)
		return
	}
	if s.expel(c) { // it was revoked during the handshake
		return
	}
	if c.state == live {
		s.goLive(c)
	}
}

// replayed: earlier events, before the live ones.
type replayed struct {
	conn  *conn
	batch []*history.Event
	at    []int64       // positions after batch
	done  chan struct{} // closed when the batch has left, or never will
}

// apply writes the events, and closes done when they have left.
func (r *replayed) apply(s *worker) {
	c := r.conn
	for rest := r.batch; len(rest) > 0 && c.state == replaying; {
		rest = rest[s.sendSome(c, rest, r.at):]
	}
	if c.state != replaying || !c.sock.Stall() {
		close(r.done)
		return
	}
	c.replayDone = r.done
}

// caughtUp: there are no more earlier events.
type caughtUp struct{ conn *conn }

func (l caughtUp) apply(s *worker) {
	if l.conn.state == replaying {
		s.goLive(l.conn)
	}
}

// gapped: some of the earlier events are gone.
type gapped struct {
	conn *conn
	gap  gap
	at   []int64 // where it goes on
}

func (g *gapped) apply(s *worker) {
	if g.conn.state == replaying {
		s.gap(g.conn, g.gap, s.cursor(g.conn, g.at))
	}
}

// answered: something that the client sent has an answer.
type answered struct {
	conn *conn
	text []byte
}

func (a answered) apply(s *worker) {
	if a.conn.state < closing {
		s.answer(a.conn, a.text)
	}
}

// renewed: the client has a new token, in the place of the one before.
type renewed struct {
	conn   *conn
	claims auth.Claims
}

func (r *renewed) apply(s *worker) {
	c := r.conn
	if c.state >= closing {
		return
	}
	c.pass = r.claims.Pass()
	c.expires.Store(r.claims.Expires.Unix())
	s.answer(c, wire.AppendToken(nil, r.claims.Expires.Unix()))
	s.expel(c) // it may have been revoked while it was on its way here
}

// expel closes c if its token was revoked.
func (s *worker) expel(c *conn) bool {
	if c.state == joining || c.state >= closing || s.gw.cfg.Tokens == nil || !s.gw.revoked.Has(c.subscriber, c.pass) {
		return false
	}
	s.gw.metrics.expelled.Inc()
	s.close(c, wire.CloseNotAllowed, "the token was revoked")
	return true
}

// aborted: a replay failed. The client has to reconnect.
type aborted struct{ conn *conn }

func (a aborted) apply(s *worker) {
	if a.conn.state != gone {
		s.close(a.conn, wire.CloseDrain, "what was missed can't be read now; reconnect")
	}
}

// end: a connection is to be closed.
type end struct {
	conn *conn
	ending
	at  []int64 // for its last cursor; nil if it needs none
	bye bool    // the client has closed already
}

func (e *end) apply(s *worker) {
	c := e.conn
	if c.state == gone {
		return
	}
	if e.at != nil && c.state < closing {
		cursor := s.cursor(c, e.at)
		s.sendCursor(c, wire.AppendCursor(nil, cursor), cursor)
	}
	s.close(c, e.code, e.reason)
	if e.bye {
		c.sock.Close()
	}
}

// closed: a connection's socket is closed.
type closed struct{ conn *conn }

func (cl closed) apply(s *worker) {
	if cl.conn.state != gone {
		s.remove(cl.conn)
	}
}

// dismissed: of so many connections one is to be closed, up to a seat.
type dismissed struct {
	of   int
	upTo event.Seat
	ending
}

func (d *dismissed) apply(s *worker) { s.dismiss(d.of, d.upTo, d.ending) }

// visit: each connection is to be looked at.
type visit struct {
	each func(*worker, *conn)
	done chan struct{} // closed then
}

func (v visit) apply(s *worker) {
	s.conns.each(func(c *conn) { v.each(s, c) })
	close(v.done)
}

// topicChanged: another topic is read, by so many readers.
type topicChanged struct{ readers int }

func (t topicChanged) apply(s *worker) { s.next = make([][]int64, t.readers) }
