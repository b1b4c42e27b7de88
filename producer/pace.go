package producer

import (
	"context"
	"time"
)

const (
	// minWait is the shortest pause: events that are due within it are sent at once, so
	// that a high rate doesn't sleep for each of them.
	minWait = time.Millisecond
	// maxLag is how much of a delay is caught up. After a longer one, such as a
	// broker's restart, catching up would flood the broker.
	maxLag = time.Second
)

// pacer spreads events evenly over time.
type pacer struct {
	rate  float64 // events a second; no limit if zero
	start time.Time
	n     float64 // events since start
}

func newPacer(rate float64) *pacer { return &pacer{rate: rate, start: time.Now()} }

// wait returns true when the next event is due, false if ctx ended before.
func (p *pacer) wait(ctx context.Context) bool {
	if p.rate <= 0 {
		return ctx.Err() == nil
	}
	early := time.Duration(p.n/p.rate*float64(time.Second)) - time.Since(p.start)
	p.n++
	switch {
	case early < -maxLag:
		p.start, p.n = time.Now(), 1
	case early >= minWait:
		t := time.NewTimer(early)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
		}
	}
	return ctx.Err() == nil
}
