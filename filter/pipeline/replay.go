package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"eventstream/filter/index"
	"eventstream/internal/scan"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/topic"
	"eventstream/wire"
)

// replays is what all requests for events that Kafka still holds share: one scan
// of each partition.
type replays struct {
	*Service
	running atomic.Int64
	working chan struct{} // holds a token for each partition that is being matched: live events need the other CPUs
	bounds  shared[bounds]
	aged    shared[aged]
	known   atomic.Pointer[aged] // the last answer
	packers sync.Pool

	mu    sync.Mutex
	life  context.Context // ends with the service; nil before it runs
	scans map[int32]*scan.Scan[*ride, *matched]
}

const (
	tellEvery   = time.Second     // an asker hears at least this often how far its replay is
	syncTimeout = 5 * time.Second // for bringing the control stream up to date
	refuseFor   = 2 * time.Second // after which one who was refused is to ask again

	// A batch of one asker is at most maxBatch bytes, and its share of the memory
	// for all of them, but not less than minBatch.
	maxBatch = 256 << 10
	minBatch = 16 << 10
	// batchCopies is how often a batch is in memory at most: as events, packed, and
	// on its way.
	batchCopies = 3
)

func newReplays(s *Service) *replays {
	r := &replays{
		Service: s,
		working: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		packers: sync.Pool{New: func() any { return new(lane.Packer) }},
		scans:   make(map[int32]*scan.Scan[*ride, *matched]),
	}
	r.bounds.ask, r.aged.ask = r.askKafka, r.askAges
	return r
}

// Replay writes to w the events of r's range that match the subscriber's filters,
// as they are now. Each partition of Kafka is read once for all who ask. An asker
// that takes nothing holds up only itself.
func (s *Service) Replay(ctx context.Context, r replay.Request, w *replay.Writer) error {
	err := s.replays.serve(ctx, r, w)
	s.metrics.replayed(err)
	return err
}

func (s *replays) serve(ctx context.Context, r replay.Request, w *replay.Writer) error {
	if !s.cfg.Shard.Holds(r.Subscriber) {
		return fmt.Errorf("%w: this process serves shard %s", replay.ErrElsewhere, s.cfg.Shard)
	}
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	defer context.AfterFunc(ctx, w.Cut)()
	wants, err := s.wants(ctx, r.Subscriber)
	if err != nil {
		return err
	}
	p, err := s.plan(ctx, r)
	if err != nil {
		return err
	}
	if err := w.Begin(p.from, p.ends, p.lost); err != nil {
		return err
	}
	a := &asker{replays: s, wants: wants, w: w, left: s.cfg.ReplayMaxBytes}
	for partition := range p.from {
		a.times = timesOf(r, s.cfg.TimeSkew)
		if err := a.around(ctx, int32(partition), p); err != nil {
			return err
		}
	}
	return w.End()
}

// open lets requests in until ctx ends. What was read before was of another topic.
func (s *replays) open(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = ctx
	s.scans = make(map[int32]*scan.Scan[*ride, *matched])
	s.known.Store(nil)
}

// lifetime ends with the service. It is nil if that never ran.
func (s *replays) lifetime() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life
}

var errStopping = errors.New("the filter service is stopping")

// enter takes a place among those who are served. The context returned ends also
// with the service.
func (s *replays) enter(ctx context.Context) (context.Context, func(), error) {
	life := s.lifetime()
	if life == nil || !s.loaded.Load() {
		return nil, nil, replay.Busy(refuseFor, errors.New("filters are not loaded yet"))
	}
	if n := s.running.Add(1); n > int64(s.cfg.MaxReplays) {
		s.running.Add(-1)
		return nil, nil, replay.Busy(refuseFor, fmt.Errorf("%d replays are under way, which is the most", s.cfg.MaxReplays))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(life, func() { cancel(errStopping) })
	return ctx, func() {
		stop()
		cancel(nil)
		s.running.Add(-1)
	}, nil
}

// wants returns what a subscriber's filters ask for, once all that was changed
// before the call is applied.
func (s *replays) wants(ctx context.Context, subscriber string) ([]index.Portable, error) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	if _, err := s.follower.sync(ctx); err != nil {
		return nil, replay.Busy(refuseFor, err)
	}
	if err := s.routes.understood(); err != nil {
		return nil, replay.Busy(refuseFor, err)
	}
	return s.routes.wantedBy(subscriber), nil
}

// wantedBy returns the conditions of a subscriber's filters.
func (r *routes) wantedBy(subscriber string) []index.Portable {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.subscribers[subscriber]
	if s == nil {
		return nil
	}
	seen := make(map[*index.Condition]bool)
	var all []index.Portable
	for c := range s.wants.all() {
		if !seen[c] {
			seen[c] = true
			all = append(all, r.index.Export(c))
		}
	}
	return all
}

// batchBytes is how much one asker may take at a time.
func (s *replays) batchBytes() int {
	share := s.cfg.ReplayMemory / batchCopies / max(1, s.running.Load())
	return int(min(maxBatch, max(minBatch, share)))
}

// scanOf returns the scan of a partition.
func (s *replays) scanOf(partition int32) *scan.Scan[*ride, *matched] {
	s.mu.Lock()
	defer s.mu.Unlock()
	sc := s.scans[partition]
	if sc == nil {
		sc = scan.New(newRescan(s, partition))
		s.scans[partition] = sc
	}
	return sc
}

// asker is one who is served.
type asker struct {
	*replays
	wants []index.Portable
	times times       // of the partition that is passed on
	holes topic.Holes // in what was taken last
	w     *replay.Writer
	left  int64 // bytes of events that it may still be given
}

// pass passes on what matches in a range of one partition.
func (a *asker) pass(ctx context.Context, partition int32, from, to int64) error {
	if len(a.wants) == 0 {
		return context.Cause(ctx)
	}
	for from < to {
		if a.left <= 0 {
			lost := replay.Lost{Partition: partition, From: from, To: to, Reason: limitReason}
			return a.w.Batch(replay.Batch{Partition: partition, Next: to, Lost: &lost})
		}
		taken, err := a.take(ctx, partition, from, to)
		if err != nil {
			return err
		}
		if err := a.write(partition, taken); err != nil {
			return err
		}
		from = taken.Next
	}
	return nil
}

// take takes about a batch, and tells all the while how far it is.
func (a *asker) take(ctx context.Context, partition int32, from, to int64) (scan.Taken[*matched], error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		taken scan.Taken[*matched]
		err   error
	}
	done := make(chan result, 1)
	r := &ride{wants: a.wants, times: &a.times, from: from, to: to}
	r.passed.Store(from)
	go func() {
		taken, err := a.scanOf(partition).Take(ctx, r, from, to, int(min(int64(a.batchBytes()), a.left)))
		done <- result{taken, err}
	}()
	tell := time.NewTicker(tellEvery)
	defer tell.Stop()
	for {
		select {
		case got := <-done:
			if got.err == nil { // otherwise the ride may be under way still
				a.holes = r.holes
			}
			return got.taken, got.err
		case <-tell.C:
			if err := a.w.Batch(replay.Batch{Partition: partition, Next: r.passed.Load()}); err != nil {
				return scan.Taken[*matched]{}, err
			}
		}
	}
}

// write passes on what was taken.
func (a *asker) write(partition int32, taken scan.Taken[*matched]) error {
	p := a.packers.Get().(*lane.Packer)
	defer a.packers.Put(p)
	p.Reset()
	bytes := 0
	for _, ev := range taken.Events {
		p.Add(ev.offset, ev.timeMs, ev.data, nil)
		bytes += len(ev.data)
	}
	b := replay.Batch{Partition: partition, Next: taken.Next}
	if n := len(taken.Events); n > 0 {
		b.Entry = p.Bytes()
		a.left -= int64(bytes)
		a.metrics.replayEvents.Add(float64(n))
		a.metrics.replayBytes.Add(float64(bytes))
	}
	if taken.Lost != (scan.Range{}) {
		b.Lost = &replay.Lost{Partition: partition, From: taken.Lost.From, To: taken.Lost.To, Reason: trimmedReason}
	}
	clear(taken.Events)
	gone := a.compacted(partition, taken.Next)
	if b.Lost == nil {
		b.Lost, gone = gone, nil
	}
	if err := a.w.Batch(b); err != nil || gone == nil {
		return err
	}
	return a.w.Batch(replay.Batch{Partition: partition, Next: taken.Next, Lost: gone})
}

// compacted returns the range in which compaction took records of what was taken, or nil.
func (a *asker) compacted(partition int32, next int64) *replay.Lost {
	from, to := a.holes.From, min(a.holes.To, next)
	if from >= to {
		return nil
	}
	return &replay.Lost{Partition: partition, From: from, To: to, Reason: wire.GapCompacted}
}
