package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"eventstream/event"
	"eventstream/lane"
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

// span is a range of offsets of one partition to be replayed.
type span struct {
	partition int32
	from, to  int64
}

// resumable checks whose cursor this is. Without a reason for a gap, the
// connection goes on from the returned resume.
func (g *Gateway) resumable(ctx context.Context, a ask) (r *resume, gap string, err error) {
	cur := a.cursor
	topic := g.topic.Load()
	if cur.Topic != topic.ID || len(cur.Next) > int(topic.Partitions) {
		return nil, wire.GapOtherTopic, nil
	}
	old := cur.Addr
	if cur.Old != (event.Address{}) {
		old = cur.Old
	}
	subscriber, ok, err := g.occupant(ctx, old)
	if err != nil {
		return nil, "", fmt.Errorf("look up the cursor's address: %w", err)
	}
	if !ok {
		// An empty store knows nobody: that says nothing about this cursor.
		if _, err := g.lanes.Topic(ctx); err != nil {
			return nil, "", fmt.Errorf("look up the cursor's address: %w", err)
		}
	}
	if !ok || subscriber != a.subscriber {
		return nil, wire.GapUnknownAddress, nil
	}
	// A partition that came after the cursor was issued is wanted from its start.
	from := make([]int64, topic.Partitions)
	copy(from, cur.Next)
	return &resume{old: old, from: from}, "", nil
}

// occupant returns whose address this is or was within the resume window.
func (g *Gateway) occupant(ctx context.Context, a event.Address) (string, bool, error) {
	if a.Gateway == g.id {
		s, ok := g.presence.occupant(a.Seat)
		return s, ok, nil
	}
	return g.lanes.Occupant(ctx, a)
}

// plan fills in where e goes on, and what has to be replayed until to. What the
// lanes do not hold any more is left out.
func (g *Gateway) plan(ctx context.Context, e *entrance, to []int64) error {
	positions, err := g.lanes.Positions(ctx, int32(len(to)))
	if err != nil {
		return fmt.Errorf("read positions: %w", err)
	}
	e.from = slices.Clone(e.conn.resume.from)
	for _, p := range positions {
		from, to := &e.from[p.Partition], to[p.Partition]
		if *from >= to {
			continue
		}
		if p.Next < to {
			return fmt.Errorf("partition %d is at %d, was at %d: %w", p.Partition, p.Next, to, lane.ErrBehind)
		}
		if *from < p.First {
			e.gap = wire.GapTrimmed
			*from = p.First
		}
		e.replay = append(e.replay, span{p.Partition, *from, to})
	}
	return nil
}

// welcome opens the connection: hello, what it missed, then what is live.
func (g *Gateway) welcome(e *entrance, answer []byte) {
	c := e.conn
	c.shard.post(post{conn: c, what: verbOpen, http: answer, join: e.at, ask: e.ask, from: e.from, gap: e.gap})
	if e.from == nil {
		return
	}
	g.metrics.resumed.Inc()
	g.resuming.Go(func() {
		ctx, cancel := context.WithTimeout(e.ctx, g.cfg.ResumeWindow)
		defer cancel()
		err := g.replay(ctx, e)
		if err == nil {
			c.shard.post(post{conn: c, what: verbLive})
			return
		}
		if e.ctx.Err() == nil {
			g.log.Warn("replay failed; the client may try again", "seat", c.seat, "err", err)
		}
		c.shard.post(post{conn: c, what: verbAbort})
	})
}

// replay sends the planned spans, as fast as the client takes them. Each batch
// comes with a cursor, so that a client which can't keep up comes further with
// every attempt.
func (g *Gateway) replay(ctx context.Context, e *entrance) error {
	c, at := e.conn, slices.Clone(e.from)
	for _, s := range e.replay {
		for s.from < s.to {
			before := s.from
			batch, first, err := g.missed(ctx, &s, e.old)
			if err != nil {
				return fmt.Errorf("read lane %d: %w", s.partition, err)
			}
			if first > before { // trimmed while we read
				at[s.partition] = first
				c.shard.post(post{conn: c, what: verbGap, ask: e.ask, from: slices.Clone(at), gap: wire.GapTrimmed})
			}
			at[s.partition] = max(s.from, first)
			done := make(chan struct{})
			c.shard.post(post{conn: c, what: verbReplay, batch: batch, from: slices.Clone(at), done: done})
			select {
			case <-done:
			case <-ctx.Done():
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return nil
}

// replayBytes is about how much of a replay is handed to a connection at a time.
const replayBytes = maxGather

// errBatchFull ends the reading of a span for now.
var errBatchFull = errors.New("batch is full")

// missed takes the next batch off a span, and tells from where on the lane was
// complete. It waits for its turn, but not for a client.
func (g *Gateway) missed(ctx context.Context, s *span, old event.Address) (batch []*message, first int64, err error) {
	select {
	case g.replays <- struct{}{}:
		defer func() { <-g.replays }()
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	bytes := 0
	first, err = g.reader.replay(ctx, s.partition, s.from, s.to, old, func(m *message) error {
		batch = append(batch, m)
		if bytes += len(m.json); bytes >= replayBytes {
			return errBatchFull
		}
		return nil
	})
	next := s.to
	if errors.Is(err, errBatchFull) {
		next = batch[len(batch)-1].id.Offset + 1
		first, err = g.first(ctx, s.partition)
	}
	if err == nil && first < 0 {
		err = lane.ErrBehind
	}
	s.from = next
	return batch, first, err
}

// first returns from where on the lane of partition p is complete.
func (g *Gateway) first(ctx context.Context, p int32) (int64, error) {
	positions, err := g.lanes.Positions(ctx, p+1)
	if err != nil {
		return 0, err
	}
	return positions[p].First, nil
}
