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

// inspector looks after how Redis is set up, and tells what is wrong in the log, in
// metrics and in /readyz. Its servers are all services', so that is degraded, not red.
type inspector struct {
	redis    inspected
	log      *slog.Logger
	ahead    prometheus.Gauge
	troubles prometheus.Gauge
	found    atomic.Pointer[error] // by the last inspection; nil if nothing is wrong
}

func newInspector(r inspected, reg prometheus.Registerer, log *slog.Logger) *inspector {
	i := &inspector{
		redis: r, log: log,
		ahead: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "redis_clock_ahead_seconds", Help: "How far Redis' clock is ahead of this process's, at least; negative if it is behind.",
		}),
		troubles: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "redis_troubles", Help: "What is wrong with how Redis is set up, or with its state: see /readyz.",
		}),
	}
	reg.MustRegister(i.ahead, i.troubles)
	return i
}

// run inspects until ctx ends.
func (i *inspector) run(ctx context.Context) error {
	for {
		wait := inspectEvery
		if i.look(ctx) != nil {
			wait = 5 * time.Second // that it is down is said elsewhere
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
	in, err := i.redis.CheckConfig(ctx)
	if err != nil && len(in.Troubles) == 0 {
		return err
	}
	i.ahead.Set(in.Ahead.Seconds())
	if in.Ahead.Abs() > clocksApart {
		in.Troubles = append(in.Troubles, fmt.Errorf("the clocks of redis and of this process are %v apart; which of them is wrong is not known here", in.Ahead.Abs().Round(time.Second)))
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
		i.log.Info("redis is set up well again")
	case found != nil && before == nil:
		i.log.Error("redis needs a look", "err", found)
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
