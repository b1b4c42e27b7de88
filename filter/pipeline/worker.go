package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/lane"
	"eventstream/topic"
)

// worker does one partition: it takes what waits, matches it, and appends the
// matches to the partition's lane. Redis, not the Kafka commit, says how far the
// partition is done; an error ends the worker, and the next one asks again.
type worker struct {
	*Service
	part     *topic.Partition
	log      *slog.Logger
	next     int64 // every offset below is done
	decoder  event.Decoder
	resolver *resolver
	packer   lane.Packer
	marks    []mark // ascending
	bytes    int64  // appended so far
}

// mark remembers how far a partition was at a time, for trimming.
type mark struct {
	at    time.Time
	next  int64
	bytes int64
}

// work is called for each assigned partition.
func (s *Service) work(ctx context.Context, p *topic.Partition) error {
	w := &worker{
		Service: s, part: p, log: s.log.With("lane", p.ID), resolver: s.routes.newResolver(),
	}
	if err := w.claim(ctx); err != nil {
		return err
	}
	defer s.metrics.unassigned(p.ID)
	w.log.Debug("partition assigned", "pos", w.next)
	for ctx.Err() == nil {
		records, err := p.Next(ctx, s.cfg.VerifyEvery)
		if err != nil {
			break // ctx ended
		}
		began := time.Now()
		if err := w.step(ctx, records); err != nil && ctx.Err() == nil {
			return err
		}
		if len(records) > 0 {
			// Records that come while we wait share the next entry. The first
			// after a pause finds nobody waiting and goes at once.
			sleep(ctx, s.cfg.Interval-time.Since(began))
		}
	}
	return nil
}

// claim asks Redis how far the partition is done and reads on from there. A
// store that knows nothing of it is filled from the retention window on.
func (w *worker) claim(ctx context.Context) error {
	if _, err := w.follower.sync(ctx); err != nil {
		return err
	}
	start, err := w.kafka.OffsetAt(ctx, w.part.ID, time.Now().Add(-w.cfg.Retention))
	if err != nil {
		return fmt.Errorf("find the offset of the retention window: %w", err)
	}
	next, err := w.lanes.Claim(ctx, w.part.ID, w.topic.ID, start)
	if err != nil {
		w.metrics.redisFailures.Inc()
		return fmt.Errorf("claim lane: %w", err)
	}
	w.next = next
	w.marks = append(w.marks[:0], mark{at: time.Now(), next: next, bytes: w.bytes})
	w.part.SeekTo(next)
	return nil
}

// step matches records and appends what matched. Without records it verifies
// that the store still is where we left it: an idle partition whose last writes
// were lost would otherwise never be filled again.
func (w *worker) step(ctx context.Context, records []*kgo.Record) error {
	at, err := w.follower.sync(ctx) // after the batch, before the match: read your writes
	if err != nil {
		return err
	}
	if len(records) == 0 {
		_, err := w.append(ctx, w.next, at)
		return err
	}
	w.packer.Reset()
	for _, r := range records {
		if r.Offset < w.next {
			continue
		}
		if err := w.add(ctx, r); err != nil {
			return err
		}
		if w.packer.Len() >= w.cfg.MaxEntry {
			if ok, err := w.append(ctx, r.Offset+1, at); err != nil || !ok {
				return err
			}
		}
	}
	last := records[len(records)-1].Offset + 1
	if last > w.next {
		if ok, err := w.append(ctx, last, at); err != nil || !ok {
			return err
		}
	}
	w.metrics.lag(w.part.ID, w.part.HighWatermark()-w.next)
	return nil
}

// add matches one record. What is no event goes to the dead-letter topic, and
// is done only when that has it.
func (w *worker) add(ctx context.Context, r *kgo.Record) error {
	w.metrics.read.Inc()
	if r.Value == nil {
		w.metrics.tombstones.Inc()
		return nil
	}
	data, err := topic.Value(r)
	var ev *event.Event
	if err == nil {
		ev, err = w.decoder.Decode(data)
	}
	if err != nil {
		w.metrics.deadLetters.Inc()
		if err := w.dead.DeadLetter(ctx, r, "decode", err); err != nil {
			return fmt.Errorf("dead-letter offset %d: %w", r.Offset, err)
		}
		return nil
	}
	w.routes.mu.RLock()
	groups, seats := w.resolver.recipients(ev)
	w.routes.mu.RUnlock()
	if seats > 0 {
		w.metrics.matched.Inc()
		w.metrics.routed.Add(float64(seats))
		w.packer.Add(r.Offset, r.Timestamp.UnixMilli(), data, groups)
	}
	return nil
}

// append moves the partition to next, with the packed events. It returns false
// when the store was elsewhere: then nothing was appended and we go on from
// where the store is.
func (w *worker) append(ctx context.Context, next int64, at lane.ControlID) (ok bool, err error) {
	a := lane.Append{
		Partition: w.part.ID, Topic: w.topic.ID,
		Expect: w.next, Next: next, TrimBefore: w.trimBefore(), Synced: at,
	}
	if w.packer.Count() > 0 {
		a.Entry, a.Last = w.packer.Bytes(), w.packer.Last()
	}
	began := time.Now()
	got, err := w.lanes.Append(ctx, a)
	if err != nil {
		w.metrics.redisFailures.Inc()
		return false, fmt.Errorf("append to lane: %w", err)
	}
	if got != next {
		w.log.Warn("lane is not where it was left; going on from there", "pos", w.next, "found", got)
		if got < w.next {
			w.follower.doubt()
		}
		w.packer.Reset()
		return false, w.claim(ctx)
	}
	w.metrics.appendSeconds.Observe(time.Since(began).Seconds())
	w.bytes += int64(len(a.Entry))
	w.packer.Reset()
	w.next = next
	w.part.Done(next)
	w.beat()
	return true, nil
}

// trimBefore returns the offset below which the lane may be trimmed: what is
// older than the retention, and what exceeds the cap in bytes.
func (w *worker) trimBefore() int64 {
	const grain = 10 * time.Second
	now := time.Now()
	if now.Sub(w.marks[len(w.marks)-1].at) >= min(grain, w.cfg.Retention/10) {
		w.marks = append(w.marks, mark{at: now, next: w.next, bytes: w.bytes})
	}
	n := 0 // marks that are past retention, but for the newest of them
	for n+1 < len(w.marks) && w.expired(w.marks[n+1], now) {
		n++
	}
	w.marks = w.marks[n:]
	if w.expired(w.marks[0], now) {
		return w.marks[0].next
	}
	return 0
}

func (w *worker) expired(m mark, now time.Time) bool {
	return now.Sub(m.at) > w.cfg.Retention || w.bytes-m.bytes > w.cfg.MaxLaneBytes
}
