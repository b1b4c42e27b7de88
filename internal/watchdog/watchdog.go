// Package watchdog notices parts of a process that are stuck: a loop that does not
// come round any more, or a lock that is not let go. Such a process answers, looks
// alive, and does nothing. Its /livez turns red, so that a supervisor ends it.
package watchdog

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	limit = time.Minute
	// looks is how often a part is looked at within the limit. It is the looks that
	// count, not the time: a process that was stopped for an hour has done as many as
	// its parts have moved.
	looks = 12
	// maxDump bounds the goroutine dump in the log.
	maxDump = 256 << 10
)

// Watchdog watches parts of a process. Its methods work on nil, too, and then watch
// nothing.
type Watchdog struct {
	Limit time.Duration // how long a part may go without progress; set before Run

	log *slog.Logger

	mu    sync.Mutex
	parts []*Part
	stuck map[*Part]bool
}

// Part is a loop, or a lock, that is watched.
type Part struct {
	dog     *Watchdog
	name    string
	beats   atomic.Uint64
	resting atomic.Int32
	probe   func()      // of a lock
	probing atomic.Bool // probe has not returned

	// Only look touches these.
	seen  uint64
	still int // looks since it moved
}

// New returns a Watchdog with a Limit of a minute. Run does the watching.
func New(log *slog.Logger) *Watchdog {
	return &Watchdog{Limit: limit, log: log, stuck: make(map[*Part]bool)}
}

// Loop adds a loop, which has to call Beat each time that it comes round, and Done
// when it ends.
func (w *Watchdog) Loop(name string) *Part { return w.add(&Part{name: name}) }

// Lock adds a lock: it is taken and let go every few seconds.
func (w *Watchdog) Lock(name string, l sync.Locker) *Part {
	return w.add(&Part{name: name, probe: func() {
		l.Lock()
		defer l.Unlock()
	}})
}

func (w *Watchdog) add(p *Part) *Part {
	if w == nil {
		return nil
	}
	p.dog = w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.parts = append(w.parts, p)
	return p
}

// Beat notes progress.
func (p *Part) Beat() {
	if p != nil {
		p.beats.Add(1)
	}
}

// Rest says that the loop waits for something that may take as long as it likes,
// such as work, or another service. It goes on when what is returned is called.
func (p *Part) Rest() (resume func()) {
	if p == nil {
		return func() {}
	}
	p.resting.Add(1)
	return func() {
		p.beats.Add(1)
		p.resting.Add(-1)
	}
}

// Done ends the watching of p.
func (p *Part) Done() {
	if p == nil {
		return
	}
	p.dog.mu.Lock()
	defer p.dog.mu.Unlock()
	p.dog.parts = slices.DeleteFunc(p.dog.parts, func(o *Part) bool { return o == p })
	delete(p.dog.stuck, p)
}

// Run watches until ctx ends.
func (w *Watchdog) Run(ctx context.Context) error {
	tick := time.NewTicker(w.Limit / looks)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			w.look()
		}
	}
}

func (w *Watchdog) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.parts {
		p.look()
		was := w.stuck[p]
		if p.still >= looks {
			w.stuck[p] = true
			if !was {
				w.log.Error("a part of this process is stuck; /livez is red", "part", p.name, "for", p.age(), "goroutines", goroutines())
			}
		} else if was {
			delete(w.stuck, p)
			w.log.Info("a part of this process moves again", "part", p.name)
		}
	}
}

func (p *Part) look() {
	p.still++
	if beats := p.beats.Load(); beats != p.seen || p.resting.Load() > 0 {
		p.seen, p.still = beats, 0
	}
	if p.probe != nil && p.probing.CompareAndSwap(false, true) {
		go func() { // it waits for as long as the lock is held, and is the only one that does
			p.probe()
			p.beats.Add(1)
			p.probing.Store(false)
		}()
	}
}

func (p *Part) age() time.Duration { return time.Duration(p.still) * p.dog.Limit / looks }

// Alive tells which part is stuck, or nil.
func (w *Watchdog) Alive() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.stuck {
		return fmt.Errorf("%s has not moved for %v", p.name, p.age())
	}
	return nil
}

// goroutines returns the stacks of all goroutines, equal ones once.
func goroutines() string {
	var b bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&b, 1)
	return string(b.Bytes()[:min(b.Len(), maxDump)])
}
