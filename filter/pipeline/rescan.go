package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter/index"
	"eventstream/internal/scan"
	"eventstream/topic"
)

// stepTimeout bounds how long Kafka may keep a scan waiting.
const stepTimeout = 20 * time.Second

// ride is an asker on one pass through a partition.
type ride struct {
	wants  []index.Portable
	times  *times
	from   int64
	to     int64
	passed atomic.Int64 // offsets below are done for good, although Take has not returned

	// Only the scan touches these.
	slot  index.Slot
	conds []*index.Condition
	holes topic.Holes // what compaction took, as far as the pass is
	full  bool        // it has no room left
	holds bool        // it has something that it can't be told of yet
}

// matched is an event that somebody asked for. Its data is a copy: what was
// fetched from Kafka is not kept for the sake of one event in it.
type matched struct {
	offset, timeMs int64
	data           []byte
}

// matchedOverhead is about what a matched event costs beside its data.
const matchedOverhead = 64

type passenger = scan.Request[*ride, *matched]

// rescan reads one partition for all who are aboard, each of whom has a slot in an
// index of their own.
type rescan struct {
	*replays
	partition int32
	index     *index.Index
	aboard    []*passenger // by slot; nil where nobody is
	free      []index.Slot
	n         int // aboard
	hungry    int // of them, with room left
	decoder   topic.Decoder
	matcher   index.Matcher

	// What was fetched last is kept for a moment: those who left because they had
	// no room left come back for the rest of it.
	kept   atomic.Pointer[fetched]
	forget *time.Timer
}

// fetched is what Kafka answered to a fetch at an offset.
type fetched struct {
	from int64
	topic.Past
}

// keepFor is how long the last fetch is kept when nobody reads.
const keepFor = 2 * time.Second

func newRescan(s *replays, partition int32) *rescan {
	return &rescan{replays: s, partition: partition, index: index.New(index.Options{})}
}

// Gather waits for those who come at about the same time: the longer the more there
// are, as a pass for each of them would cost the more.
func (l *rescan) Gather() {
	sleep(l.lifetime(), min(gatherMost, time.Duration(l.running.Load()-1)*gatherEach))
}

const (
	gatherEach = 200 * time.Microsecond
	gatherMost = 200 * time.Millisecond
)

// Board gives r a slot, and its conditions a place in the index.
func (l *rescan) Board(r *passenger) {
	ride := r.Key
	if n := len(l.free); n > 0 {
		ride.slot, l.free = l.free[n-1], l.free[:n-1]
	} else {
		ride.slot = index.Slot(len(l.aboard))
		l.aboard = append(l.aboard, nil)
	}
	l.aboard[ride.slot] = r
	l.n++
	for _, w := range ride.wants {
		c := l.index.InternPortable(w)
		l.index.Add(c, ride.slot)
		ride.conds = append(ride.conds, c)
	}
}

// Leave undoes Board.
func (l *rescan) Leave(r *passenger) {
	ride := r.Key
	for _, c := range ride.conds {
		l.index.Remove(c, ride.slot)
		l.index.Release(c)
	}
	l.aboard[ride.slot] = nil
	l.free = append(l.free, ride.slot)
	if l.n--; l.n == 0 { // what the index has grown to is not kept
		l.index, l.aboard, l.free, l.matcher = index.New(index.Options{}), nil, nil, index.Matcher{}
	}
}

// Step reads from an offset on what Kafka answers to one fetch, or until nobody
// has room left.
func (l *rescan) Step(ctx context.Context, from, to int64) (next, first int64, err error) {
	past, err := l.read(ctx, from)
	if err != nil {
		return 0, 0, err
	}
	next, first = past.Next, past.First
	l.working <- struct{}{}
	next, err = l.match(ctx, past.Records, next, to)
	<-l.working
	if err != nil {
		return 0, 0, err
	}
	for _, r := range l.aboard {
		if r == nil {
			continue
		}
		r.Key.times.look(past.Records, r.Key.from, min(next, r.Key.to))
		missed := r.Key.miss(past.Holes, next)
		if r.Key.holds = r.Key.holds || first > from || missed; !r.Key.holds {
			r.Key.pass(next)
		}
	}
	return next, first, nil
}

// miss adds to what compaction took. It reports whether there is any.
func (r *ride) miss(h topic.Holes, next int64) bool {
	if from, to := max(h.From, r.from), min(h.To, next, r.to); from < to {
		if r.holes.To == 0 {
			r.holes.From = from
		}
		r.holes.To = max(r.holes.To, to)
	}
	return r.holes.To > 0
}

// pass notes how far the pass is. The asker may begin later, and end earlier.
func (r *ride) pass(next int64) { r.passed.Store(max(r.passed.Load(), min(next, r.to))) }

// read returns what comes from an offset on.
func (l *rescan) read(ctx context.Context, from int64) (topic.Past, error) {
	if l.forget != nil {
		l.forget.Stop()
	}
	l.forget = time.AfterFunc(keepFor, func() { l.kept.Store(nil) })
	if k := l.kept.Load(); k != nil && from >= k.from && from < k.Next && k.First <= k.from {
		at, _ := slices.BinarySearchFunc(k.Records, from, func(r *kgo.Record, from int64) int { return cmp.Compare(r.Offset, from) })
		past := topic.Past{Records: k.Records[at:], Next: k.Next, First: k.First}
		if k.Holes.To > from {
			past.Holes = topic.Holes{From: max(k.Holes.From, from), To: k.Holes.To}
		}
		return past, nil
	}
	past, err := l.fetch(ctx, from)
	if err == nil {
		l.kept.Store(&fetched{from, past})
	}
	return past, err
}

func (l *rescan) fetch(ctx context.Context, from int64) (topic.Past, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	defer context.AfterFunc(l.lifetime(), cancel)()
	past, err := l.kafka.ReadAt(ctx, l.partition, from)
	if err != nil {
		return past, fmt.Errorf("replay: %w", err)
	}
	if len(past.Records) > 0 {
		past.First = min(past.First, from) // it may have been trimmed since
	}
	return past, nil
}

// match gives each record below to to those who asked for it. It returns where
// it stopped: at next, or earlier if nobody has room left, or if a record can't be read
// now. That is an error if it is the first.
func (l *rescan) match(ctx context.Context, records []*kgo.Record, next, to int64) (int64, error) {
	snapshot := l.index.Snapshot()
	l.hungry = l.n
	for i, r := range records {
		if r.Offset >= to {
			break
		}
		if err := l.give(ctx, snapshot, r); err != nil {
			l.metrics.replayRecords.Add(float64(i))
			if i == 0 {
				return 0, fmt.Errorf("replay: partition %d, offset %d: %w", l.partition, r.Offset, err)
			}
			return r.Offset, nil
		}
		if l.hungry == 0 {
			l.metrics.replayRecords.Add(float64(i + 1))
			return r.Offset + 1, nil
		}
	}
	l.metrics.replayRecords.Add(float64(len(records)))
	return next, nil
}

// give matches one record. What is no event is skipped: the worker that had it
// wrote it to the dead letters. It fails if that can't be told now. One whose schema the
// registry does not have was an event perhaps, before its schema was deleted: that is told.
func (l *rescan) give(ctx context.Context, s *index.Snapshot, r *kgo.Record) error {
	data, ev, err := l.cfg.Source.Decode(ctx, &l.decoder, r, s.Paths())
	if errors.Is(err, topic.ErrNotYet) {
		return err
	}
	if errors.Is(err, topic.ErrNoSchema) {
		l.metrics.replayNoSchema.Inc()
		if due(&l.toldNoSchema) {
			l.log.Warn("a replay passes over records whose schema the Schema Registry does not have; those that were events when they were new are missing in it",
				"partition", l.partition, "offset", r.Offset, "err", err)
		}
	}
	if err != nil {
		return nil
	}
	l.matcher.Match(s, ev)
	var shared *matched // the same for all
	for base, mask := range l.matcher.All() {
		for ; mask != 0; mask &= mask - 1 {
			p := l.aboard[int(base)+bits.TrailingZeros64(mask)]
			if !p.Wants(r.Offset) || !p.Key.times.has(r) {
				continue
			}
			if shared == nil {
				shared = &matched{r.Offset, r.Timestamp.UnixMilli(), bytes.Clone(data)}
			}
			p.Give(r.Offset, shared, len(data)+matchedOverhead)
			p.Key.holds = true
			if !p.Wants(r.Offset+1) && !p.Key.full {
				p.Key.full = true
				l.hungry--
			}
		}
	}
	return nil
}
