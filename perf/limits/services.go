//go:build linux

package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/lane"
	"eventstream/perf/usage"
	"eventstream/wire"
)

func (w *world) hold(pid int)    { syscall.Kill(pid, syscall.SIGSTOP) }
func (w *world) release(pid int) { syscall.Kill(pid, syscall.SIGCONT) }

// measure notes what a process uses, and how long it takes, while do runs.
func measure(pid, events int, do func() error) (f figure, err error) {
	before, err := usage.Of(pid)
	if err != nil {
		return f, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return f, err
	}
	f.events, f.took = events, time.Since(began)
	after, err := usage.Of(pid)
	f.cpu = after.CPU - before.CPU
	return f, err
}

// filters lets the filter service do what waits in Kafka.
func (w *world) filters(ctx context.Context, t *table, name string) error {
	f, err := measure(w.filter, w.cfg.events, func() error {
		w.release(w.filter)
		return w.done(ctx)
	})
	if err != nil {
		return fmt.Errorf("filter service: %w", err)
	}
	t.add(name, f)
	return nil
}

// mark produces an event of some type in each partition.
func (w *world) mark(ctx context.Context, typ string) error {
	for p := range int32(partitions) {
		r := &kgo.Record{Partition: p, Value: fmt.Appendf(nil, `{"event_type":%q,"user_id":"user_1"}`, typ)}
		if err := w.kafka.ProduceSync(ctx, r).FirstErr(); err != nil {
			return fmt.Errorf("produce: %w", err)
		}
	}
	w.produced += partitions
	return nil
}

// end is the type of events that match, at the end of many that don't: a filter service
// that finds no match only now and then tells how far it is.
func (w *world) end() string { return w.name + "_end" }

// done waits until everything that was produced is in the lanes, if it matched.
func (w *world) done(ctx context.Context) error {
	return w.await(ctx, func(all []lane.Position) bool {
		sum := int64(0)
		for _, p := range all {
			sum += max(p.Next, 0)
		}
		return sum >= w.produced
	})
}

// reader lets the gateway read the lanes, which end with an event for the witness in
// each.
func (w *world) reader(ctx context.Context, t *table) error {
	if err := w.mark(ctx, w.name); err != nil {
		return err
	}
	if err := w.done(ctx); err != nil {
		return err
	}
	w.hold(w.filter)
	defer w.release(w.filter)
	f, err := measure(w.gateway, w.cfg.events, func() error {
		w.release(w.gateway)
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		for came := 0; came < partitions; {
			m, err := w.hear(ctx)
			if err != nil {
				return err
			}
			if m.Type == wire.Gap {
				return fmt.Errorf("the gateway told of a gap: %s", m.Reason)
			}
			came += len(m.Events)
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.add(readerOurs, f)
	return nil
}
