package delivery

import (
	"context"
	"log/slog"
	"time"

	"eventstream/event"
	"eventstream/gateway/framing"
	"eventstream/gateway/history"
	"eventstream/gateway/uptime"
	"eventstream/internal/watchdog"
	"eventstream/lane"
)

// worker serves the connections whose seats fall to it. One goroutine owns all of
// their state and writes all of their events; others leave posts in its mailbox.
//
// The worker clocks itself: it visits each connection that has something
// waiting and writes all of it as one frame. What comes in meanwhile waits for
// the next visit, so load raises the events in a write and not the writes.
type worker struct {
	mailbox
	writer
	log   *slog.Logger
	pulse *watchdog.Part // of run

	// sends a connection what it missed, and returns what ends that
	replay func(*worker, *conn, *history.Replay) (stop func())

	conns table
	dirty []*conn // have something waiting
	spare []*conn // memory for the next dirty
	work  mail    // being applied
}

// newWorker returns one of cfg.Workers workers.
func newWorker(cfg *Config, m *metrics, log *slog.Logger) *worker {
	w := &worker{
		mailbox: mailbox{ready: make(chan struct{}, 1)},
		writer:  writer{cfg: cfg, metrics: m, scratch: make([]byte, framing.HeadRoom)},
		log:     log, conns: table{workers: event.Seat(cfg.Workers)},
	}
	w.room.L = &w.mu
	return w
}

// run is the worker. It ends when ctx does.
func (w *worker) run(ctx context.Context) error {
	sweep, cursors := time.NewTicker(time.Second), time.NewTicker(cursorsEvery)
	defer sweep.Stop()
	defer cursors.Stop()
	for {
		w.pulse.Beat()
		select {
		case <-ctx.Done():
			w.stop()
			return nil
		case <-w.ready:
			w.collect()
			w.flushAll()
			if len(w.dirty) > 0 {
				w.wake() // go on, but let the others of this select have their turn
			}
		case <-cursors.C:
			w.settleCursors()
		case now := <-sweep.C:
			w.sweep(uptime.SecondsOf(now), now.Unix())
		}
	}
}

// collect applies all mail.
func (w *worker) collect() {
	w.work = w.take(w.work)
	w.now = time.Now()
	for i := range w.work.posts {
		w.apply(&w.work.posts[i])
	}
	clear(w.work.posts)
	for _, c := range w.work.drained {
		w.markDirty(c)
	}
	clear(w.work.drained)
}

func (w *worker) apply(p *post) {
	for i := range p.Deliveries {
		d := &p.Deliveries[i]
		for _, seat := range d.Seats {
			if c := w.conns.get(seat); c != nil {
				w.queue(c, d.Event)
			}
		}
	}
	if p.Next != nil {
		w.next[p.Reader] = p.Next
	}
	if p.Settled != (lane.ControlID{}) {
		w.settle(p.Reader, p.Settled)
	}
	if p.command != nil {
		p.command.apply(w)
	}
}
