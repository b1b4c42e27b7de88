package gateway

import (
	"context"
	"slices"
	"sync"
	"time"

	"eventstream/gateway/uptime"
	"eventstream/internal/trouble"
	"eventstream/lane"
	"eventstream/wire"
)

// followOrders does what the API wants of this gateway, until ctx ends.
func (g *Gateway) followOrders(ctx context.Context) error {
	following := trouble.New(g.log, "orders of the API can't be followed; retrying", "orders of the API can be followed again")
	for ctx.Err() == nil {
		works := time.AfterFunc(followsAfter, following.Worked)
		err := g.lanes.FollowOrders(ctx, g.id, func(o lane.Order) lane.Answer { return g.obey(ctx, o) })
		works.Stop()
		if err == nil {
			continue
		}
		g.metrics.redisFailures.Inc()
		following.Failed(err)
		uptime.Sleep(ctx, retryEvery)
	}
	return nil
}

// followsAfter is after how long the store has answered, or the call has failed.
const followsAfter = 10 * time.Second

// obey carries out an order.
func (g *Gateway) obey(ctx context.Context, o lane.Order) lane.Answer {
	if o.Task == lane.TaskRevoke && o.Revocation != nil && g.cfg.Tokens != nil {
		g.revoked.Learn(ctx, *o.Revocation)
		return lane.Answer{}
	}
	if o.Task != lane.TaskList && o.Task != lane.TaskClose {
		return lane.Answer{}
	}
	now := time.Now()
	var mu sync.Mutex // several workers look, and may go on after ctx
	var a lane.Answer
	g.visit(ctx, func(s *worker, c *conn) {
		if c.state >= closing || o.Subscriber != c.subscriber && (o.Address == nil || o.Address.Seat != c.seat) {
			return
		}
		if o.Task == lane.TaskClose {
			g.metrics.disconnected.Inc()
			s.close(c, wire.CloseNotAllowed, "an operator ended the connection")
		} else if c.state == joining {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if a.Total++; a.Total <= lane.MaxAnswer {
			a.Connections = append(a.Connections, lane.Connection{
				Seat: c.seat, Subscriber: c.subscriber,
				Opened: uptime.Unix(int64(c.since), now), Heard: uptime.Unix(c.heard.Load(), now), Expires: c.expires.Load(),
			})
		}
	})
	mu.Lock()
	defer mu.Unlock()
	a.Connections = slices.Clone(a.Connections)
	return a
}

// expelAll closes the connections whose tokens were revoked. Those that are not open yet
// look by themselves when they are.
func (g *Gateway) expelAll(ctx context.Context) {
	g.visit(ctx, func(s *worker, c *conn) { s.expel(c) })
}

// visit has the workers call f with every connection, and waits for that.
func (g *Gateway) visit(ctx context.Context, f func(*worker, *conn)) {
	var all []chan struct{}
	for _, s := range g.workers {
		done := make(chan struct{})
		all = append(all, done)
		s.tell(visit{f, done})
	}
	for _, done := range all {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
}
