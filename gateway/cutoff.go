package gateway

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/gateway/delivery"
	"eventstream/gateway/uptime"
)

// A gateway that the lanes don't answer keeps its clients in silence. Another gateway may
// serve them, and they lose nothing by going there: so it sends them away, slowly.
//
// It can't know whether all gateways are in the same trouble. Then those sent away find
// nobody who lets them in, wait longer from try to try, and come back spread over that.
// That costs less than to leave clients in silence beside a gateway that works. Those
// whose turn has not come when the lanes answer again stay.

// cutOff sends clients away while the lanes don't answer.
type cutOff struct {
	after, over time.Duration // without an answer; and over what time they are sent away
	topics      *topics
	gate        *gate
	delivery    *delivery.Delivery
	times       prometheus.Counter
	log         *slog.Logger
}

// run looks after the lanes until ctx ends, or the gateway does.
func (c *cutOff) run(ctx context.Context) error {
	f := fading{after: c.after, steps: max(1, int(c.over/time.Second))}
	for uptime.Sleep(ctx, time.Second) == nil && !c.gate.reached(phaseLeaving) {
		before, silent := f.done, c.topics.silence()
		of := f.next(silent)
		switch {
		case of > 0 && before == 0:
			c.times.Inc()
			c.log.Error("the lanes don't answer; closing connections, so that clients go on elsewhere",
				"for", silent.Round(time.Second), "open", c.gate.open.Load(), "over", c.over)
		case of == 0 && before > 0:
			c.log.Info("the lanes answer again; no more connections are closed", "open", c.gate.open.Load())
		}
		if of > 0 {
			c.delivery.Dismiss(of, lastSeat, "the gateway is cut off; reconnect")
		}
	}
	return nil
}

// fading says how many clients are sent away, step by step.
type fading struct {
	after time.Duration // without an answer
	steps int
	done  int // steps; 0 while the lanes answer
}

// next makes a step: one client of the returned number is sent away, none if it is 0.
func (f *fading) next(silent time.Duration) int {
	if silent < f.after {
		f.done = 0
		return 0
	}
	f.done++
	return max(f.steps-f.done+1, 1)
}
