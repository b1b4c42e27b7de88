package check

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/bubble"
	"eventstream/internal/check/cluster"
	"eventstream/internal/check/judge"
)

// stillRun returns a run on no servers.
func stillRun(t *testing.T, faults ...kind) *run {
	cfg := Config{Cluster: cluster.Config{Dir: t.TempDir()}}
	r := &run{cfg: cfg, plan: &plan{}, cluster: &cluster.Cluster{}, log: slog.New(slog.DiscardHandler)}
	r.faults.run = r
	for i, k := range faults {
		r.plan.faults = append(r.plan.faults, injection{kind: k, at: time.Duration(i+1) * time.Second})
	}
	return r
}

func wantHung(t *testing.T, r *run, err error, what string) {
	t.Helper()
	if !errors.Is(err, ErrHung) || !strings.Contains(err.Error(), what) {
		t.Errorf("got error %v, want one that says that the check hung and %q", err, what)
	}
	dump, err := os.ReadFile(filepath.Join(r.cfg.Cluster.Dir, "goroutines"))
	if err != nil || !strings.Contains(string(dump), "goroutine ") {
		t.Errorf("goroutines: %v, %q", err, dump)
	}
}

// TestFaultHangs: a fault that does not come back ends the check, and those that
// wait for it, too.
func TestFaultHangs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for _, waits := range []string{"in its call", "for its part"} {
			never := make(chan struct{})
			r := stillRun(t,
				kind{name: "short", do: func(context.Context, *fault) error { return nil }},
				kind{name: "endless", do: func(_ context.Context, f *fault) error {
					free := f.lock("part")
					defer free()
					<-never
					return nil
				}},
				kind{name: "next", do: func(ctx context.Context, f *fault) error {
					if waits == "for its part" {
						defer f.lock("part")()
					}
					return nil
				}},
			)
			over, stop := context.WithTimeout(t.Context(), time.Hour)
			wantHung(t, r, r.faults.inject(t.Context(), over), "fault endless, number 1, hangs")
			stop()
			close(never)
			synctest.Wait()
		}
	})
}

// TestStill: a run in which nothing moves fails, and one that has nothing to move does not.
func TestStill(t *testing.T) {
	all := &filter.Spec{EventTypes: []string{"x"}}
	for _, tt := range []struct {
		name   string
		faults []kind
		do     func(*testing.T, *run)
		says   string
	}{
		{"nothing is due", nil, func(*testing.T, *run) {}, ""},
		{"no fault comes", []kind{{name: "late"}}, func(*testing.T, *run) {}, "no fault began for 2m30s; the injector hangs"},
		{"Kafka acknowledges nothing", nil, func(t *testing.T, r *run) { r.sent(t) },
			"Kafka acknowledged nothing for 2m30s: of 1 events it has 0; the producer hangs"},
		{"nothing is delivered", nil, func(t *testing.T, r *run) {
			c := &judge.Chain{Filters: &judge.Filters{}}
			c.Filters.Slot().Ask(r.clock.Now(), all).Answer(r.clock.Now())
			c.Dial(r.clock.Now(), "g", nil).Hello(r.clock.Now(), false, &event.Cursor{Next: []int64{0}})
			r.judged(c)
			r.events.Ack(r.sent(t), r.clock.Now(), event.ID{})
		}, "no client got an event for 2m30s, and 1 are due; delivery hangs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := stillRun(t, tt.faults...)
				tt.do(t, r)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				err := r.watch(ctx)
				if tt.says != "" {
					wantHung(t, r, err, tt.says)
				} else if err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func (r *run) sent(t *testing.T) *judge.Event {
	e, err := r.events.Send(&r.clock, func(int) (value, means []byte) { value = []byte(`{"event_type":"x"}`); return value, value })
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestStopped: a check that is stopped does not wait for what hangs.
func TestStopped(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		never := make(chan struct{})
		go func() {
			time.Sleep(time.Minute)
			cancel()
		}()
		_, err := stoppable(ctx, func(context.Context) (*report, error) {
			<-never
			return nil, nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v", err)
		}
		close(never)
	})
}
