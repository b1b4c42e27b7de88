package api

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"eventstream/filter"
	"eventstream/internal/ops"
)

// A failed publish counts for so long. Then somebody has to try again, and if we stayed
// not ready, nobody would.
const publishFailureAge = 10 * time.Second

// health knows whether what we depend on works.
type health struct {
	store     Store
	publisher Publisher
	postgres  *dependency
	publish   *dependency // as the writes see it
	redis     *dependency // as Ping sees it
	kept      *ops.Readiness
}

func newHealth(s Store, p Publisher, log *slog.Logger) *health {
	h := &health{
		store: s, publisher: p,
		postgres: &dependency{
			log: log, down: "filter store unavailable; requests are answered with 503", up: "filter store is back",
			isDown: func(err error) bool { return problemOf(err).kind == unavailable },
		},
		publish: &dependency{
			log: log, down: "filter service can't be told of changes; writes are answered with 202",
			up: "filter service can be told of changes again", isDown: always,
		},
		redis: &dependency{log: log, down: "Redis doesn't answer", up: "Redis answers again", isDown: always},
	}
	h.kept = ops.Keep(
		ops.Check{Name: "postgres", Do: func(ctx context.Context) error {
			h.postgres.saw(asUnavailable(h.store.Ping(ctx)))
			return nil
		}},
		ops.Check{Name: "redis", Do: func(ctx context.Context) error {
			h.redis.saw(h.publisher.Ping(ctx))
			return nil
		}})
	return h
}

// check returns what is wrong, by name. What requests saw since the last look at both
// goes before it.
func (h *health) check() map[string]string {
	checks := make(map[string]string)
	for _, a := range h.kept.Ask() {
		if a.Err != nil { // it hangs
			checks[a.Name] = a.Err.Error()
		}
	}
	redis := h.publish.state()
	if time.Since(redis.last) >= publishFailureAge {
		redis = h.redis.state()
	}
	checks["postgres"] = cmp.Or(checks["postgres"], h.postgres.state().reason("filters can't be read or written"))
	checks["redis"] = cmp.Or(checks["redis"], redis.reason("the filter service can't be told of changes"))
	return checks
}

func always(error) bool { return true }

// asUnavailable: a store that can't even be pinged can't be used, whatever the reason.
func asUnavailable(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(filter.ErrUnavailable, err)
}

// dependency remembers how its last use went, and logs when that changes.
type dependency struct {
	log      *slog.Logger
	down, up string           // what to log
	isDown   func(error) bool // whether an error tells that it is down

	mu sync.Mutex
	s  state
}

// state is since when a dependency fails, zero if it doesn't, and when it did last.
type state struct{ since, last time.Time }

// saw takes in how a use of the dependency went.
func (d *dependency) saw(err error) state {
	d.mu.Lock()
	before := d.s
	if err == nil || !d.isDown(err) {
		d.s = state{}
	} else {
		d.s.last = time.Now()
		if d.s.since.IsZero() {
			d.s.since = d.s.last
		}
	}
	after := d.s
	d.mu.Unlock()
	switch {
	case before.since.IsZero() && !after.since.IsZero():
		d.log.Warn(d.down, "err", err)
	case !before.since.IsZero() && after.since.IsZero():
		d.log.Info(d.up)
	}
	return after
}

func (d *dependency) state() state {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.s
}

// healthJSON is the answer of the probes, in the form that all our services use.
type healthJSON struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks,omitempty"`
}

// tellHealth says whether requests can be served in full, and if not, why.
func (s *Server) tellHealth(ctx *fasthttp.RequestCtx) error {
	answer := healthJSON{Status: healthy, Checks: s.health.check()}
	if s.cfg.Keys != nil {
		answer.Checks["keys"] = s.guard.reason()
	}
	if s.stopping.Load() {
		answer.Checks["api"] = "stopping"
	}
	status := fasthttp.StatusOK
	for _, reason := range answer.Checks {
		if reason != healthy {
			answer.Status, status = "unavailable", fasthttp.StatusServiceUnavailable
		}
	}
	return writeHealth(ctx, status, answer)
}

// tellLive says that the process answers and is not stuck, whatever the state of others.
func (s *Server) tellLive(ctx *fasthttp.RequestCtx) error {
	if err := s.watchdog.Alive(); err != nil {
		return writeHealth(ctx, fasthttp.StatusServiceUnavailable, healthJSON{Status: "stuck", Checks: map[string]string{"api": err.Error()}})
	}
	return writeHealth(ctx, fasthttp.StatusOK, healthJSON{Status: healthy})
}

const healthy = "ok"

// reason leaves it to the log to tell the error, which names hosts and users.
func (s state) reason(what string) string {
	if s.since.IsZero() {
		return healthy
	}
	return what + " since " + s.since.UTC().Format(time.RFC3339) + "; the log tells why"
}

func writeHealth(ctx *fasthttp.RequestCtx, status int, h healthJSON) error {
	ctx.Response.Header.Set("Cache-Control", "no-store")
	return writeJSON(ctx, status, h)
}
