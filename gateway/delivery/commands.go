package delivery

import (
	"math/rand/v2"
	"time"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/gateway/uptime"
	"eventstream/wire"
)

// added: a connection exists, and events for it wait.
type added struct{ conn *conn }

func (a added) apply(w *worker) {
	w.conns.set(a.conn.seat, a.conn)
	a.conn.opening = &opening{from: w.positions(a.conn)}
}

// open: a connection's socket is open. The handshake is answered, with hello.
type open struct {
	conn *conn
	Opening
}

// apply answers the handshake and says hello. A connection that resumed a cursor
// replays before it goes live.
func (o *open) apply(w *worker) {
	c := o.conn
	if c.state == gone {
		return
	}
	c.state = live
	if c.resume != nil {
		c.resume.join = o.Announced
	}
	if o.From != nil {
		c.state = replaying
	}
	c.reached = o.From == nil // what is below the floor is not sent then
	c.raise(o.Floor)
	w.hello(c, &o.Opening)
	w.metrics.count(c.framing, 1)
	c.lastPing = uptime.Seconds()
	c.since = uint32(c.lastPing)
	end := c.opening.end
	c.opening = nil
	if end != nil {
		w.close(c, end.code, end.reason)
		return
	}
	if w.expel(c) { // it was revoked during the handshake
		return
	}
	if c.state == live {
		w.goLive(c)
	}
}

// answered: something that the client sent has an answer.
type answered struct {
	conn *conn
	text []byte
}

func (a answered) apply(w *worker) {
	if a.conn.state < closing {
		w.answer(a.conn, a.text)
	}
}

// renewed: the client has a new token, in the place of the one before.
type renewed struct {
	conn   *conn
	claims auth.Claims
}

func (r *renewed) apply(w *worker) {
	c := r.conn
	if c.state >= closing {
		return
	}
	c.pass = r.claims.Pass()
	c.expires.Store(r.claims.Expires.Unix())
	w.answer(c, wire.AppendToken(nil, r.claims.Expires.Unix()))
	w.expel(c) // it may have been revoked while it was on its way here
}

// end: a connection is to be closed.
type end struct {
	conn *conn
	ending
	at  []int64 // for its last cursor; nil if it needs none
	bye bool    // the client has closed already
}

func (e *end) apply(w *worker) {
	c := e.conn
	if c.state == gone {
		return
	}
	if e.at != nil && c.state < closing {
		cursor := w.cursor(c, e.at)
		w.sendCursor(c, wire.AppendCursor(nil, cursor), cursor)
	}
	w.close(c, e.code, e.reason)
	if e.bye {
		c.sock.Close()
	}
}

// dismissed: of so many connections one is to be closed, up to a seat.
type dismissed struct {
	of   int
	upTo event.Seat
	ending
}

// reconnectRate is how many clients a second may come back when they were sent
// away together.
const reconnectRate = 5000

// apply asks each client to wait a while of its own before it comes back, so that those
// who go together don't come together.
func (d *dismissed) apply(w *worker) {
	stays := func(c *conn) bool { return c.leaving() || c.seat > d.upTo }
	left := 0
	w.conns.each(func(c *conn) {
		if !stays(c) {
			left++
		}
	})
	left = (left + d.of - 1) / d.of
	spread := time.Duration(left*int(w.conns.workers))*time.Second/reconnectRate + 1
	w.conns.each(func(c *conn) {
		if left == 0 || stays(c) {
			return
		}
		left--
		wait := rand.N(spread).Round(time.Millisecond)
		c.hint(time.Second + wait) // it may be that no other gateway is there yet
		w.close(c, d.code, d.reason+" in "+wait.String())
	})
}

// visit: each connection is to be looked at.
type visit struct {
	each func(*worker, *conn)
	done chan struct{} // closed then
}

func (v visit) apply(w *worker) {
	w.conns.each(func(c *conn) { v.each(w, c) })
	close(v.done)
}

// topicChanged: another topic is read, by so many readers.
type topicChanged struct {
	topic   event.TopicID
	readers int
}

func (t topicChanged) apply(w *worker) { w.topic, w.next = t.topic, make([][]int64, t.readers) }
