package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"eventstream/filter"
	"eventstream/internal/ops"
)

// health tracks whether our dependencies work, reading and writing separately.
type health struct {
	postgres *dependency // reading
	writes   *writing
	redis    *dependency // reading
	publish  *writing
	kept     *ops.Readiness
}

func newHealth(s Store, p Publisher, log *slog.Logger) *health {
	isDown := func(err error) bool { return problemOf(err).kind == unavailable }
	h := &health{
		postgres: &dependency{
			log: log, down: "filter store unavailable; requests are answered with 503", up: "filter store is back", isDown: isDown,
		},
		writes: newWriting(&dependency{
			log: log, down: "filter store takes no writes; they are answered with 503", up: "filter store takes writes again", isDown: isDown,
		}, s.TryWrite),
		redis: &dependency{log: log, down: "Redis doesn't answer", up: "Redis answers again", isDown: always},
		publish: newWriting(&dependency{
			log: log, down: "filter service can't be told of changes; writes are answered with 202",
			up: "filter service can be told of changes again", isDown: always,
		}, p.TryWrite),
	}
	check := func(name string, do func(context.Context)) ops.Check {
		return ops.Check{Name: name, Do: func(ctx context.Context) error { do(ctx); return nil }}
	}
	h.kept = ops.Keep(
		check("postgres", func(ctx context.Context) { h.postgres.saw(asUnavailable(s.Ping(ctx))) }),
		check("postgres_writes", h.writes.ask),
		check("redis", func(ctx context.Context) { h.redis.saw(p.Ping(ctx)) }),
		check("redis_writes", h.publish.ask),
	)
	return h
}

// run retries failed writes until they work again, until ctx ends.
func (h *health) run(ctx context.Context) {
	var wait sync.WaitGroup
	wait.Go(func() { h.writes.run(ctx) })
	h.publish.run(ctx)
	wait.Wait()
}

// check returns the state of each dependency. Failures seen by requests since the last
// check are included. If only writing fails we report degraded: reads are still served,
// and a full or read-only server is so for every API process.
func (h *health) check() []ops.Answer {
	answers := h.kept.Ask()
	for i := range answers {
		a := &answers[i]
		switch a.Name {
		case "postgres":
			a.Err = cmp.Or(a.Err, h.postgres.reason("filters can't be read"))
		case "postgres_writes":
			a.Err = ops.Degraded(cmp.Or(a.Err, h.writes.reason("filters can't be written")))
		case "redis":
			a.Err = cmp.Or(a.Err, h.redis.reason("Redis doesn't answer"))
		case "redis_writes":
			a.Err = ops.Degraded(cmp.Or(a.Err, h.publish.reason("the filter service can't be told of changes")))
		}
	}
	return answers
}

func always(error) bool { return true }

// asUnavailable marks any error of a ping as filter.ErrUnavailable.
func asUnavailable(err error) error {
	if err == nil || errors.Is(err, filter.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", filter.ErrUnavailable, err)
}

// dependency records whether its last use failed, and logs changes.
type dependency struct {
	log      *slog.Logger
	down, up string           // what to log
	isDown   func(error) bool // whether an error means that it is down

	mu    sync.Mutex
	since time.Time // failing since then; zero if it works
}

// saw records the result of a use of the dependency.
func (d *dependency) saw(err error) {
	down := err != nil && d.isDown(err)
	d.mu.Lock()
	changed := down == d.since.IsZero()
	switch {
	case !down:
		d.since = time.Time{}
	case changed:
		d.since = time.Now()
	}
	d.mu.Unlock()
	switch {
	case changed && down:
		d.log.Warn(d.down, "err", err)
	case changed:
		d.log.Info(d.up)
	}
}

func (d *dependency) fails() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.since.IsZero()
}

// reason returns an error while the dependency fails. The cause is only in the log: it
// contains host and user names.
func (d *dependency) reason(what string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since.IsZero() {
		return nil
	}
	return errors.New(what + " since " + d.since.UTC().Format(time.RFC3339) + "; the log tells why")
}

// healthJSON is the answer of the probes, in the same form as in our other services.
type healthJSON struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks,omitempty"`
}

// tellHealth answers whether requests can be served in full, and if not, why.
func (s *Server) tellHealth(ctx *fasthttp.RequestCtx) error {
	answers := s.health.check()
	if s.cfg.Keys != nil {
		answers = append(answers, ops.Answer{Name: "keys", Err: s.guard.reason()})
	}
	if s.stopping.Load() {
		answers = append(answers, ops.Answer{Name: "api", Err: errors.New("stopping")})
	}
	answers = append(answers, s.checks.Ask()...)
	out := healthJSON{Checks: make(map[string]string)}
	var status int
	out.Status, status = ops.Verdict(answers)
	for _, a := range answers {
		out.Checks[a.Name] = healthy
		if a.Err != nil {
			out.Checks[a.Name] = a.Err.Error()
		}
	}
	return writeHealth(ctx, status, out)
}

// tellLive answers whether the process is alive and not stuck, whatever the
// state of other services.
func (s *Server) tellLive(ctx *fasthttp.RequestCtx) error {
	if err := s.watchdog.Alive(); err != nil {
		return writeHealth(ctx, fasthttp.StatusServiceUnavailable, healthJSON{Status: "stuck", Checks: map[string]string{"api": err.Error()}})
	}
	return writeHealth(ctx, fasthttp.StatusOK, healthJSON{Status: healthy})
}

const healthy = "ok"

func writeHealth(ctx *fasthttp.RequestCtx, status int, h healthJSON) error {
	ctx.Response.Header.Set("Cache-Control", "no-store")
	return writeJSON(ctx, status, h)
}
