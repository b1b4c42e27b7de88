//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"eventstream/lane"
	"eventstream/perf/feed"
	"eventstream/perf/stack"
	"eventstream/perf/usage"
)

// What is going on in a step of a run.
const (
	quiet     = iota
	elsewhere // others flap at services of their own: what the machine alone does to latencies
	flapping
	after
	kinds
)

// step is a time of one of these.
type step struct {
	kind     int
	from, to moment
	entries  map[string]*entries // that the lanes got
	sent     [2]int              // the first and the last event for the victim
}

// moment is the end of one step and the beginning of the next.
type moment struct {
	at    time.Time
	used  []usage.Usage // by part, so far
	lanes []lane.Position
}

// result is what came out of a run.
type result struct {
	cfg     config
	control *stack.Stack   // nil if there is none
	flapped [kinds]flapped // in flapping, and elsewhere
	parts   []stack.Part
	steps   []step
	victim  *victim
	cut     error     // ended the victim's connection
	types   [2]string // event types: for the victim, and for the others
}

const partitions = 6

func run(ctx context.Context, cfg config) (r *result, err error) {
	name := fmt.Sprintf("flap_%d", time.Now().UnixMilli())
	s, err := cfg.start(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := s.Close(); err == nil && closeErr != nil {
			err = closeErr
		}
	}()
	r = &result{cfg: cfg, parts: s.Parts, types: [2]string{name + "-victim", name + "-flapper"}}
	if err := r.filters(ctx, s); err != nil {
		return nil, err
	}
	if cfg.control {
		if r.control, err = cfg.start(ctx, name+"_control"); err != nil {
			return nil, err
		}
		defer r.control.Close()
		if err := r.filters(ctx, r.control); err != nil {
			return nil, err
		}
	}
	l, err := openLanes(s.Redis, partitions)
	if err != nil {
		return nil, err
	}
	defer l.redis.Close()
	if r.victim, err = connect(ctx, s.Gateways[0], feed.User(r.types[0], 0)); err != nil {
		return nil, err
	}
	defer func(v *victim) { v.client.Cut(); <-v.done }(r.victim) // r is nil after an error
	feeds, err := r.feeds(s)
	if err != nil {
		return nil, err
	}
	producing, ctx2 := errgroup.WithContext(ctx)
	for _, f := range feeds {
		producing.Go(func() error { return f.Run(ctx2) })
	}
	err = r.measure(ctx2, s, l)
	for _, f := range feeds {
		f.Stop()
	}
	if producingErr := producing.Wait(); err == nil {
		err = producingErr
	}
	if err != nil {
		return nil, err
	}
	last := 0
	for i := range r.steps {
		st := &r.steps[i]
		st.sent[0], st.sent[1] = feeds[0].Between(0, st.from.at.UnixMicro(), st.to.at.UnixMicro())
		last = st.sent[1]
	}
	r.cut = r.victim.await(last, cfg.settle)
	return r, nil
}

// start starts the services.
func (cfg config) start(ctx context.Context, name string) (*stack.Stack, error) {
	env := []string{"EVENTSTREAM_RESUME_WINDOW=" + cfg.window.String()}
	if cfg.limits {
		env = append(env, "EVENTSTREAM_HANDSHAKE_RATE_ADDRESS=1000") // loopback has none by itself
	} else {
		env = append(env, "EVENTSTREAM_HANDSHAKE_RATE=0", "EVENTSTREAM_HANDSHAKE_RATE_ADDRESS=0", "EVENTSTREAM_HANDSHAKE_RATE_SUBSCRIBER=0")
	}
	return stack.Ours(ctx, stack.Config{Dir: filepath.Join(cfg.out, name), Name: name, Exe: cfg.exe, Partitions: partitions, Gateways: cfg.gateways, Env: env})
}

// filters gives everybody a filter.
func (r *result) filters(ctx context.Context, s *stack.Stack) error {
	var filters []stack.Filter
	for i, n := range []int{1, r.cfg.Subscribers} {
		for k := range n {
			user := feed.User(r.types[i], k)
			filters = append(filters, stack.Filter{Subscriber: user, User: user})
		}
	}
	return s.AddFilters(ctx, filters)
}

// feeds returns what produces the events of the victim, and of the others.
func (r *result) feeds(s *stack.Stack) (feeds [2]*feed.Feed, err error) {
	for i, c := range []feed.Config{{Streams: 1, Rate: r.cfg.rate}, {Streams: r.cfg.Subscribers, Rate: r.cfg.flapperRate}} {
		c.Brokers, c.Topic, c.Run = s.Brokers, s.Topic, r.types[i]
		if feeds[i], err = feed.New(c, slog.Default()); err != nil {
			return feeds, err
		}
	}
	return feeds, nil
}

// measure goes through the steps.
func (r *result) measure(ctx context.Context, s *stack.Stack, l *lanes) error {
	sleep(ctx, 2*time.Second) // until the first events have been through
	now, err := r.look(ctx, l)
	if err != nil {
		return err
	}
	do := func(kind int, what func() error) {
		if err != nil || ctx.Err() != nil {
			return
		}
		st := step{kind: kind, from: now}
		if err = what(); err != nil {
			return
		}
		if now, err = r.look(ctx, l); err != nil {
			return
		}
		st.to = now
		st.entries, err = l.between(ctx, st.from.lanes, st.to.lanes)
		r.steps = append(r.steps, st)
	}
	do(quiet, func() error { sleep(ctx, r.cfg.quiet); return nil })
	for round := range r.cfg.rounds {
		if r.control != nil {
			do(elsewhere, func() error { return r.flap(ctx, elsewhere, round, r.control) })
		}
		do(flapping, func() error { return r.flap(ctx, flapping, round, s) })
	}
	do(after, func() error { sleep(ctx, r.cfg.after); return nil })
	return errors.Join(err, ctx.Err())
}

// look returns how things are now.
func (r *result) look(ctx context.Context, l *lanes) (m moment, err error) {
	m.at = time.Now()
	for _, p := range r.parts {
		u, err := usage.Of(p.PID)
		if err != nil {
			return m, fmt.Errorf("%s: %w", p.Name, err)
		}
		m.used = append(m.used, u)
	}
	m.lanes, err = l.positions(ctx)
	return m, err
}

// flap has a round of connections made.
func (r *result) flap(ctx context.Context, kind, round int, s *stack.Stack) error {
	l := r.cfg.load
	l.Connects, l.Subscribers = l.Connects/r.cfg.rounds, max(1, l.Subscribers/r.cfg.rounds)
	l.First = round * l.Subscribers % r.cfg.Subscribers
	l.Run, l.Gateways, l.Until = r.types[1], s.Gateways, time.Now().Add(r.cfg.most/time.Duration(r.cfg.rounds))
	g, ctx := errgroup.WithContext(ctx)
	if r.cfg.profile && kind == flapping && round == 0 {
		for _, p := range s.Parts {
			if p.Admin != "" {
				g.Go(func() error {
					return p.Profile(ctx, "cpu", profiled, filepath.Join(r.cfg.out, p.Name+".cpu.pb.gz"))
				})
			}
		}
	}
	g.Go(func() error {
		f, err := flap(ctx, l)
		r.flapped[kind].add(f)
		return err
	})
	return g.Wait()
}

const profiled = 10 * time.Second

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
