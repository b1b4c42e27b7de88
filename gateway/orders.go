package gateway

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"eventstream/event"
	"eventstream/gateway/admission"
	"eventstream/gateway/delivery"
	"eventstream/gateway/uptime"
	"eventstream/internal/trouble"
	"eventstream/lane"
	"eventstream/wire"
)

// orders does what the API wants of this gateway.
type orders struct {
	id       event.Gateway
	lanes    Lanes
	revoked  *admission.Revocations // nil if there are no tokens
	delivery *delivery.Delivery
	metrics  *metrics
	log      *slog.Logger
}

// run follows orders until ctx ends.
func (o *orders) run(ctx context.Context) error {
	following := trouble.New(o.log, "orders of the API can't be followed; retrying", "orders of the API can be followed again")
	for ctx.Err() == nil {
		works := time.AfterFunc(followsAfter, following.Worked)
		err := o.lanes.FollowOrders(ctx, o.id, func(task lane.Order) lane.Answer { return o.obey(ctx, task) })
		works.Stop()
		if err == nil {
			continue
		}
		o.metrics.redisFailures.Inc()
		following.Failed(err)
		uptime.Sleep(ctx, retryEvery)
	}
	return nil
}

// followsAfter is after how long the store has answered, or the call has failed.
const followsAfter = 10 * time.Second

// obey carries out an order.
func (o *orders) obey(ctx context.Context, order lane.Order) lane.Answer {
	if order.Task == lane.TaskRevoke && order.Revocation != nil && o.revoked != nil {
		o.revoked.Learn(ctx, *order.Revocation)
		return lane.Answer{}
	}
	if order.Task != lane.TaskList && order.Task != lane.TaskClose {
		return lane.Answer{}
	}
	now := time.Now()
	var mu sync.Mutex // several workers look, and may go on after ctx
	var a lane.Answer
	o.delivery.Visit(ctx, func(v delivery.Visited) {
		if order.Subscriber != v.Subscriber() && (order.Address == nil || order.Address.Seat != v.Seat()) {
			return
		}
		if order.Task == lane.TaskClose {
			o.metrics.disconnected.Inc()
			v.Close(wire.CloseNotAllowed, "an operator ended the connection")
		} else if !v.Open() {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if a.Total++; a.Total <= lane.MaxAnswer {
			a.Connections = append(a.Connections, v.Describe(now))
		}
	})
	mu.Lock()
	defer mu.Unlock()
	a.Connections = slices.Clone(a.Connections)
	return a
}
