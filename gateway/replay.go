package gateway

import (
	"context"
	"fmt"
	"slices"
	"time"

	"eventstream/event"
	"eventstream/internal/scan"
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
	g.replays.Add(1)
	defer g.replays.Add(-1)
	for _, s := range r.spans {
		for s.from < s.to {
			part, err := g.missed(ctx, r, s)
			if err != nil {
				return fmt.Errorf("read lane %d: %w", s.partition, err)
			}
			if part.Lost.To > part.Lost.From {
				g.trimmed(r, s.partition, part.Lost.To)
			}
			s.from = part.Next
			r.at[s.partition] = s.from
			if err := r.send(ctx, part.Events); err != nil {
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

// A replay is handed to its connection in parts of about replayBytes, or less
// when many catch up, so that all of them together hold about allReplayBytes.
const (
	replayBytes    = 4 * maxGather
	minReplayBytes = 16 << 10
	allReplayBytes = 256 << 20
)

func (g *Gateway) replayShare() int {
	return min(max(allReplayBytes/int(max(g.replays.Load(), 1)), minReplayBytes), replayBytes)
}

// missed takes the next part off a span. If the store fails, as when it is
// starting, or is filled again after it lost writes, it tries again for a while.
func (g *Gateway) missed(ctx context.Context, r *replay, s span) (part missedPart, err error) {
	began := time.Now()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		part, err = r.conn.reader.past[s.partition].Take(ctx, r.seats, s.from, s.to, g.replayShare())
		if err == nil || ctx.Err() != nil || time.Since(began) > g.patience {
			return part, err
		}
		sleep(ctx, wait)
	}
}

type missedPart = scan.Taken[*message]
