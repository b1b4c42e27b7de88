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
	// inspectEvery is how often Redis is asked for its settings and state, which may be
	// changed by hand, or by a failover.
	inspectEvery = 30 * time.Second
	// clocksApart is how much the clock of a server may differ from ours.
	clocksApart = 5 * time.Second
)

// inspected is who can be inspected.
type inspected interface {
	CheckConfig(ctx context.Context) (lane.Inspection, error)
}

// clocked is a server of which only the clock is looked at: PostgreSQL.
type clocked interface {
	Ahead(ctx context.Context) (time.Duration, error)
}

type clock struct{ clocked }

func (c clock) CheckConfig(ctx context.Context) (in lane.Inspection, err error) {
	in.Ahead, err = c.Ahead(ctx)
	return in, err
}

// inspector looks after how a server is set up, and tells what is wrong in the log, in
// metrics and in /readyz. The server is all services', so that is degraded, not red.
type inspector struct {
	name     string
	of       inspected
	log      *slog.Logger
	ahead    prometheus.Gauge
	troubles prometheus.Gauge
	found    atomic.Pointer[error] // by the last inspection; nil if nothing is wrong
}

// newInspector returns an inspector of a server by the name that it has in metrics.
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

// inspecting looks now and then until ctx ends, and sooner after a look that failed.
func inspecting(ctx context.Context, look func(context.Context) error) error {
	for {
		wait := inspectEvery
		if look(ctx) != nil {
			wait = 5 * time.Second // that a server is down is said elsewhere
		}
		if !pause(ctx, wait) {
			return nil
		}
	}
}

// look inspects once. It fails if Redis can't be asked: then what was found last stays.
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

// tell keeps what was found, and logs it if it is new.
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

// check is for /readyz.
func (i *inspector) check(context.Context) error {
	if found := i.found.Load(); found != nil {
		return ops.Degraded(*found)
	}
	return nil
}

// addInspector has a server inspected, and returns what /readyz says of it. Where
// reading it has a check of its own, that has another name.
func addInspector(g *run.Group, name, check string, of inspected, reg prometheus.Registerer, log *slog.Logger) ops.Check {
	i := newInspector(name, of, reg, log)
	g.Add(name+" check", i.run)
	return ops.Check{Name: check, Do: i.check, Local: true}
}

// addClock has PostgreSQL's clock looked at.
func addClock(g *run.Group, of clocked, reg prometheus.Registerer, log *slog.Logger) ops.Check {
	return addInspector(g, "postgres", "postgres_clock", clock{of}, reg, log)
}
