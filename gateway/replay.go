package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"eventstream/event"
	"eventstream/lane"
	"eventstream/wire"
)

// span is a range of offsets of one partition to be replayed.
type span struct {
	partition int32
	from, to  int64
}

// replay sends one connection what stands in the lanes for it, before what is
// live. Meanwhile the connection's live events wait.
type replay struct {
	conn   *conn
	seats  []event.Address // whatever is addressed to one of these
	at     []int64         // every event below has been sent
	spans  []span          // to be sent
	cursor string          // of the client that resumes; "" of one that fell behind
}

// startReplay lets r run until it is done or ctx ends, unless the gateway is
// stopping: then the connection is closed soon.
func (g *Gateway) startReplay(ctx context.Context, r *replay) {
	g.admitMu.Lock()
	defer g.admitMu.Unlock()
	if g.draining {
		return
	}
	g.resuming.Go(func() {
		c := r.conn
		err := g.runReplay(ctx, r)
		if err == nil {
			c.shard.post(post{conn: c, what: verbLive})
			return
		}
		if ctx.Err() == nil {
			g.log.Warn("replay failed; the client may try again", "seat", c.seat, "err", err)
		}
		c.shard.post(post{conn: c, what: verbAbort})
	})
}

// runReplay sends the spans, as fast as the client takes them. Each batch can
// come with a cursor, so that a client which breaks off comes further with every
// attempt.
func (g *Gateway) runReplay(ctx context.Context, r *replay) error {
	for _, s := range r.spans {
		for s.from < s.to {
			before := s.from
			batch, first, err := g.missedPatiently(ctx, r.seats, &s)
			if err != nil {
				return fmt.Errorf("read lane %d: %w", s.partition, err)
			}
			if first > before {
				g.trimmed(r, s.partition, first)
			}
			r.at[s.partition] = max(s.from, first)
			if err := r.send(ctx, batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// send hands a batch to the connection and waits until it has left.
func (r *replay) send(ctx context.Context, batch []*message) error {
	done := make(chan struct{})
	r.conn.shard.post(post{conn: r.conn, what: verbReplay, batch: batch, from: slices.Clone(r.at), done: done})
	select {
	case <-done:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// trimmed tells the client that events of a partition below first are gone. One
// that was too slow for the lanes has to come back to be told.
func (g *Gateway) trimmed(r *replay, partition int32, first int64) {
	c := r.conn
	if r.cursor == "" {
		g.metrics.tooSlow.Inc()
		c.shard.post(post{conn: c, what: verbEnd, ending: ending{wire.CloseTooSlow, "too slow: what waits is past retention"}})
		return
	}
	r.at[partition] = first
	c.shard.post(post{conn: c, what: verbGap, ask: ask{text: r.cursor}, from: slices.Clone(r.at), gap: wire.GapTrimmed})
}

// replayBytes is about how much of a replay is handed to a connection at a time.
const replayBytes = 4 * maxGather

// errBatchFull ends the reading of a span for now.
var errBatchFull = errors.New("batch is full")

// missedPatiently is missed, again and again for a while if the store fails: it
// may be starting, or be filled again after it lost writes.
func (g *Gateway) missedPatiently(ctx context.Context, seats []event.Address, s *span) (batch []*message, first int64, err error) {
	began := time.Now()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		batch, first, err = g.missed(ctx, seats, s)
		if err == nil || ctx.Err() != nil || time.Since(began) > g.patience {
			return batch, first, err
		}
		sleep(ctx, wait)
	}
}

// missed takes the next batch off a span, and tells from where on the lane was
// complete. It waits for its turn, but not for a client.
func (g *Gateway) missed(ctx context.Context, seats []event.Address, s *span) (batch []*message, first int64, err error) {
	select {
	case g.replays <- struct{}{}:
		defer func() { <-g.replays }()
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	bytes := 0
	first, err = g.reader.replay(ctx, *s, seats, func(m *message) error {
		batch = append(batch, m)
		if bytes += len(m.json); bytes >= replayBytes {
			return errBatchFull
		}
		return nil
	})
	next := s.to
	if errors.Is(err, errBatchFull) {
		next, err = batch[len(batch)-1].id.Offset+1, nil
	}
	if err == nil && first < 0 {
		err = lane.ErrBehind
	}
	if err == nil {
		s.from = next
	}
	return batch, first, err
}
