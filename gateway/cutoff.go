package gateway

import (
	"context"
	"time"

	"eventstream/gateway/uptime"
)

// A gateway that the lanes don't answer keeps its clients in silence. Another gateway may
// serve them, and they lose nothing by going there: so it sends them away, slowly.
//
// It can't know whether all gateways are in the same trouble. Then those sent away find
// nobody who lets them in, wait longer from try to try, and come back spread over that.
// That costs less than to leave clients in silence beside a gateway that works. Those
// whose turn has not come when the lanes answer again stay.

// cutOffDrain is over what time clients are sent away.
const cutOffDrain = 30 * time.Second

// watchLanes sends clients away while the lanes don't answer for cfg.CutOff, until ctx ends.
func (g *Gateway) watchLanes(ctx context.Context) error {
	f := fading{after: g.cfg.CutOff, steps: max(1, int(g.cfg.cutOffDrain/time.Second))}
	for uptime.Sleep(ctx, time.Second) == nil && !g.reached(phaseLeaving) {
		before, silent := f.done, g.silence()
		of := f.next(silent)
		switch {
		case of > 0 && before == 0:
			g.metrics.cutOff.Inc()
			g.log.Error("the lanes don't answer; closing connections, so that clients go on elsewhere",
				"for", silent.Round(time.Second), "open", g.open.Load(), "over", g.cfg.cutOffDrain)
		case of == 0 && before > 0:
			g.log.Info("the lanes answer again; no more connections are closed", "open", g.open.Load())
		}
		if of > 0 {
			g.dismiss(of, lastSeat, "the gateway is cut off; reconnect")
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

// silence returns for how long lanes that are read have not answered.
func (g *Gateway) silence() (longest time.Duration) {
	for _, r := range g.laneReaders() {
		longest = max(longest, r.Silence())
	}
	return longest
}
