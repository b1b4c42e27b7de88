// Package check proves the promise of DESIGN.md, section 1, on our own running
// program: it drives a cluster of its processes under load, breaks them and
// what is around them by a plan drawn from a seed, and judges what every client
// saw against what Kafka acknowledged.
package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"eventstream/internal/check/cluster"
	"eventstream/internal/check/judge"
)

// Config says how to check. Zero values stand for the defaults named here.
type Config struct {
	Seed     uint64
	Duration time.Duration // of the faults; 1 min if zero
	Faults   []string      // names of kinds; see Kinds

	Clients    int           // 200 if zero
	Rate       float64       // events a second; 300 if zero
	Filters    int           // filter services of each shard; 2 if zero
	Shards     int           // parts of the subscribers that filter services share; 1 if zero
	Gateways   int           // 2 if zero
	Partitions int           // 6 if zero
	Settle     time.Duration // for all that is outstanding to arrive in the end; 60 s if zero

	ResumeWindow time.Duration // of the gateways; theirs if zero
	Retention    time.Duration // of lanes; the filter services' if zero
	Mapped       bool          // events are called otherwise than filters call them, and services are told how
	AllowGaps    bool          // clients may be told of gaps once Redis has lost what it held

	Cluster cluster.Config // the program and the servers; the rest is filled in. Broker and Server are run for faults of theirs only
}

func (cfg Config) withDefaults() Config {
	cfg.Duration = cmp.Or(cfg.Duration, time.Minute)
	cfg.Clients = cmp.Or(cfg.Clients, 200)
	cfg.Rate = cmp.Or(cfg.Rate, 300)
	cfg.Filters = cmp.Or(cfg.Filters, 2)
	cfg.Shards = cmp.Or(cfg.Shards, 1)
	cfg.Gateways = cmp.Or(cfg.Gateways, 2)
	cfg.Partitions = cmp.Or(cfg.Partitions, 6)
	cfg.Settle = cmp.Or(cfg.Settle, time.Minute)
	cfg.Cluster.Name = fmt.Sprintf("check_%d_%d", cfg.Seed, time.Now().UnixNano())
	cfg.Cluster.Filters, cfg.Cluster.Shards, cfg.Cluster.Gateways, cfg.Cluster.Partitions = cfg.Filters, cfg.Shards, cfg.Gateways, cfg.Partitions
	cfg.Cluster.ResumeWindow, cfg.Cluster.Retention = cfg.ResumeWindow, cfg.Retention
	return cfg
}

// ErrViolated reports that a promise was broken.
var ErrViolated = errors.New("the check found violations")

// Run checks, and writes its report to out. It returns ErrViolated if a promise
// was broken, and another error if it could not check.
func Run(ctx context.Context, cfg Config, out io.Writer, log *slog.Logger) error {
	cfg = cfg.withDefaults()
	p, err := newPlan(cfg)
	if err != nil {
		return err
	}
	if cfg.Cluster.Secured && cfg.Cluster.Broker == (cluster.KafkaFiles{}) {
		return errors.New("a secured Kafka needs one of our own, which `make services` installs")
	}
	if !cfg.Cluster.Secured && !slices.ContainsFunc(p.faults, func(i injection) bool { return i.kind.kafka }) {
		cfg.Cluster.Broker = cluster.KafkaFiles{}
	}
	if !slices.ContainsFunc(p.faults, func(i injection) bool { return i.kind.store }) {
		cfg.Cluster.Server = ""
	}
	report, err := checked(ctx, cfg, p, log)
	if ctx.Err() != nil {
		return fmt.Errorf("check was stopped: %w", context.Cause(ctx))
	}
	if err != nil {
		return err
	}
	return report.write(out)
}

// checked starts a cluster for a check, and ends it.
func checked(ctx context.Context, cfg Config, p *plan, log *slog.Logger) (*report, error) {
	if err := cfg.describe(); err != nil {
		return nil, err
	}
	c, err := cluster.Start(ctx, cfg.Cluster)
	if err != nil {
		return nil, err
	}
	r := &run{cfg: cfg, plan: p, cluster: c, log: log}
	report, err := stoppable(ctx, r.do)
	return report, cmp.Or(err, c.Close())
}

// stopLimit bounds how long a check that is stopped may take to end what is
// under way. Then its processes are killed all the same.
const stopLimit = 5 * time.Second

// stoppable is do, and returns soon after ctx ends.
func stoppable(ctx context.Context, do func(context.Context) (*report, error)) (report *report, err error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		report, err = do(ctx)
	}()
	select {
	case <-ended:
		return report, err
	case <-ctx.Done():
	}
	select {
	case <-ended:
	case <-time.After(stopLimit):
	}
	return nil, context.Cause(ctx)
}

// run is one check that is under way.
type run struct {
	cfg     Config
	plan    *plan
	cluster *cluster.Cluster
	log     *slog.Logger

	clock       judge.Clock
	events      judge.Events
	subscribers []*subscriber
	clients     []*client
	chains      chains
	load        *load
	faults      injector
	flows       flows
	changing    sync.RWMutex // for reading, while a subscriber changes its filters
	newest      newest
}

// tail is how long before the end the load stops: a lane that lost its end and
// then stays idle has to be filled again all the same.
const tail = 5 * time.Second

func (r *run) do(ctx context.Context) (*report, error) {
	r.faults.run = r
	var err error
	if r.load, err = newLoad(r); err != nil {
		return nil, err
	}
	defer r.load.close()
	if err := r.subscribe(ctx); err != nil {
		return nil, err
	}
	for i := range r.plan.clients {
		r.clients = append(r.clients, newClient(r, i))
	}
	home := make(chan struct{}) // closed when all clients are to come back and stay
	away, leave := context.WithCancel(ctx)
	var clients sync.WaitGroup
	defer func() {
		leave()
		clients.Wait()
	}()
	for _, c := range r.clients {
		clients.Go(func() { c.run(away, home) })
	}
	if err := r.disturb(ctx); err != nil {
		return nil, err
	}
	close(home)
	v, unready := r.settle(ctx)
	return r.report(v, unready), ctx.Err()
}

// disturb produces, changes filters, and injects faults, until their time is over.
func (r *run) disturb(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	over, stop := context.WithTimeout(ctx, r.cfg.Duration)
	defer stop()
	loaded, rest := context.WithTimeout(ctx, max(r.cfg.Duration-tail, r.cfg.Duration/2))
	defer rest()
	g.Go(func() error { return r.load.run(ctx, loaded) })
	for _, s := range r.subscribers {
		g.Go(func() error { return s.change(ctx, loaded) })
	}
	g.Go(func() error { return r.faults.inject(ctx, over) })
	g.Go(func() error { return r.watch(loaded) })
	return g.Wait()
}

// settle waits until everything outstanding has arrived, and judges. unready
// tells which process did not come back.
func (r *run) settle(ctx context.Context) (v judge.Verdict, unready error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Settle)
	defer cancel()
	unready = r.cluster.Ready(ctx)
	for {
		v = r.judge()
		if v.Lost == 0 || !pause(ctx, time.Second) {
			break
		}
	}
	pause(ctx, 2*time.Second) // for what should not come
	return r.judge(), unready
}

func (r *run) judge() judge.Verdict {
	c := judge.Case{Events: &r.events, Allowed: r.allowed}
	r.chains.mu.Lock()
	c.Chains = slices.Clone(r.chains.all)
	r.chains.mu.Unlock()
	return c.Judge()
}

// chains are what the clients saw, of all that there ever were.
type chains struct {
	mu  sync.Mutex
	all []*judge.Chain
}

func (r *run) judged(c *judge.Chain) {
	r.chains.mu.Lock()
	defer r.chains.mu.Unlock()
	r.chains.all = append(r.chains.all, c)
}

// allowed tells whether a client may be told of a gap. As a rule none may: all
// that was produced still stands in Kafka, but for what we have it lose.
func (r *run) allowed(g judge.Gap) bool {
	return r.faults.lostByKafka(g) || r.cfg.AllowGaps && r.faults.lostBefore(g.At)
}

// pause waits, and returns false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
