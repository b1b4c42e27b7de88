package gateway

import (
	"math"
	"math/rand/v2"
	"time"

	"eventstream/event"
	"eventstream/wire"
)

// phase is how far a gateway is on its way out. It only grows.
type phase uint8

const (
	phaseServing  phase = iota
	phaseLeaving        // not ready, but whoever comes is let in: balancers have yet to notice
	phaseEmptying       // nobody is let in
	phaseOver           // no replay begins any more
)

func (g *Gateway) moveOn(p phase) {
	g.admitMu.Lock()
	defer g.admitMu.Unlock()
	g.phase = max(g.phase, p)
}

func (g *Gateway) reached(p phase) bool {
	g.admitMu.Lock()
	defer g.admitMu.Unlock()
	return g.phase >= p
}

const (
	drainStep = 100 * time.Millisecond
	// drainRate is how many connections a second are closed at least: it is no use
	// to take time over a few.
	drainRate = 100
	// lastWord is how long clients may take to answer the close, in the end.
	lastWord = 2 * time.Second
	// reconnectRate is how many clients a second may come back when they were sent
	// away together.
	reconnectRate = 5000
)

// drain says goodbye to all connections, over the given time, and waits until they
// are closed. Those whose turn has not come get their events meanwhile.
func (g *Gateway) drain(over time.Duration) {
	g.moveOn(phaseEmptying)
	g.admitted.Wait()
	open := g.open.Load()
	over = min(over, time.Duration(open)*time.Second/drainRate)
	g.log.Info("closing connections", "open", open, "over", over)
	for left := max(1, int(over/drainStep)); left > 0; left-- {
		g.dismiss(left, lastSeat, "the gateway is stopping; reconnect")
		if left > 1 {
			time.Sleep(drainStep)
		}
	}
	g.moveOn(phaseOver)
	g.endReplay()
	g.resuming.Wait()
	for deadline := time.Now().Add(lastWord); g.open.Load() > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}

// closeAll sends all clients away at once.
func (g *Gateway) closeAll(reason string) { g.dismiss(1, lastSeat, reason) }

const lastSeat = math.MaxUint32

// dismiss sends one client of so many away, of those that are left at the seats up
// to one.
func (g *Gateway) dismiss(of int, upTo event.Seat, reason string) {
	for _, s := range g.workers {
		s.tell(&dismissed{of, upTo, ending{wire.CloseDrain, reason}})
	}
}

// dismiss closes one of so many connections, and asks each client to wait a while
// of its own before it comes back, so that those who go together don't come
// together.
func (s *worker) dismiss(of int, upTo event.Seat, e ending) {
	stays := func(c *conn) bool { return c.leaving() || c.seat > upTo }
	left := 0
	s.conns.each(func(c *conn) {
		if !stays(c) {
			left++
		}
	})
	left = (left + of - 1) / of
	spread := time.Duration(left*len(s.gw.workers))*time.Second/reconnectRate + 1
	s.conns.each(func(c *conn) {
		if left == 0 || stays(c) {
			return
		}
		left--
		wait := rand.N(spread).Round(time.Millisecond)
		s.hint(c, time.Second+wait) // it may be that no other gateway is there yet
		s.close(c, e.code, e.reason+" in "+wait.String())
	})
}

// leaving reports whether c was told to go, or will be right after its hello.
func (c *conn) leaving() bool {
	return c.state >= closing || c.opening != nil && c.opening.end != nil
}
