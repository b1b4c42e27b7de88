package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"eventstream/gateway/history"
	"eventstream/gateway/position"
	"eventstream/replay"
	"eventstream/wire"
)

// A connection that has no old seat to follow is replayed from Kafka up to its floor: the
// positions from which on everything is surely addressed to its own seat. Events below
// the floor may also be addressed to that seat. They come with the replay, and are dropped
// where they come live.

// rescan asks for everything that e wants from before its floor, which it finds.
func (j *joins) rescan(ctx context.Context, e *entrance) error {
	floor, err := e.findFloor(ctx)
	if err != nil {
		return err
	}
	req := replay.Request{Since: e.ask.Since}
	if cur := e.ask.Cursor; cur != nil {
		req.From = position.Extend(cur.Next, len(floor))
	}
	e.floor, e.until, req.To = floor, floor, floor
	err = j.ask(ctx, e, req)
	if errors.Is(err, replay.ErrBeyondEnd) && e.ask.Cursor != nil {
		return j.rescanLost(ctx, e, req)
	}
	return err
}

// rescanLost is rescan for a cursor that is ahead of Kafka, which lost records. Kafka gives
// their offsets to other events, which are not the ones that such a client has seen: it
// goes on from its cursor, and is told what does not come.
func (j *joins) rescanLost(ctx context.Context, e *entrance, req replay.Request) error {
	if err := j.ask(ctx, e, history.Wanted(req)); err != nil {
		return err
	}
	reached := e.reader.Positions()
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

// ask opens the stream of e's missed events, and notes where it begins. The stream ends
// with the connection.
func (j *joins) ask(ctx context.Context, e *entrance, req replay.Request) error {
	req.Subscriber, req.Topic = e.client.Subscriber(), j.topics.topic.Load().ID
	stop := context.AfterFunc(ctx, e.stop)
	s, err := j.kafka.Open(e.ctx, req)
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
	// It may know of more. Events in those come live, from their start.
	e.stream, e.from = s, slices.Clone(s.From()[:len(req.To)])
	for p, to := range req.To {
		e.from[p] = min(e.from[p], to)
	}
	for _, l := range s.Lost() {
		if int(l.Partition) < len(req.To) {
			e.gap = l.Reason
			e.missing = append(e.missing, history.Missing(&l))
		}
	}
	return nil
}
