package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/internal/ops"
	"eventstream/internal/run"
	"eventstream/lane"
)

const (
	// inspectEvery is how often Redis' settings and state are checked: they may change
	// by hand, or by a failover.
	inspectEvery = 30 * time.Second
	// clocksApart is the largest accepted difference between a server's clock and ours.
	clocksApart = 5 * time.Second
)

// inspected is a server whose configuration can be checked.
type inspected interface {
	CheckConfig(ctx context.Context) (lane.Inspection, error)
}

// clocked is a server of which only the clock is checked: PostgreSQL.
type clocked interface {
	Ahead(ctx context.Context) (time.Duration, error)
}

type clock struct{ clocked }

func (c clock) CheckConfig(ctx context.Context) (in lane.Inspection, err error) {
	in.Ahead, err = c.Ahead(ctx)
	return in, err
}

// inspector checks a server's configuration, and reports problems in the log, in metrics
// and in /readyz. All processes share the server, so the state is degraded, not unready.
type inspector struct {
	name     string
	of       inspected
	log      *slog.Logger
	ahead    prometheus.Gauge
	troubles prometheus.Gauge
	found    atomic.Pointer[error] // by the last inspection; nil if nothing is wrong
}

// newInspector returns an inspector of a server. name is its label in metrics.
func newInspector(name string, of inspected, reg prometheus.Registerer, log *slog.Logger) *inspector {
	i := &inspector{
		name: name, of: of, log: log,
		ahead: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name + "_clock_ahead_seconds", Help: "How far the server's clock is ahead of this process's, at least; negative if it is behind.",
		}),
		troubles: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name + "_troubles", Help: "What is wrong with how the server is set up, or with its state: see /readyz.",
		}),
	}
	reg.MustRegister(i.ahead, i.troubles)
	return i
}

// run inspects until ctx ends.
func (i *inspector) run(ctx context.Context) error { return inspecting(ctx, i.look) }

// inspecting calls look regularly until ctx ends, and sooner after an error.
func inspecting(ctx context.Context, look func(context.Context) error) error {
	for {
		wait := inspectEvery
		if look(ctx) != nil {
			wait = 5 * time.Second // other checks report that a server is down
		}
		if !pause(ctx, wait) {
			return nil
		}
	}
}

// look inspects once. It fails if the server can't be asked; the last findings then stay.
func (i *inspector) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	in, err := i.of.CheckConfig(ctx)
	if err != nil && len(in.Troubles) == 0 {
		return err
	}
	i.ahead.Set(in.Ahead.Seconds())
	if in.Ahead.Abs() > clocksApart {
		in.Troubles = append(in.Troubles, fmt.Errorf("the clocks of %s and of this process are %v apart; which of them is wrong is not known here", i.name, in.Ahead.Abs().Round(time.Second)))
	}
	i.troubles.Set(float64(len(in.Troubles)))
	i.tell(errors.Join(in.Troubles...))
	return nil
}

// tell stores the finding, and logs it if it changed.
func (i *inspector) tell(found error) {
	before := i.found.Load()
	switch {
	case found == nil && before != nil:
		i.log.Info(i.name + " is set up well again")
	case found != nil && before == nil:
		i.log.Error(i.name+" needs a look", "err", found)
	}
	i.found.Store(nil)
	if found != nil {
		i.found.Store(&found)
	}
}

// check returns the finding for /readyz.
func (i *inspector) check(context.Context) error {
	if found := i.found.Load(); found != nil {
		return ops.Degraded(*found)
	}
	return nil
}

// addInspector starts the inspection of a server, and returns its check for /readyz. check
// is its name there; name itself may be that of the check whether the server can be read.
func addInspector(g *run.Group, name, check string, of inspected, reg prometheus.Registerer, log *slog.Logger) ops.Check {
	i := newInspector(name, of, reg, log)
	g.Add(name+" check", i.run)
	return ops.Check{Name: check, Do: i.check, Local: true}
}

// addClock starts the check of PostgreSQL's clock.
func addClock(g *run.Group, of clocked, reg prometheus.Registerer, log *slog.Logger) ops.Check {
	return addInspector(g, "postgres", "postgres_clock", clock{of}, reg, log)
}
