package producer

import (
	"fmt"
	"sync"
	"time"
)

const (
	terminalInterval = time.Second
	logInterval      = 10 * time.Second
)

// startProgress shows the progress until stop is called.
func (r *run) startProgress() (stop func()) {
	interval := logInterval
	if r.cfg.Terminal != nil {
		interval = terminalInterval
	}
	end := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		var last int64
		for {
			select {
			case <-end:
				r.finishProgress()
				return
			case <-tick.C:
				acked := r.acked.Load()
				r.showProgress(acked, float64(acked-last)/interval.Seconds())
				last = acked
			}
		}
	})
	return func() {
		close(end)
		running.Wait()
	}
}

func (r *run) showProgress(acked int64, rate float64) {
	elapsed := time.Since(r.began).Round(time.Second)
	bad, failed := r.bad.Load(), r.failed.Load()
	if r.cfg.Terminal == nil {
		r.log.Info("producing", "acked", acked, "rate", int64(rate), "bad", bad, "failed", failed, "elapsed", elapsed)
		return
	}
	fmt.Fprintf(r.cfg.Terminal, "\r\x1b[K%v  %d events  %.0f/s", elapsed, acked, rate)
	if bad > 0 {
		fmt.Fprintf(r.cfg.Terminal, "  %d bad", bad)
	}
	if failed > 0 {
		fmt.Fprintf(r.cfg.Terminal, "  %d failed", failed)
	}
}

// finishProgress clears the line for later output.
func (r *run) finishProgress() {
	if r.cfg.Terminal != nil {
		fmt.Fprint(r.cfg.Terminal, "\r\x1b[K")
	}
}
