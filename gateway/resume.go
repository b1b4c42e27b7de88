package gateway

import (
	"context"
	"fmt"
	"slices"

	"eventstream/event"
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
		if p.Next >= 0 && e.from[p.Partition] < p.First {
			e.gap = wire.GapTrimmed
			e.from[p.Partition] = p.First
		}
	}
	for p, from := range e.from {
		if from < to[p] {
			e.replay = append(e.replay, span{int32(p), from, to[p]})
		}
	}
	return nil
}

// welcome opens the connection: hello, what it missed, then what is live.
func (g *Gateway) welcome(e *entrance) {
	c := e.conn
	c.shard.post(post{conn: c, what: verbOpen, join: e.at, ask: e.ask, from: e.from, gap: e.gap})
	if e.from == nil {
		return
	}
	g.metrics.resumed.Inc()
	g.resuming.Go(func() {
		ctx, cancel := context.WithTimeout(g.replayCtx, g.cfg.ResumeWindow)
		defer cancel()
		if err := g.replay(ctx, c, e); err != nil {
			g.log.Warn("replay failed; the client may try again", "seat", c.seat, "err", err)
			c.shard.post(post{conn: c, what: verbAbort})
			return
		}
		c.shard.post(post{conn: c, what: verbLive})
	})
}

// replayBytes is about how much of a replay is handed to a connection at a time.
const replayBytes = maxGather

// replay sends the planned spans, as fast as the client takes them.
func (g *Gateway) replay(ctx context.Context, c *conn, e *entrance) error {
	select {
	case g.replays <- struct{}{}:
		defer func() { <-g.replays }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var batch []*message
	bytes := 0
	flush := func() error {
		done := make(chan struct{})
		c.shard.post(post{conn: c, what: verbReplay, batch: batch, done: done})
		batch, bytes = nil, 0
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, s := range e.replay {
		first, err := g.reader.replay(ctx, s.partition, s.from, s.to, e.old, func(m *message) error {
			batch = append(batch, m)
			if bytes += len(m.json); bytes < replayBytes {
				return nil
			}
			return flush()
		})
		if err != nil {
			return fmt.Errorf("read lane %d: %w", s.partition, err)
		}
		if first < 0 || first > s.from { // trimmed while we read
			c.shard.post(post{conn: c, what: verbGap, ask: e.ask, gap: wire.GapTrimmed})
		}
	}
	return flush()
}
