package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync/atomic"
	"time"
)

// ErrHung reports that something of a check stood still: a check without faults,
// or without events, proves nothing.
var ErrHung = errors.New("the check hung")

// flows are what has to move while there is load.
type flows struct{ acked, delivered, faults flow }

// flow is when something last moved.
type flow struct{ last atomic.Pointer[time.Time] }

func (f *flow) moved() {
	now := time.Now()
	f.last.Store(&now)
}

func (f *flow) still() time.Duration { return time.Since(*f.last.Load()) }

const (
	eventsLimit = faultLimit + 30*time.Second // that no event may come while some are due: a fault may hold up all of them
	faultsLimit = eventsLimit                 // that no fault may begin
)

// watch fails if what has to move stands still, until ctx ends.
func (r *run) watch(ctx context.Context) error {
	for _, f := range []*flow{&r.flows.acked, &r.flows.delivered, &r.flows.faults} {
		f.moved()
	}
	for pause(ctx, time.Second) {
		if what := r.still(); what != "" {
			return r.hung(what)
		}
	}
	return nil
}

// still tells what stands still, or "".
func (r *run) still() string {
	if r.flows.acked.still() > eventsLimit {
		r.flows.acked.moved()
		if sent, acked := r.events.Len(); sent > acked {
			return fmt.Sprintf("Kafka acknowledged nothing for %s: of %d events it has %d; the producer", eventsLimit, sent, acked)
		}
	}
	if r.flows.delivered.still() > eventsLimit {
		r.flows.delivered.moved()
		if v := r.judge(); v.Lost > 0 {
			return fmt.Sprintf("no client got an event for %s, and %d are due; delivery", eventsLimit, v.Lost)
		}
	}
	if len(r.plan.faults) > 0 && r.flows.faults.still() > faultsLimit {
		return fmt.Sprintf("no fault began for %s; the injector", faultsLimit)
	}
	return ""
}

// hung writes what all goroutines do, here and in the services, and returns the error.
func (r *run) hung(what string) error {
	file := filepath.Join(r.cfg.Cluster.Dir, "goroutines")
	out, err := os.Create(file)
	if err == nil {
		err = errors.Join(pprof.Lookup("goroutine").WriteTo(out, 2), out.Close())
	}
	r.cluster.Dump()
	return errors.Join(fmt.Errorf("%w: %s hangs; goroutines are in %s and at the ends of the services' logs", ErrHung, what, file), err)
}
