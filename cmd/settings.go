package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"eventstream/internal/ops"
	"eventstream/internal/run"
	"eventstream/internal/trouble"
	"eventstream/topic"
)

// keeper reads the topic's settings.
type keeper interface {
	Keeps(ctx context.Context) (time.Duration, error)
}

// settings checks whether the topic's settings can be read, for which Kafka may require
// a right of its own (DESCRIBE_CONFIGS). Without them a replay can't know whether
// events were deleted, and reports gaps where there may be none.
type settings struct {
	of      keeper
	trouble *trouble.Trouble
	found   atomic.Pointer[error] // nil if they can be read
}

const deniedSettings = "the topic's settings can't be read, so that replays may tell gaps where there are none"

// addSettings starts the check, and returns the one for /readyz.
func addSettings(g *run.Group, of keeper, log *slog.Logger) ops.Check {
	s := newSettings(of, log)
	g.Add("topic check", s.run)
	return ops.Check{Name: "topic", Do: s.check, Local: true}
}

func newSettings(of keeper, log *slog.Logger) *settings {
	return &settings{of: of, trouble: trouble.NewError(log, deniedSettings, "the topic's settings can be read again")}
}

// run checks regularly until ctx ends.
func (s *settings) run(ctx context.Context) error { return inspecting(ctx, s.look) }

func (s *settings) look(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := s.of.Keeps(asking)
	if err != nil && !errors.Is(err, topic.ErrDenied) {
		return err // other checks report that Kafka is down
	}
	s.trouble.Saw(err)
	s.found.Store(nil)
	if err != nil {
		s.found.Store(&err)
	}
	return err
}

// check is for /readyz. It reports degraded, not unready: no other process can read them.
func (s *settings) check(context.Context) error {
	if err := s.found.Load(); err != nil {
		return ops.Degraded(fmt.Errorf("%s: %w", deniedSettings, *err))
	}
	return nil
}
