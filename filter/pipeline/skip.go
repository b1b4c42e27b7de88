package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"eventstream/lane"
	"eventstream/replay"
	"eventstream/wire"
)

// An operator can have a lane pass over offsets: a range that stands in its position
// (lane.Skip). Nothing of it is matched or delivered, live or by a replay, and clients are
// told of it as a gap. Whoever appends without knowing of it is refused, so that it holds
// from the moment it was noted.

// readSkips takes up what the lane is to pass over. It reports whether that is news.
func (w *worker) readSkips(ctx context.Context) (changed bool, err error) {
	skips, err := w.lanes.Skips(ctx, w.cfg.Shard, w.part.ID)
	if err != nil {
		return false, w.storeFailed("read what is to be passed over", err)
	}
	if skips == w.skips {
		return false, nil
	}
	w.skips, w.ranges = skips, skips.All()
	for _, s := range w.ranges {
		if s.To > w.next {
			w.log.Warn("offsets are to be passed over, as an operator wants it: their events are not matched, which clients are told as a gap", "from", s.From, "to", s.To)
		}
	}
	return true, nil
}

// over returns the range that an offset is in, if it is to be passed over.
func (w *worker) over(offset int64) (lane.Skip, bool) {
	for _, s := range w.ranges {
		if s.From <= offset && offset < s.To {
			return s, true
		}
	}
	return lane.Skip{}, false
}

// passOver moves the lane past the ranges that begin where it is. They are not read: what
// is in them may be what can't be.
func (w *worker) passOver(ctx context.Context, at lane.ControlID) error {
	for {
		s, ok := w.over(w.next)
		if !ok {
			return nil
		}
		from := w.next
		if moved, err := w.append(ctx, s.To, at); err != nil || !moved {
			return err // not moved: it was claimed anew, and has read what is to be passed over
		}
		w.log.Warn("passed over offsets, as an operator wants it", "from", from, "to", s.To)
		w.metrics.skipped.Add(float64(s.To - from))
		w.part.SeekTo(w.next)
	}
}

// forgetSkips forgets the ranges that nobody can ask for any more.
func (w *worker) forgetSkips(ctx context.Context, oldest int64) error {
	if len(w.ranges) == 0 || w.ranges[0].To > min(oldest, w.next) {
		return nil
	}
	if err := w.lanes.ForgetSkips(ctx, w.cfg.Shard, w.part.ID, w.topic.Load().ID, min(oldest, w.next)); err != nil {
		return w.storeFailed("forget what was passed over", err)
	}
	_, err := w.readSkips(ctx)
	return err
}

// hole is a range of a partition that is not passed on.
type hole struct {
	from, to int64
	reason   string
}

// holesOf returns those that a lane's position knows of: what Kafka lost, whose offsets mean
// other events now, and what an operator wants to be passed over.
func holesOf(p lane.Position) (holes []hole) {
	if p.Lost.To > 0 {
		holes = append(holes, hole{p.Lost.From, p.Lost.To, wire.GapLost})
	}
	for _, s := range p.Skipped.All() {
		holes = append(holes, hole{s.From, s.To, wire.GapSkipped})
	}
	slices.SortFunc(holes, func(a, b hole) int { return cmp.Compare(a.from, b.from) })
	return holes
}

// around passes on a partition's range without its holes.
func (a *asker) around(ctx context.Context, partition int32, p plan) error {
	from, to := p.from[partition], p.to[partition]
	var holes []hole
	if int(partition) < len(p.positions) {
		holes = holesOf(p.positions[partition])
	}
	for _, h := range holes {
		begin, end := max(from, h.from), min(to, h.to)
		if begin >= end {
			continue
		}
		if err := a.pass(ctx, partition, from, begin); err != nil {
			return err
		}
		lost := replay.Lost{Partition: partition, From: begin, To: end, Reason: h.reason}
		if err := a.w.Batch(replay.Batch{Partition: partition, Next: end, Lost: &lost}); err != nil {
			return fmt.Errorf("tell what is not passed on: %w", err)
		}
		from = end
	}
	if err := a.pass(ctx, partition, from, to); err != nil {
		return err
	}
	if end := p.ends[partition]; a.times.disorder && to < end {
		lost := replay.Lost{Partition: partition, From: to, To: end, Reason: limitReason}
		return a.w.Batch(replay.Batch{Partition: partition, Next: end, Lost: &lost})
	}
	return nil
}
