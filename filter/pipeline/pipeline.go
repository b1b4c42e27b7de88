// Package pipeline is the filter service: it takes events off Kafka, finds the
// active subscribers whose filters match, and appends each matched event once,
// with the addresses of its recipients, to the lane of its partition.
//
// Every change of a filter or of presence that was acknowledged before an event
// was produced is applied before that event is matched. Each offset is appended
// exactly once, whatever dies in between.
package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/ops"
	"eventstream/internal/trouble"
	"eventstream/internal/watchdog"
	"eventstream/lane"
	"eventstream/topic"
)

// Lanes is where matched events go.
type Lanes interface {
	Topic(ctx context.Context) (lane.Topic, error)
	SetTopic(ctx context.Context, t lane.Topic) error
	Claim(ctx context.Context, sh lane.Shard, p int32, id event.TopicID, start, end int64) (int64, error)
	Append(ctx context.Context, a lane.Append) (int64, error)
	Lose(ctx context.Context, sh lane.Shard, p int32, id event.TopicID, l lane.Loss) error
	Skips(ctx context.Context, sh lane.Shard, p int32) (lane.Skips, error)
	ForgetSkips(ctx context.Context, sh lane.Shard, p int32, id event.TopicID, offset int64) error
	Positions(ctx context.Context, sh lane.Shard, n int32) ([]lane.Position, error)
	Retire(ctx context.Context, sh lane.Shard, id event.TopicID, n int32, keep time.Duration) error
}

// Store is Lanes and Control: Redis, or memory.
type Store interface {
	Lanes
	Control
}

// Filters is where the filters of all subscribers are kept.
type Filters interface {
	// Estimate tells about how many filters there are. It may be far from the truth.
	Estimate(ctx context.Context) (int, error)
	// Load passes on every filter of one snapshot. Mark is where ChangesSince goes on.
	Load(ctx context.Context, each func(filter.Filter) error) (filter.Mark, error)
	// ChangesSince passes on what changed since, at least once and skipping nothing.
	ChangesSince(ctx context.Context, m filter.Mark, each func(filter.Change) error) (filter.Mark, error)
	// Fingerprint returns that of the filters of subscribers that holds holds, or of all; nil
	// if it can't be trusted now.
	Fingerprint(ctx context.Context, holds func(subscriber string) bool) (*filter.Fingerprint, error)
	// LoadRanges passes on what changed since m, and then the filters in the ranges, of one snapshot.
	LoadRanges(ctx context.Context, m filter.Mark, ranges []int32, changed func(filter.Change) error, each func(filter.Filter) error) error
	// Owner and SetOwner are for services of one topic to keep those of others away. SetOwner
	// does nothing if it is not before's any more.
	Owner(ctx context.Context) (filter.Owner, error)
	SetOwner(ctx context.Context, topic event.TopicID, name string, before filter.Owner) (now filter.Owner, err error)
}

// Kafka is where events come from.
type Kafka interface {
	// Name is the topic's.
	Name() string
	// Ensure waits until Kafka and the topic are there. If make is set, a topic that is
	// missing is made.
	Ensure(ctx context.Context, make bool) (topic.Info, error)
	// Members tells how many share the partitions, us included while Run runs.
	Members(ctx context.Context) (int, error)
	Run(ctx context.Context, work func(context.Context, *topic.Partition) error) error
	// Range and Ends don't fail for what concerns other partitions, or one: that fails
	// with topic.ErrNoLeader.
	Range(ctx context.Context, partition int32, since time.Time) (topic.Range, error)
	Ends(ctx context.Context) (topic.Offsets, error)
	Tops(ctx context.Context) (topic.Offsets, error)

	// For replays.
	Starts(ctx context.Context) (topic.Offsets, error)
	OffsetsAt(ctx context.Context, t time.Time) (topic.Offsets, error)
	Keeps(ctx context.Context) (time.Duration, error)
	ReadAt(ctx context.Context, partition int32, from int64) (topic.Past, error)
}

// DeadLetters takes what is no event.
type DeadLetters interface {
	// DeadLetters waits until all are written, and sets the Err of each that was not.
	DeadLetters(ctx context.Context, letters []topic.Letter)
}

// Config holds what an operator may set. The zero value works.
type Config struct {
	Shard         lane.Shard    // the subscribers to serve; all if zero
	Retention     time.Duration // how long lanes hold events; 10 min if zero
	MaxLaneBytes  int64         // cap of one lane; 256 MiB if zero
	Interval      time.Duration // between two appends of a busy partition; 5 ms if zero
	MaxEntry      int           // bytes of one lane entry, about; 64 KiB if zero
	VerifyEvery   time.Duration // an idle partition looks whether the store lost writes; 1 s if zero
	Reconcile     time.Duration // between two looks for changes in the filter store; 2 s if zero
	Compare       time.Duration // between two comparisons of all filters with the store, about; 5 min if zero, never if negative
	AnnounceGrace time.Duration // for gateways to see that the store lost their seats; 2.5 s if zero
	LeaveAfter    time.Duration // without an answer of the store; then partitions are left to others in the group; 10 s if zero
	Silence       time.Duration // after which lanes that don't beat are taken for abandoned; 5 s if zero

	ReplayMaxAge   time.Duration // older events are not replayed; 24 h if zero
	TimeSkew       time.Duration // by which times of a partition's records may be out of order; 1 h if zero, negative if they are in order
	ReplayMaxBytes int64         // of the events of one replay; 1 GiB if zero
	ReplayMemory   int64         // for all replays, about; 256 MiB if zero
	MaxReplays     int           // at once; 4096 if zero

	Source *topic.Source // how records are read as events; as JSON and CloudEvents if nil

	compareShare int // see comparing; 100 if zero
}

// refreshTimeout bounds how long a look for changes in the filter store may get
// nowhere. A million changes at once take longer, but they come one by one.
const refreshTimeout = 5 * time.Second

// Service is the filter service.
type Service struct {
	cfg      Config
	lanes    Store
	filters  Filters
	kafka    Kafka
	dead     DeadLetters
	routes   *routes
	follower *follower
	replays  *replays
	metrics  *metrics
	log      *slog.Logger

	watchdog    *watchdog.Watchdog
	reconciling *watchdog.Part
	comparing   comparing
	owner       ownership
	taken       atomic.Pointer[error] // whose the filter store is, if not ours

	topic  atomic.Pointer[lane.Topic] // set by find
	fresh  fresh                      // partitions that were added to it
	loaded atomic.Bool
	away   atomic.Bool           // from the group; see leave.go
	delay  atomic.Pointer[error] // why it isn't loaded yet

	letters      *letters
	toldCostly   atomic.Int64 // when the log was told of a costly event last, Unix nanoseconds
	toldNoSchema atomic.Int64 // the same of a replay that passed over a record without a schema

	explaining chan struct{} // has an item for each question under way; see Explain
	catching   chan struct{} // has one item while somebody catches up

	mu          sync.Mutex
	mark        filter.Mark
	topics      []event.TopicID // those that ours is in the place of, and ours
	assignments map[int32]*assignment
}

// New returns a Service. It does no I/O: Run does.
func New(cfg Config, s Store, f Filters, k Kafka, d DeadLetters, reg prometheus.Registerer, log *slog.Logger) *Service {
	cfg.Retention = cmp.Or(cfg.Retention, 10*time.Minute)
	cfg.MaxLaneBytes = cmp.Or(cfg.MaxLaneBytes, 256<<20)
	cfg.Interval = cmp.Or(cfg.Interval, 5*time.Millisecond)
	cfg.MaxEntry = cmp.Or(cfg.MaxEntry, 64<<10)
	cfg.VerifyEvery = cmp.Or(cfg.VerifyEvery, time.Second)
	cfg.Reconcile = cmp.Or(cfg.Reconcile, 2*time.Second)
	cfg.Compare = cmp.Or(cfg.Compare, 5*time.Minute)
	cfg.compareShare = cmp.Or(cfg.compareShare, 100)
	cfg.AnnounceGrace = cmp.Or(cfg.AnnounceGrace, 2500*time.Millisecond)
	cfg.LeaveAfter = cmp.Or(cfg.LeaveAfter, 10*time.Second)
	cfg.Silence = cmp.Or(cfg.Silence, 5*time.Second)
	cfg.ReplayMaxAge = cmp.Or(cfg.ReplayMaxAge, 24*time.Hour)
	cfg.TimeSkew = max(cmp.Or(cfg.TimeSkew, time.Hour), 0)
	cfg.ReplayMaxBytes = cmp.Or(cfg.ReplayMaxBytes, 1<<30)
	cfg.ReplayMemory = cmp.Or(cfg.ReplayMemory, 256<<20)
	cfg.MaxReplays = cmp.Or(cfg.MaxReplays, 4096)
	svc := &Service{
		cfg: cfg, lanes: s, filters: f, kafka: k, dead: d, routes: newRoutes(cfg.Shard), log: log,
		catching: make(chan struct{}, 1), explaining: make(chan struct{}, explainsAtOnce), assignments: make(map[int32]*assignment),
	}
	svc.replays = newReplays(svc)
	svc.metrics = newMetrics(reg, svc.routes, &svc.replays.running)
	svc.letters = newLetters(svc.metrics.deadLettersDenied, log)
	svc.follower = newFollower(s, svc.routes, svc.catchUp, cfg.AnnounceGrace, svc.metrics, log)
	svc.comparing.every, svc.comparing.share = cfg.Compare, cfg.compareShare
	svc.comparing.trouble = trouble.New(log, "filters can't be compared with the filter store; trying again later", "filters can be compared with the filter store again")
	svc.comparing.next.Store(svc.comparing.after(0))
	svc.watchdog = watchdog.New(log)
	svc.follower.pulse = svc.watchdog.Loop("the control stream's reader")
	svc.reconciling = svc.watchdog.Loop("the look for changed filters")
	svc.watchdog.Lock("the lock of filters and seats", &svc.routes.mu)
	svc.watchdog.Lock("the lock of assigned partitions", &svc.mu)
	return svc
}

// Run serves until ctx ends. What it depends on may be down at the start and
// may go away later: it waits and says so.
func (s *Service) Run(ctx context.Context) error {
	if err := s.load(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	for {
		err := s.serve(ctx)
		s.loaded.Store(false)
		if ctx.Err() != nil || !errors.Is(err, topic.ErrTopicGone) {
			return err
		}
		// Whoever deletes the topic may want to make it anew by hand: we don't.
		s.log.Error("the topic was deleted; waiting until there is one of its name again", "topic", s.kafka.Name())
		if err := s.find(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		s.log.Info("there is a topic again", "partitions", s.topic.Load().Partitions)
		s.loaded.Store(true)
	}
}

// serve does the work until ctx ends, or the topic is gone.
func (s *Service) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	s.replays.open(ctx)
	g.Go(func() error { return s.watchdog.Run(ctx) })
	g.Go(func() error { return s.follower.run(ctx) })
	g.Go(func() error {
		s.retry(ctx, "read presence", func() error { return s.prepare(ctx) })
		return s.consume(ctx)
	})
	g.Go(func() error { return s.reconcile(ctx) })
	g.Go(func() error { return s.keepOwning(ctx) })
	return g.Wait()
}

// load finds the topic, and reads all filters, however long it takes.
func (s *Service) load(ctx context.Context) error {
	if err := s.find(ctx); err != nil {
		return err
	}
	began := time.Now()
	s.retry(ctx, "load filters", func() error { return s.loadFilters(ctx) })
	s.retry(ctx, "use the filter store", func() error { return s.own(ctx) })
	if ctx.Err() == nil {
		n := s.routes.counts()
		s.log.Info("filters loaded", "filters", n.filters, "different", n.conditions, "took", time.Since(began).Round(time.Millisecond))
		s.loaded.Store(true)
	}
	return ctx.Err()
}

// prepare waits until presence is read, if others are in the group: the partitions
// that they leave to us would stand still until then.
func (s *Service) prepare(ctx context.Context) error {
	members, err := s.kafka.Members(ctx)
	if err == nil && members > 0 {
		_, err = s.follower.sync(ctx)
	}
	return err
}

// retry tries until it works or ctx ends.
func (s *Service) retry(ctx context.Context, what string, try func() error) {
	waiting := trouble.New(s.log, "not ready yet; retrying", "what was waited for works now: "+what)
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := try()
		if err == nil {
			waiting.Worked()
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		err = fmt.Errorf("can't %s: %w", what, err)
		s.delay.Store(&err)
		waiting.Failed(err, "in", wait)
		if sleep(ctx, wait) != nil {
			return
		}
	}
}

// loadFilters reads all filters, however long it takes, and takes what it reads for the
// truth: see watch.
func (s *Service) loadFilters(ctx context.Context) error {
	about, err := s.filters.Estimate(ctx)
	if err != nil {
		return err
	}
	s.routes.expect(about / max(int(s.cfg.Shard.Of), 1))
	w, read := s.routes.watch(nil), s.routes.reading()
	defer s.routes.unwatch(w)
	var mark filter.Mark
	err = s.unlessStalled(ctx, func(ctx context.Context, moves func()) (err error) {
		mark, err = s.filters.Load(ctx, func(f filter.Filter) error {
			moves()
			s.routes.take(w, f)
			return nil
		})
		return err
	})
	read(err)
	if err != nil {
		return err
	}
	s.routes.dropStale(w)
	s.setMark(mark)
	return nil
}

// refresh brings in the filters that changed in the store.
func (s *Service) refresh(ctx context.Context) error {
	s.mu.Lock()
	mark := s.mark
	s.mu.Unlock()
	changed, read := false, s.routes.reading()
	err := s.unlessStalled(ctx, func(ctx context.Context, moves func()) (err error) {
		mark, err = s.filters.ChangesSince(ctx, mark, func(c filter.Change) error {
			moves()
			s.routes.setFilter(c)
			changed = true
			return nil
		})
		return err
	})
	if changed {
		s.routes.publish()
	}
	read(err)
	if err != nil {
		return err
	}
	s.setMark(mark)
	return nil
}

// unlessStalled ends a read of the filter store for which no filter comes for
// refreshTimeout. read has to call moves for each.
func (s *Service) unlessStalled(ctx context.Context, read func(ctx context.Context, moves func()) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(refreshTimeout, func() { cancel(context.DeadlineExceeded) })
	defer stalled.Stop()
	err := read(ctx, func() {
		stalled.Reset(refreshTimeout)
		s.follower.pulse.Beat() // either of them reads, and the other may wait for it
		s.reconciling.Beat()
	})
	if err != nil && context.Cause(ctx) == context.DeadlineExceeded {
		err = fmt.Errorf("no filter came for %v: %w", refreshTimeout, context.DeadlineExceeded)
	}
	return err
}

// catchUp is refresh, or loadFilters if the store has forgotten what changed. Of two
// at the same time, the second has only to read what came since the first began.
func (s *Service) catchUp(ctx context.Context) error {
	select {
	case s.catching <- struct{}{}:
		defer func() { <-s.catching }()
	case <-ctx.Done():
		return ctx.Err()
	}
	err := s.refresh(ctx)
	if errors.Is(err, filter.ErrMarkLost) {
		s.log.Warn("filter store was restarted, is another one, or has forgotten what changed; loading all filters again")
		if err = s.loadFilters(ctx); err == nil {
			s.comparing.soon() // what was on its way from before may have come after it
		}
	}
	return err
}

func (s *Service) setMark(m filter.Mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark = m
}

// reconcile heals what an API process that died between its commit and its
// word on the control stream left behind. It ends when the subscribers have been
// divided in another way.
func (s *Service) reconcile(ctx context.Context) error {
	reading := trouble.New(s.log, "filter store can't be read; matching goes on with the filters known", "filter store is back")
	for sleep(ctx, s.cfg.Reconcile) == nil {
		s.reconciling.Beat()
		err := s.catchUp(ctx)
		if ctx.Err() != nil {
			break
		}
		reading.Saw(err)
		if err == nil {
			s.compare(ctx)
		}
		s.routes.prune(time.Now().Add(-time.Hour))
		if err := s.announce(ctx, 0); (errors.Is(err, errShards) || errors.Is(err, topic.ErrTopicGone)) && ctx.Err() == nil {
			return err
		}
		if s.failing() && s.gone(ctx) {
			return topic.ErrTopicGone
		}
	}
	return nil
}

// Alive tells which part of the service is stuck, or nil: then the process has to
// be ended.
func (s *Service) Alive() error { return s.watchdog.Alive() }

// Ready tells why the service does not do its work, or nil.
func (s *Service) Ready(ctx context.Context) error {
	if !s.loaded.Load() {
		if err := s.delay.Load(); err != nil {
			return *err
		}
		return errors.New("waiting for Kafka, Redis and the filter store; filters are not loaded yet")
	}
	if s.away.Load() {
		return errAway
	}
	if _, err := s.follower.sync(ctx); err != nil {
		return err
	}
	if err := s.routes.understood(); err != nil {
		return err
	}
	s.mu.Lock()
	all := slices.SortedFunc(maps.Values(s.assignments), func(a, b *assignment) int { return cmp.Compare(a.part.ID, b.part.ID) })
	s.mu.Unlock()
	before := make([]int64, len(all))
	for i, a := range all {
		before[i] = a.position()
	}
	ends, err := s.kafka.Ends(ctx)
	if err != nil {
		return err
	}
	for i, a := range all {
		end := ends[a.part.ID]
		if end.Err != nil {
			end.At = before[i]
		}
		if err := a.check(before[i], end.At, time.Now()); err != nil {
			return err
		}
	}
	if err := unled(ends); err != nil {
		return err
	}
	if taken := s.taken.Load(); taken != nil {
		return ops.Degraded(*taken)
	}
	return s.letters.check()
}

// unled tells which partitions have no leader. The others go on; if there are none,
// nothing does.
func unled(ends topic.Offsets) error {
	var which []int32
	for p, end := range ends {
		if errors.Is(end.Err, topic.ErrNoLeader) {
			which = append(which, p)
		} else if end.Err != nil {
			return fmt.Errorf("partition %d: %w", p, end.Err)
		}
	}
	slices.Sort(which)
	switch {
	case len(which) == 0:
		return nil
	case len(which) == len(ends):
		return errors.New("no partition of the topic has a leader that answers")
	}
	return ops.Degraded(fmt.Errorf("no leader answers for partitions %v: their events wait in Kafka, and the other %d go on", which, len(ends)-len(which)))
}
