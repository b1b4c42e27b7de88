// Package run keeps the parts of a process running together, and stops them in
// order: the part added first, which is the one furthest upstream, stops first.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Group is the parts of a process. The zero value works.
type Group struct {
	Patience time.Duration // for one part to stop; 30 s if zero
	Log      *slog.Logger  // slog.Default() if nil

	parts []*part
}

type part struct {
	name   string
	run    func(ctx context.Context) error
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// ErrStuck reports a part that did not stop within the Group's patience.
var ErrStuck = errors.New("did not stop in time")

// Add adds a part. run blocks until its ctx ends; it may return nil earlier if
// its work is done, and an error stops the whole Group.
func (g *Group) Add(name string, run func(ctx context.Context) error) {
	g.parts = append(g.parts, &part{name: name, run: run, done: make(chan struct{})})
}

// Run runs all parts until ctx ends or one of them fails, and stops them one
// after another. It returns the first error; an ended ctx is not one.
func (g *Group) Run(ctx context.Context) error {
	failed := make(chan struct{}, len(g.parts))
	for _, p := range g.parts {
		p.start(context.WithoutCancel(ctx), failed)
	}
	finished := make(chan struct{})
	go func() {
		for _, p := range g.parts {
			<-p.done
		}
		close(finished)
	}()
	select {
	case <-ctx.Done():
	case <-failed:
	case <-finished:
	}
	return g.stop()
}

func (p *part) start(ctx context.Context, failed chan<- struct{}) {
	ctx, p.cancel = context.WithCancel(ctx)
	go func() {
		defer close(p.done)
		if p.err = p.run(ctx); p.err != nil {
			failed <- struct{}{}
		}
	}()
}

func (g *Group) stop() error {
	patience, log := g.Patience, g.Log
	if patience == 0 {
		patience = 30 * time.Second
	}
	if log == nil {
		log = slog.Default()
	}
	var errs []error
	for _, p := range g.parts {
		p.cancel()
		select {
		case <-p.done:
			if p.err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", p.name, p.err))
			}
			log.Debug("stopped", "part", p.name)
		case <-time.After(patience):
			errs = append(errs, fmt.Errorf("%s: %w", p.name, ErrStuck))
		}
	}
	return errors.Join(errs...)
}
