package gateway

import (
	"context"

	"eventstream/gateway/history"
	"eventstream/wire"
)

// recipient is a connection that is sent what it missed. Meanwhile its live events wait.
type recipient struct {
	conn   *conn
	cursor string // of the client that resumes; "" if it has none
	slow   bool   // it fell behind
}

// startReplay lets r run until it is done or ctx ends, unless the gateway is stopping:
// then the connection is closed soon.
func (g *Gateway) startReplay(ctx context.Context, to *recipient, r *history.Replay) {
	g.admitMu.Lock()
	defer g.admitMu.Unlock()
	if g.phase == phaseOver {
		return
	}
	c := to.conn
	r.Client, r.Lanes, r.Subscriber, r.Topic = to, c.reader.Past(), c.subscriber, g.topic.Load().ID
	g.resuming.Go(func() {
		err := g.player.Play(ctx, r)
		if err == nil {
			g.recoveries.Worked()
			c.worker.tell(caughtUp{c})
			return
		}
		if ctx.Err() == nil {
			g.recoveries.Failed(err, "seat", c.seat)
		}
		c.worker.tell(aborted{c})
	})
}

// Send is for history.Client.
func (r *recipient) Send(ctx context.Context, events []*history.Event, at []int64) error {
	done := make(chan struct{})
	r.conn.worker.tell(&replayed{r.conn, events, at, done})
	select {
	case <-done:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Lost is for history.Client. A client that was too slow for the events has to come back
// to be told.
func (r *recipient) Lost(reason string, m wire.Missing, before, after []int64) {
	c := r.conn
	if r.slow {
		c.worker.gw.metrics.tooSlow.Inc()
		c.worker.tell(&end{conn: c, at: before, ending: ending{wire.CloseTooSlow, "too slow: what waits is past retention"}})
		return
	}
	c.worker.tell(&gapped{c, gap{reason, []wire.Missing{m}, r.cursor}, after})
}
