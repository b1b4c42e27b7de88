package check

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"eventstream/internal/check/cluster"
	"eventstream/internal/check/judge"
)

// injection is one fault of the plan.
type injection struct {
	kind kind
	at   time.Duration // since the start
	hold time.Duration
	seed uint64 // of what is drawn when it comes, such as whom it befalls
}

func (i injection) String() string {
	return fmt.Sprintf("%s at %s for %s", i.kind.name, i.at.Round(time.Millisecond), i.hold.Round(time.Millisecond))
}

// drawFaults makes up the schedule. Every kind comes before any comes again, unless there
// is no time left for it.
func drawFaults(cfg Config, rng *rand.Rand) ([]injection, error) {
	from, err := chosen(cfg.Faults, &cfg.Cluster)
	if err != nil || len(from) == 0 {
		return nil, err
	}
	var all []injection
	var left []kind
	for at := between(rng, time.Second, 3*time.Second); at < cfg.Duration-time.Second; {
		if len(left) == 0 {
			left = slices.Clone(from)
			rng.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		}
		next := slices.IndexFunc(left, func(k kind) bool { return at+k.takes < cfg.Duration })
		if next < 0 && len(left) == len(from) {
			break
		}
		if next < 0 {
			left = nil
			continue
		}
		i := injection{kind: left[next], at: at, seed: rng.Uint64()}
		left = slices.Delete(left, next, next+1)
		if i.kind.long > 0 {
			i.hold = between(rng, i.kind.least, i.kind.long)
		}
		all = append(all, i)
		at += between(rng, 300*time.Millisecond, 3500*time.Millisecond)
	}
	return all, nil
}

// injector injects the faults of the plan. At most three are under way at once;
// of those on the same part the second waits.
type injector struct {
	run *run

	mu      sync.Mutex
	changed sync.Cond    // signalled when turn or taken changes
	turn    int          // number of the fault that may begin next
	taken   map[any]bool // parts that a fault is busy with
	faults  []*fault     // that have begun, in order
	losses  []loss       // of Kafka
}

const maxFaults = 3

// fault is one fault as it happens.
type fault struct {
	injection
	n     int // in the plan
	check *run
	rng   *rand.Rand

	// By the injector's mu.
	target string
	began  judge.Seq // 0 if it has not
	over   judge.Seq // Never if it is not
	ended  time.Time // zero if it has not
	err    error     // the part it befell did not come back
}

// inject injects faults until their time is over, and waits until all is healed.
func (in *injector) inject(ctx, over context.Context) error {
	in.taken, in.changed.L = make(map[any]bool), &in.mu
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	until, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(over, stop)()
	g.SetLimit(maxFaults)
	for n, i := range in.run.plan.faults {
		if !pause(until, i.at-time.Since(began)) {
			break
		}
		g.Go(func() error {
			return in.one(ctx, &fault{injection: i, n: n, check: in.run, rng: rand.New(rand.NewPCG(i.seed, 0)), over: judge.Never})
		})
	}
	<-until.Done()
	return g.Wait()
}

const (
	// faultLimit bounds how long a fault takes beyond what it holds: the wait for
	// its part, and for that to be ready again.
	faultLimit = 2 * time.Minute
	// hungAfter is how long what a fault does may go on after its context has ended.
	hungAfter = 10 * time.Second
)

// one injects one fault and waits until it is healed. One that hangs ends the check.
func (in *injector) one(ctx context.Context, f *fault) error {
	ctx, cancel := context.WithTimeout(ctx, f.hold+faultLimit)
	defer cancel()
	healed := make(chan error, 1)
	go func() {
		err := f.kind.do(ctx, f)
		f.lock()() // one that took nothing passes its turn on
		healed <- err
	}()
	var err error
	select {
	case err = <-healed:
	case <-ctx.Done():
		select {
		case err = <-healed:
		case <-time.After(hungAfter):
			return in.run.hung(fmt.Sprintf("fault %s, number %d,", f.kind.name, f.n))
		}
	}
	in.ended(f, err)
	return nil
}

func (in *injector) ended(f *fault, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	f.over, f.ended, f.err = in.run.clock.Now(), time.Now(), err
	if err != nil {
		in.run.log.Error("fault did not heal", "kind", f.kind.name, "target", f.target, "err", err)
	}
}

// begins notes that the fault begins now.
func (f *fault) begins(target string) {
	in := &f.check.faults
	in.mu.Lock()
	defer in.mu.Unlock()
	f.target, f.began = strings.TrimSpace(target), f.check.clock.Now()
	in.faults = append(in.faults, f)
	in.run.flows.faults.moved()
	f.check.log.Info("fault", "kind", f.kind.name, "target", f.target, "for", f.hold.Round(time.Millisecond), "seq", f.began)
}

// disturbed tells whether another fault has kept a server away at some time since.
func (f *fault) disturbed(since time.Time) bool {
	in := &f.check.faults
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.ContainsFunc(in.faults, func(other *fault) bool {
		server, _, _ := strings.Cut(other.kind.name, "-")
		return other != f && slices.Contains([]string{"kafka", "redis", "postgres"}, server) && (other.ended.IsZero() || other.ended.After(since))
	})
}

// lostBefore tells whether Redis lost what it held at some time before.
func (in *injector) lostBefore(at judge.Seq) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.ContainsFunc(in.faults, func(f *fault) bool { return f.kind.loses && f.began < at })
}

// take picks one of the services and keeps other faults from it, until free is called.
func (f *fault) take(of which) (s *cluster.Service, free func()) {
	for {
		all := of(f.check.cluster)
		s = all[f.rng.IntN(len(all))]
		free = f.lock(s)
		if slices.Contains(of(f.check.cluster), s) {
			return s, free
		}
		free() // it has left meanwhile
	}
}

// takeSome picks two or more.
func (f *fault) takeSome(of which) (some []*cluster.Service, free func()) {
	all := slices.Clone(of(f.check.cluster))
	f.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return f.takeThese(of, all[:min(len(all), 2+f.rng.IntN(len(all)))])
}

func (f *fault) takeAll(of which) (all []*cluster.Service, free func()) {
	return f.takeThese(of, of(f.check.cluster))
}

// takeThese takes those that are still there, and more.
func (f *fault) takeThese(of which, some []*cluster.Service, more ...any) (taken []*cluster.Service, free func()) {
	keys := make([]any, len(some))
	for i, s := range some {
		keys[i] = s
	}
	free = f.lock(append(keys, more...)...)
	still := of(f.check.cluster)
	return slices.DeleteFunc(slices.Clone(some), func(s *cluster.Service) bool { return !slices.Contains(still, s) }), free
}

// takeRedis picks one of the nodes, if there are several.
func (f *fault) takeRedis() (r *cluster.Redis, free func()) {
	r = pick(f.rng, f.check.cluster.Redis())
	return r, f.lock(r)
}

func (f *fault) takeKafka() (k *cluster.Kafka, free func()) {
	k = f.check.cluster.Broker()
	free = f.lock(k)
	f.begins("kafka")
	return k, free
}

// lock waits for its turn, and until all of the parts are free, and takes them all
// at once. Faults begin in the order of the plan.
func (f *fault) lock(parts ...any) (unlock func()) {
	in := &f.check.faults
	in.mu.Lock()
	defer in.mu.Unlock()
	busy := func(p any) bool { return in.taken[p] }
	for in.turn < f.n || slices.ContainsFunc(parts, busy) {
		in.changed.Wait()
	}
	for _, p := range parts {
		in.taken[p] = true
	}
	in.turn = max(in.turn, f.n+1)
	in.changed.Broadcast()
	return func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		for _, p := range parts {
			delete(in.taken, p)
		}
		in.changed.Broadcast()
	}
}
