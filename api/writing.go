package api

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	tryAnew    = 10 * time.Second // what was written so long ago does not say that writing works
	tryAgain   = 2 * time.Second  // after a failure
	tryTimeout = 3 * time.Second
)

// writing knows whether something can be written. That reading works says nothing of
// it, and neither does another write: a full disk takes some and refuses others. So
// after a failure it is tried, until that succeeds; and when somebody asks who wants
// to know and nothing was written for a while.
type writing struct {
	*dependency
	try    func(context.Context) error
	failed chan struct{} // there is something to try; capacity 1

	trying sync.Mutex // held by who tries
	mu     sync.Mutex
	worked time.Time // last
}

func newWriting(d *dependency, try func(context.Context) error) *writing {
	return &writing{dependency: d, try: try, failed: make(chan struct{}, 1)}
}

// wrote takes in how a write went.
func (w *writing) wrote(err error) {
	switch {
	case err == nil:
		w.note()
		return
	case !w.isDown(err):
		return
	case !errors.Is(err, context.DeadlineExceeded): // that may have waited for somebody who writes the same
		w.saw(err)
	}
	select {
	case w.failed <- struct{}{}:
	default:
	}
}

// ask tries to write, unless it is known how that goes.
func (w *writing) ask(ctx context.Context) {
	w.mu.Lock()
	known := time.Since(w.worked) < tryAnew
	w.mu.Unlock()
	if !known && !w.fails() {
		w.attempt(ctx)
	}
}

// run tries to write while that fails, until ctx ends.
func (w *writing) run(ctx context.Context) {
	for ctx.Err() == nil {
		if !w.fails() {
			select {
			case <-ctx.Done():
				return
			case <-w.failed:
			}
		}
		w.attempt(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(tryAgain):
		}
	}
}

// attempt tries to write once, unless somebody does so already.
func (w *writing) attempt(ctx context.Context) {
	if !w.trying.TryLock() {
		return
	}
	defer w.trying.Unlock()
	c, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	err := w.try(c)
	if errors.Is(ctx.Err(), context.Canceled) { // we are stopping
		return
	}
	if w.saw(asUnavailable(err)); err == nil {
		w.note()
	}
}

// note takes note that writing works.
func (w *writing) note() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.worked = time.Now()
}
