package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"eventstream/gateway/admission"
	"eventstream/gateway/delivery"
	"eventstream/gateway/uptime"
)

// gate counts the connections, and lets clients in until the gateway stops.
type gate struct {
	most        int // open connections
	connections *admission.Connections
	log         *slog.Logger
	open        atomic.Int64 // connections, joining ones included
	moving      atomic.Bool  // to another topic, or other shards: nobody is let in

	mu       sync.Mutex
	phase    phase
	admitted sync.WaitGroup // handshakes under way
}

// phase is how far a gateway is on its way out. It only grows.
type phase uint8

const (
	phaseServing  phase = iota
	phaseLeaving        // not ready, but whoever comes is let in: balancers have yet to notice
	phaseEmptying       // nobody is let in
)

func (g *gate) moveOn(p phase) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.phase = max(g.phase, p)
}

func (g *gate) reached(p phase) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.phase >= p
}

// enter counts a handshake and its connection in, if the gateway can take it: unready
// returns why it can't, or "". The caller calls admitted.Done; leave counts the connection
// out.
func (g *gate) enter(subscriber, address string, unready func() string) *admission.Refusal {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.phase >= phaseEmptying {
		return admission.Unavailable("this gateway is stopping")
	}
	if reason := unready(); reason != "" {
		return admission.Unavailable("%s", reason)
	}
	if err := g.full(); err != nil {
		return admission.Unavailable("%v", err)
	}
	if refused := g.connections.Enter(subscriber, address); refused != nil {
		return refused
	}
	g.open.Add(1)
	g.admitted.Add(1)
	return nil
}

// leave undoes what enter counted of a connection.
func (g *gate) leave(subscriber, address string) {
	g.connections.Leave(subscriber, address)
	g.open.Add(-1)
}

// full returns an error if there is no room for another connection.
func (g *gate) full() error {
	if g.open.Load() < int64(g.most) {
		return nil
	}
	return fmt.Errorf("this gateway has its limit of %d connections", g.most)
}

const (
	drainStep = 100 * time.Millisecond
	// drainRate is how many connections a second are closed at least: it is no use
	// to take time over a few.
	drainRate = 100
	// lastWord is how long clients may take to answer the close, in the end.
	lastWord = 2 * time.Second
	// lastSeat is behind all others.
	lastSeat = math.MaxUint32
)

// drain says goodbye to all connections, over the given time, and waits until they
// are closed. Those whose turn has not come get their events meanwhile.
func (g *gate) drain(d *delivery.Delivery, over time.Duration) {
	g.moveOn(phaseEmptying)
	g.admitted.Wait()
	open := g.open.Load()
	over = min(over, time.Duration(open)*time.Second/drainRate)
	g.log.Info("closing connections", "open", open, "over", over)
	for left := max(1, int(over/drainStep)); left > 0; left-- {
		d.Dismiss(left, lastSeat, "the gateway is stopping; reconnect")
		if left > 1 {
			time.Sleep(drainStep)
		}
	}
	d.EndReplays()
	for deadline := time.Now().Add(lastWord); g.open.Load() > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}

// sendAway closes all connections, and lets nobody in until moving ends.
func (g *gate) sendAway(ctx context.Context, d *delivery.Delivery) {
	g.mu.Lock()
	g.moving.Store(true)
	g.mu.Unlock()
	g.admitted.Wait()
	d.Dismiss(1, lastSeat, "the topic was made anew, or divided anew; reconnect")
	for g.open.Load() > 0 && uptime.Sleep(ctx, 10*time.Millisecond) == nil { // the sweeper cuts off who does not answer
	}
}
