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

// recovery sends one connection what it missed, before what is live: from Kafka,
// then from the lanes. Meanwhile the connection's live events wait.
type recovery struct {
	conn   *conn
	at     []int64         // every event below has been sent
	stream *stream         // from Kafka, up to until; nil if nothing is wanted of it
	until  []int64         // of stream
	seats  []event.Address // in the lanes: whatever is addressed to one of these
	spans  []span          // to be sent from the lanes
	cursor string          // of the client that resumes; "" if it has none
	slow   bool            // it fell behind
}

// startRecovery lets r run until it is done or ctx ends, unless the gateway is stopping:
// then the connection is closed soon.
func (g *Gateway) startRecovery(ctx context.Context, r *recovery) {
	g.admitMu.Lock()
	defer g.admitMu.Unlock()
	if g.phase == phaseOver {
		return
	}
	g.resuming.Go(func() {
		g.replays.Add(1)
		defer g.replays.Add(-1)
		c := r.conn
		err := g.recover(ctx, r)
		if err == nil {
			g.recoveries.Worked()
			c.worker.tell(caughtUp{c})
			return
		}
		if ctx.Err() == nil {
			g.recoveries.Failed(err, "seat", c.seat)
		}
		c.worker.tell(aborted{c})
	})
}

// recover sends all, as fast as the client takes it. Each part can come with a
// cursor, so that a client which breaks off comes further with every attempt.
func (g *Gateway) recover(ctx context.Context, r *recovery) error {
	if r.stream != nil {
		if err := g.fromKafka(ctx, r, r.stream, r.until); err != nil {
			return fmt.Errorf("replay from Kafka: %w", err)
		}
	}
	for _, s := range r.spans {
		for s.from < s.to {
			if err := g.fromLane(ctx, r, &s); err != nil {
				return err
			}
		}
	}
	return nil
}

// fromLane sends the next part of a span. What the lane has lost meanwhile is
// looked for in Kafka.
func (g *Gateway) fromLane(ctx context.Context, r *recovery, s *span) error {
	part, err := g.missed(ctx, r, *s)
	if err != nil {
		return fmt.Errorf("read lane %d: %w", s.partition, err)
	}
	events, gone := part.Events, part.Lost.To > part.Lost.From
	s.from = part.Next
	if gone { // what came after it is read again
		s.from = part.Lost.From
		n := slices.IndexFunc(events, func(m *message) bool { return m.id.Offset >= part.Lost.From })
		if n >= 0 {
			events = events[:n]
		}
	}
	r.at[s.partition] = s.from
	if err := r.send(ctx, events); err != nil || !gone {
		return err
	}
	s.from = part.Lost.To
	if g.replayer == nil {
		g.lost(r, wire.GapTrimmed, wire.Missing{Partition: s.partition, From: part.Lost.From, To: part.Lost.To})
		r.at[s.partition] = s.from
		return nil
	}
	to := slices.Clone(r.at)
	to[s.partition] = s.from
	return g.fromKafka(ctx, r, nil, to)
}

// send hands a part to the connection and waits until it has left.
func (r *recovery) send(ctx context.Context, batch []*message) error {
	done := make(chan struct{})
	r.conn.worker.tell(&replayed{r.conn, batch, slices.Clone(r.at), done})
	select {
	case <-done:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// lost tells the client which events are gone. One that was too slow for them has
// to come back to be told.
func (g *Gateway) lost(r *recovery, reason string, m wire.Missing) {
	c := r.conn
	if r.slow {
		g.metrics.tooSlow.Inc()
		c.worker.tell(&end{conn: c, at: slices.Clone(r.at), ending: ending{wire.CloseTooSlow, "too slow: what waits is past retention"}})
		return
	}
	r.at[m.Partition] = max(r.at[m.Partition], m.To)
	c.worker.tell(&gapped{c, gap{reason, []wire.Missing{m}, r.cursor}, slices.Clone(r.at)})
}

// What is missed is handed to a connection in parts of about replayBytes, or less
// when many catch up, so that all of them together hold about allReplayBytes.
const (
	replayBytes    = 256 << 10
	minReplayBytes = 16 << 10
	allReplayBytes = 256 << 20
)

func (g *Gateway) replayShare() int {
	return min(max(allReplayBytes/int(max(g.replays.Load(), 1)), minReplayBytes), replayBytes)
}

// missed takes the next part off a span. If the store fails, as when it is
// starting, or is filled again after it lost writes, it tries again for a while.
func (g *Gateway) missed(ctx context.Context, r *recovery, s span) (part missedPart, err error) {
	began := time.Now()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		part, err = r.conn.reader.pastOf(s.partition).Take(ctx, r.seats, s.from, s.to, g.replayShare())
		if err == nil || ctx.Err() != nil || time.Since(began) > g.patience {
			return part, err
		}
		sleep(ctx, wait)
	}
}

type missedPart = scan.Taken[*message]
