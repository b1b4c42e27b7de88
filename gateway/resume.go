package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"eventstream/event"
	"eventstream/gateway/admission"
	"eventstream/gateway/delivery"
	"eventstream/gateway/history"
	"eventstream/gateway/position"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/wire"
)

// A client resumes with a cursor: positions, and the seat it had. The filter
// services have gone on addressing events to that seat, so what it missed
// stands in the lanes. The new connection gets
//
//	[cursor, join)  what is addressed to the old seat, replayed from the lanes
//	[join, …)       what is addressed to the old or the new seat, live
//
// where join is the point between two batches of the lane reader at which the
// new connection became known. Live events wait until the replay is done.

// resumable checks whose cursor this is. Without a reason for a gap, the
// connection goes on from the returned resume.
func (j *joins) resumable(ctx context.Context, a admission.Ask) (r *delivery.Resume, gap string, err error) {
	cur := a.Cursor
	if cur.Topic != j.topics.topic.Load().ID {
		return nil, wire.GapOtherTopic, nil
	}
	if len(cur.Next) > int(j.topics.topic.Load().Partitions) { // another gateway was faster
		if err := j.topics.look(ctx); err != nil {
			return nil, "", err
		}
		if n := j.topics.topic.Load().Partitions; len(cur.Next) > int(n) {
			return nil, "", fmt.Errorf("%w: the cursor is of %d, and %d are known", errPartitions, len(cur.Next), n)
		}
	}
	old := cur.Addr
	if cur.Old != (event.Address{}) {
		old = cur.Old
	}
	subscriber, ok, err := j.occupant(ctx, old)
	if err != nil {
		return nil, "", fmt.Errorf("look up the cursor's address: %w", err)
	}
	if !ok {
		// An empty store knows nobody: that says nothing about this cursor.
		if _, err := j.lanes.Topic(ctx); err != nil {
			return nil, "", fmt.Errorf("look up the cursor's address: %w", err)
		}
	}
	if !ok || subscriber != a.Subscriber {
		return nil, wire.GapUnknownAddress, nil
	}
	return &delivery.Resume{Old: old, From: cur.Next}, "", nil
}

// errPartitions reports a cursor of more partitions than the topic is known to have.
var errPartitions = errors.New("the topic has fewer partitions than that")

// occupant returns whose address this is or was within the resume window.
func (j *joins) occupant(ctx context.Context, a event.Address) (string, bool, error) {
	if a.Gateway == j.id {
		s, ok := j.presence.Occupant(a.Seat)
		return s, ok, nil
	}
	return j.lanes.Occupant(ctx, a)
}

// plan fills in where e goes on, and what has to be replayed until to. What the
// lanes do not hold any more is asked of Kafka, or left out.
func (j *joins) plan(ctx context.Context, e *entrance, to []int64) error {
	// A store that lost the old seat before ours was announced may have been filled
	// again by somebody who knew neither.
	if _, ok, err := j.occupant(ctx, e.old()); err != nil || !ok {
		return fmt.Errorf("the cursor's address is not known any more: %w", cmp.Or(err, lane.ErrBehind))
	}
	// A partition that came after the cursor was issued is wanted from its start.
	e.from = position.Extend(e.resume.From, len(to))
	inStore := false
	for p := range to {
		if e.from[p] < to[p] {
			e.spans = append(e.spans, history.Span{Partition: int32(p), From: e.from[p], To: to[p]})
			inStore = inStore || e.from[p] < e.reader.Past().InMemory(int32(p))
		}
	}
	if !inStore {
		return nil
	}
	positions, err := j.lanes.Positions(ctx, e.reader.Shard(), int32(len(to)))
	if err != nil {
		return fmt.Errorf("read positions: %w", err)
	}
	until := slices.Clone(e.from)
	for i := range e.spans {
		s := &e.spans[i]
		at := positions[s.Partition]
		if s.From >= e.reader.Past().InMemory(s.Partition) {
			continue
		}
		if at.Next < s.To {
			return fmt.Errorf("partition %d is at %d, was at %d: %w", s.Partition, at.Next, s.To, lane.ErrBehind)
		}
		if s.From < at.First {
			s.From = min(at.First, s.To)
			until[s.Partition] = s.From
		}
	}
	return j.trimmed(ctx, e, until)
}

// trimmed asks Kafka for what the lanes have lost of e, which is up to the given
// positions, or tells e that it is gone.
func (j *joins) trimmed(ctx context.Context, e *entrance, until []int64) error {
	if slices.Equal(until, e.from) {
		return nil
	}
	if j.kafka != nil {
		e.until = until
		from := e.from
		if err := j.ask(ctx, e, history.Wanted(replay.Request{From: from, To: until})); err != nil {
			return err
		}
		for p := range from {
			if from[p] >= until[p] { // nothing was asked for
				e.from[p] = from[p]
			}
		}
		return nil
	}
	e.gap = wire.GapTrimmed
	for p, to := range until {
		if to > e.from[p] {
			e.missing = append(e.missing, wire.Missing{Partition: int32(p), From: e.from[p], To: to})
		}
	}
	e.from = until
	return nil
}
