package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"eventstream/event"
	"eventstream/gateway/position"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/wire"
)

// What the lanes don't hold any more, or hold for a seat that nobody knows any
// more, is replayed from Kafka: a filter service finds what matches the
// subscriber's filters as they are now.
//
// A connection that has no old seat to follow is replayed up to the positions
// from which on everything is surely addressed to its own seat: its floor. What
// is addressed to it before that comes twice, and is dropped here.

// Replayer asks for events that Kafka still holds: a replay.Client.
type Replayer interface {
	Open(ctx context.Context, r replay.Request) (*replay.Stream, error)
}

// rescan asks for everything that e wants from before its floor, which it finds.
func (g *Gateway) rescan(ctx context.Context, e *entrance) error {
	floor, err := g.floor(ctx, e)
	if err != nil {
		return err
	}
	req := replay.Request{Since: e.ask.since}
	if cur := e.ask.cursor; cur != nil {
		req.From = position.Extend(cur.Next, len(floor))
	}
	e.floor, e.until, req.To = floor, floor, floor
	err = g.ask(ctx, e, req)
	if errors.Is(err, replay.ErrBeyondEnd) && e.ask.cursor != nil {
		return g.rescanLost(ctx, e, req)
	}
	return err
}

// rescanLost is rescan for a cursor that is ahead of Kafka, which lost records. What
// Kafka gives their offsets to is another event to those who have seen the one before:
// the client goes on from its cursor, and is told what does not come.
func (g *Gateway) rescanLost(ctx context.Context, e *entrance, req replay.Request) error {
	if err := g.ask(ctx, e, wanting(req)); err != nil {
		return err
	}
	reached := e.conn.reader.positions()
	for p, to := range e.floor {
		if p < len(req.From) && req.From[p] >= to { // nothing was asked for
			e.from[p] = to
		}
		if p < len(reached) && reached[p] < to {
			e.gap = wire.GapLost
			e.missing = append(e.missing, wire.Missing{Partition: int32(p), From: reached[p], To: to})
		}
	}
	return nil
}

// ask opens the stream of e's missed events, and notes where it begins. It ends
// with the connection.
func (g *Gateway) ask(ctx context.Context, e *entrance, req replay.Request) error {
	req.Subscriber, req.Topic = e.conn.subscriber, g.topic.Load().ID
	stop := context.AfterFunc(ctx, e.conn.stopReplay)
	s, err := g.openStream(e.ctx, req)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("ask for a replay: %w", err)
	}
	if len(s.From()) < len(req.To) {
		s.Close()
		return replay.Busy(time.Second, fmt.Errorf("the filter service knows of %d partitions, and we of %d", len(s.From()), len(req.To)))
	}
	// It may know of more. What is in those comes live, from their start.
	e.stream, e.from = s, slices.Clone(s.From()[:len(req.To)])
	for p, to := range req.To {
		e.from[p] = min(e.from[p], to)
	}
	for _, l := range s.Lost() {
		if int(l.Partition) < len(req.To) {
			e.gap = l.Reason
			e.missing = append(e.missing, missing(&l))
		}
	}
	return nil
}

// maxStreams bounds the connections that are being served from Kafka: each has a
// socket of its own to a filter service.
const maxStreams = 1000

// stream is a replay.Stream that counts towards maxStreams until it is closed, or
// its context ends.
type stream struct {
	*replay.Stream
	end context.CancelFunc
}

func (s *stream) Close() {
	s.Stream.Close()
	s.end()
}

func (g *Gateway) openStream(ctx context.Context, req replay.Request) (*stream, error) {
	if g.streams.Add(1) > maxStreams {
		g.streams.Add(-1)
		return nil, replay.Busy(time.Second, fmt.Errorf("this gateway has its limit of %d replays", maxStreams))
	}
	ctx, end := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { g.streams.Add(-1) })
	s, err := g.replayer.Open(ctx, req)
	if err != nil {
		end()
		return nil, err
	}
	return &stream{s, end}, nil
}

func missing(l *replay.Lost) wire.Missing {
	return wire.Missing{Partition: l.Partition, From: l.From, To: l.To}
}

// fromKafka sends what Kafka holds from r.at up to the given positions. The
// stream may be open already. One that breaks off is opened again, for as long as
// it gets somewhere.
func (g *Gateway) fromKafka(ctx context.Context, r *recovery, s *stream, to []int64) error {
	began := time.Now()
	for {
		err := g.openAgain(ctx, r, &s, to)
		if err == nil {
			before := slices.Clone(r.at)
			err = g.relay(ctx, r, s)
			s.Close()
			s = nil
			if !slices.Equal(before, r.at) {
				began = time.Now()
			}
		}
		if err == nil || ctx.Err() != nil || time.Since(began) > g.patience || errors.Is(err, replay.ErrRequest) {
			return err
		}
		sleep(ctx, time.Second)
	}
}

func (g *Gateway) openAgain(ctx context.Context, r *recovery, s **stream, to []int64) (err error) {
	if *s != nil {
		return nil
	}
	*s, err = g.openStream(ctx, wanting(replay.Request{
		Subscriber: r.conn.subscriber, Topic: g.topic.Load().ID, From: r.at, To: to,
	}))
	if err != nil {
		return err
	}
	for _, l := range (*s).Lost() {
		if int(l.Partition) < len(to) {
			g.lost(r, l.Reason, missing(&l))
		}
	}
	return nil
}

// relay hands a stream on to the connection, as fast as the client takes it.
func (g *Gateway) relay(ctx context.Context, r *recovery, s *stream) error {
	for {
		b, err := s.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if int(b.Partition) >= len(r.at) {
			continue // nothing was asked for of it
		}
		events, err := unpack(b)
		if err != nil {
			return err
		}
		if b.Lost != nil {
			g.lost(r, b.Lost.Reason, missing(b.Lost))
		}
		r.at[b.Partition] = max(r.at[b.Partition], b.Next)
		if len(events) == 0 {
			continue
		}
		if err := r.send(ctx, events); err != nil {
			return err
		}
	}
}

func unpack(b replay.Batch) (events []*message, err error) {
	if len(b.Entry) == 0 {
		return nil, nil
	}
	var u lane.Unpacker
	for u.Open(b.Entry); u.Next(); {
		events = append(events, newMessage(event.ID{Partition: b.Partition, Offset: u.Offset}, &u))
	}
	return events, u.Err()
}
