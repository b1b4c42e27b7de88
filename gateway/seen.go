package gateway

import (
	"context"
	"fmt"

	"eventstream/event"
	"eventstream/gateway/position"
)

// A cursor comes once a second, so that a client which has only that gets up to a second of
// events again. It can say which ones it has: the newest of each partition since the cursor.
//
// A connection's events of a partition go out in order of offset, whether from the lanes, from
// Kafka, by the old seat, or live, and a gap before the events that follow it. So whoever has
// one has all before it, or was told, and goes on behind it: as from a cursor with these
// positions, by the addresses of the one that it has.

// came refuses what the client of e says to have seen if it does not exist: to go on behind
// that would lose events. If the topic is another one, nothing is made of it.
func (j *joins) came(ctx context.Context, e *entrance) error {
	seen := e.ask.Seen
	if seen == nil || e.ask.Cursor.Topic != j.topics.topic.Load().ID {
		return nil
	}
	if len(seen) > int(j.topics.topic.Load().Partitions) { // another gateway was faster
		if err := j.topics.look(ctx); err != nil {
			return err
		}
		if _, err := j.lanes.Topic(ctx); err != nil { // an empty store does not know how many there are
			return fmt.Errorf("look for the topic's partitions: %w", err)
		}
		if n := j.topics.topic.Load().Partitions; len(seen) > int(n) {
			return fmt.Errorf("the topic has partitions 0 to %d, and no %d; %w", n-1, len(seen)-1, event.ErrSeen)
		}
	}
	return e.reader.Reached(ctx, seen)
}

// heardOf returns up to where a client that goes on from e.from was surely told what Kafka
// lost. Events that it has seen since its cursor may have come before that was told.
func (e *entrance) heardOf() []int64 {
	if e.ask.Seen == nil {
		return e.from
	}
	return position.Extend(e.ask.Issued.Next, len(e.from))
}
