package delivery

import (
	"time"

	"eventstream/gateway/framing"
	"eventstream/gateway/position"
	"eventstream/gateway/uptime"
	"eventstream/wire"
)

// goLive ends the replay, unless c has fallen behind meanwhile.
func (w *worker) goLive(c *conn) {
	c.endReplay()
	if c.state == replaying {
		w.lostMeanwhile(c)
	}
	c.state, c.reached = live, true
	if position.Below(w.positions(c), c.floor) < 0 {
		c.floor = nil
	}
	if c.behind != nil {
		w.catchUp(c)
		return
	}
	w.markDirty(c)
}

// expel closes c if its token was revoked.
func (w *worker) expel(c *conn) bool {
	if c.state == joining || c.state >= closing || w.cfg.Revoked == nil || !w.cfg.Revoked(c.subscriber, c.pass) {
		return false
	}
	w.metrics.expelled.Inc()
	w.close(c, wire.CloseNotAllowed, "the token was revoked")
	return true
}

// close says goodbye to c; the sweeper cuts it off if it does not answer. A conn
// that has yet to say hello does that first.
func (w *worker) close(c *conn, code int, reason string) {
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
	c.endReplay()
	c.closeBy = uptime.Seconds() + 5
	c.sock.Write(c.framing.Close(code, reason))
	c.hangUp()
}

// sweep looks after connections once a second: a cursor for those that are
// quiet, an end for those that are dead. now is uptime, wall Unix time, in seconds:
// only the ends of tokens go by wall.
func (w *worker) sweep(now, wall int64) {
	w.conns.each(func(c *conn) {
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
			w.metrics.expired.Inc()
			w.close(c, wire.CloseExpired, "the token has expired; connect with a new one")
		case now-c.heard.Load() > w.cfg.DeadAfter:
			w.metrics.dead.Inc()
			w.log.Debug("closing a connection from which nothing is heard", "conn", c.seat, "subscriber", c.subscriber, "for", time.Duration(now-c.heard.Load())*time.Second)
			c.sock.Close()
		case c.sock.Unsent() > 0:
			c.sock.Stall() // so that what it takes shows that it is alive
		default:
			w.beat(c, now)
		}
	})
}

// remove forgets c, whose socket is closed.
func (w *worker) remove(c *conn) {
	if c.state != joining {
		w.metrics.count(c.framing, -1)
	}
	c.state = gone
	c.dropPending()
	c.opening, c.behind = nil, nil
	w.conns.set(c.seat, nil)
	c.endReplay()
	if c.resume != nil {
		c.reader.Unfollow(c.resume.Old, c.seat)
	}
}
