package api

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	tryAnew    = 10 * time.Second // after that, a successful write no longer proves that writing works
	tryAgain   = 2 * time.Second  // after a failure
	tryTimeout = 3 * time.Second
)

// writing tracks whether a dependency accepts writes. Successful reads do not prove it,
// nor does one write prove the next: a full disk accepts some and refuses others. So
// after a failure it tries until a write succeeds. It also tries when a probe asks and
// nothing has been written for a while.
type writing struct {
	*dependency
	try    func(context.Context) error
	failed chan struct{} // a write failed; capacity 1

	trying sync.Mutex // held during an attempt
	mu     sync.Mutex
	worked time.Time // when a write last succeeded
}

func newWriting(d *dependency, try func(context.Context) error) *writing {
	return &writing{dependency: d, try: try, failed: make(chan struct{}, 1)}
}

// wrote records the result of a write.
func (w *writing) wrote(err error) {
	switch {
	case err == nil:
		w.note()
		return
	case !w.isDown(err):
		return
	case !errors.Is(err, context.DeadlineExceeded): // a timeout may come from waiting for another writer of the same row
		w.saw(err)
	}
	select {
	case w.failed <- struct{}{}:
	default:
	}
}

// ask tries to write, unless the state is known.
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

// attempt tries to write once, unless an attempt is under way.
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

// note records that writing works.
func (w *writing) note() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.worked = time.Now()
}
