package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"eventstream/event"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/topic"
	"eventstream/wire"
)

const (
	trimmedReason = wire.GapTrimmed
	limitReason   = wire.GapLimit
	lostReason    = wire.GapLost

	agedFor = 10 * time.Second // how long what is in aged is good for
)

// bounds is where the partitions begin and end in Kafka.
type bounds struct {
	starts, ends topic.Offsets
	positions    []lane.Position // which know what is not passed on
}

// aged is what was known at a time of how old records may be.
type aged struct {
	at    time.Time
	limit topic.Offsets // the first offsets that are not too old to be served
	keeps time.Duration // what is not older than this has not been deleted
}

// plan is what a request comes to.
type plan struct {
	from, to  []int64 // what is read, by partition
	ends      []int64 // up to where it was asked for: beyond to if by a time
	lost      []replay.Lost
	positions []lane.Position // which know what is not passed on within the ranges
}

// plan finds out which offsets a request asks for, and which of them can be served.
func (s *replays) plan(ctx context.Context, r replay.Request) (plan, error) {
	if id := s.topic.Load().ID; r.Topic != (event.TopicID{}) && r.Topic != id {
		return plan{}, fmt.Errorf("%w: they are of topic %x, the topic is %x", replay.ErrOtherTopic, r.Topic, id)
	}
	w, err := s.window(ctx, r)
	if err != nil {
		return plan{}, replay.Busy(refuseFor, err)
	}
	n := int32(len(w.ends))
	if len(r.From) > int(n) {
		return plan{}, replay.Busy(refuseFor, fmt.Errorf("from names %d partitions; the topic is known to have %d", len(r.From), n))
	}
	p := plan{positions: w.bounds.positions}
	for partition := range n {
		if err := w.add(&p, r, partition); err != nil {
			return plan{}, err
		}
	}
	return p, nil
}

// window is what Kafka says about a request.
type window struct {
	bounds
	aged
	since  topic.Offsets // nil if offsets were given
	until  topic.Offsets // from where on nothing is from before until; nil if no time was given
	tops   topic.Offsets // nil if nothing is asked for that can't be read
	missed bool          // Kafka may have deleted records of since or later
}

func (s *replays) window(ctx context.Context, r replay.Request) (w window, err error) {
	if w.bounds, err = s.bounds.get(ctx); err != nil {
		return w, err
	}
	if w.aged, err = s.ages(ctx); err != nil {
		return w, err
	}
	if !r.Since.IsZero() && len(r.From) == 0 {
		if w.since, err = s.kafka.OffsetsAt(ctx, r.Since); err != nil {
			return w, err
		}
		w.missed = time.Since(r.Since) > w.keeps
	}
	if !r.Until.IsZero() {
		if w.until, err = s.kafka.OffsetsAt(ctx, r.Until.Add(s.cfg.TimeSkew)); err != nil {
			return w, err
		}
	}
	if w.beyond(r.From) || w.beyond(r.To) {
		w.tops, err = s.kafka.Tops(ctx)
	}
	return w, err
}

// beyond reports whether there is an offset past what can be read now.
func (w *window) beyond(offsets []int64) bool {
	for p, at := range offsets {
		if end, ok := w.ends[int32(p)]; ok && end.Err == nil && at > end.At {
			return true
		}
	}
	return false
}

// open reports whether an offset past the end of what can be read is below that of a
// transaction which is open: an earlier version of ours, or --kafka-isolation
// read_uncommitted, gave its events before that was known.
func (w *window) open(partition int32, at int64) bool {
	top, ok := w.tops[partition]
	return ok && (top.Err != nil || at <= top.At)
}

// add adds a partition to p.
func (w *window) add(p *plan, r replay.Request, partition int32) error {
	if err := w.unknown(partition); err != nil {
		if w.since == nil && len(r.To) > 0 {
			if from, to := w.asked(r, partition); from >= to { // nothing is wanted of it
				p.from, p.to, p.ends = append(p.from, to), append(p.to, to), append(p.ends, to)
				return nil
			}
		}
		return replay.Busy(refuseFor, fmt.Errorf("partition %d: %w", partition, err))
	}
	start, end := w.starts[partition].At, w.ends[partition].At
	from, to := w.asked(r, partition)
	if last := max(from, to); last > end && w.open(partition, last) {
		return replay.Busy(refuseFor, fmt.Errorf("partition %d: offsets up to %d are asked for, and from %d on it is not known whether they will be committed", partition, last, end))
	}
	if from > end && from >= to {
		return fmt.Errorf("%w: partition %d: offsets from %d to %d are asked for, and it ends at %d", replay.ErrBeyondEnd, partition, from, to, end)
	}
	if from < to && to > end { // the asker's lane had more than Kafka has now, and maybe so had its client
		p.lost = append(p.lost, replay.Lost{Partition: partition, From: end, To: to, Reason: lostReason})
		to = end
	}
	from = min(from, to)
	lose := func(below int64, reason string) {
		if below = min(below, to); from < below {
			p.lost = append(p.lost, replay.Lost{Partition: partition, From: from, To: below, Reason: reason})
			from = below
		}
	}
	if w.missed && from == start {
		from = 0 // which of them were of that time nobody knows
	}
	lose(start, trimmedReason)
	lose(w.limit[partition].At, limitReason)
	p.from, p.to, p.ends = append(p.from, from), append(p.to, to), append(p.ends, to)
	if w.until != nil {
		p.ends[partition] = max(to, end)
	}
	return nil
}

// unknown tells why Kafka does not say where a partition begins and ends, or nil.
func (w *window) unknown(partition int32) error {
	for _, said := range []topic.Offsets{w.starts, w.ends, w.limit, w.since, w.until} {
		if err := said[partition].Err; err != nil {
			return err
		}
	}
	return nil
}

// asked returns what is asked for of a partition.
func (w *window) asked(r replay.Request, partition int32) (from, to int64) {
	end := w.ends[partition].At
	switch {
	case w.since != nil:
		from = min(w.since[partition].At, end)
	case int(partition) < len(r.From):
		from = r.From[partition]
	} // a partition that was added later is asked for from 0 on
	switch {
	case w.until != nil:
		return from, min(w.until[partition].At, end)
	case int(partition) < len(r.To):
		return from, r.To[partition]
	case len(r.To) > 0:
		return from, from
	}
	return from, end
}

func (s *replays) ages(ctx context.Context) (aged, error) {
	if a := s.known.Load(); a != nil && time.Since(a.at) < agedFor {
		return *a, nil
	}
	return s.aged.get(ctx)
}

func (s *replays) askAges(ctx context.Context) (a aged, err error) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	a.at = time.Now()
	if a.limit, err = s.kafka.OffsetsAt(ctx, a.at.Add(-s.cfg.ReplayMaxAge)); err != nil {
		return a, err
	}
	if a.keeps, err = s.kafka.Keeps(ctx); errors.Is(err, topic.ErrDenied) {
		a.keeps, err = 0, nil // anything may have been deleted
	}
	if err == nil {
		s.known.Store(&a)
	}
	return a, err
}

// askKafka finds the bounds of all partitions. Ends come last: what was produced
// before the question is below them.
func (s *replays) askKafka(ctx context.Context) (b bounds, err error) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	if b.starts, err = s.kafka.Starts(ctx); err != nil {
		return b, err
	}
	if b.positions, err = s.lanes.Positions(ctx, s.cfg.Shard, s.topic.Load().Partitions); err != nil {
		return b, err
	}
	b.ends, err = s.kafka.Ends(ctx)
	for p, end := range b.ends {
		start, ok := b.starts[p]
		if start.Err != nil || end.Err != nil {
			continue
		}
		if !ok || start.At > end.At || int(p) >= len(b.ends) {
			return b, fmt.Errorf("partition %d is from %d to %d in Kafka, which can't be", p, start.At, end.At)
		}
	}
	return b, err
}

// shared answers a question that many ask: those who come while it is being asked
// share the next answer, which is from after all of them came.
type shared[T any] struct {
	ask func(context.Context) (T, error)

	mu      sync.Mutex
	waiting []chan<- answer[T]
	running bool
}

type answer[T any] struct {
	value T
	err   error
}

func (s *shared[T]) get(ctx context.Context) (value T, err error) {
	mine := make(chan answer[T], 1)
	s.mu.Lock()
	s.waiting = append(s.waiting, mine)
	start := !s.running
	s.running = true
	s.mu.Unlock()
	if start {
		go s.run()
	}
	select {
	case a := <-mine:
		return a.value, a.err
	case <-ctx.Done():
		return value, ctx.Err()
	}
}

func (s *shared[T]) run() {
	for {
		s.mu.Lock()
		waiting := s.waiting
		s.waiting = nil
		s.running = len(waiting) > 0
		s.mu.Unlock()
		if len(waiting) == 0 {
			return
		}
		value, err := s.ask(context.Background())
		for _, w := range waiting {
			w <- answer[T]{value, err}
		}
	}
}
