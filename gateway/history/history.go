// Package history gives events of the past, between two positions: from memory, from the
// lanes, and from Kafka. It knows seats, and nothing of connections.
//
// A Replay's events of a partition come in order of offset. What is gone from all three
// is told, as a range of offsets, before the events that follow it.
package history

import (
	"eventstream/event"
	"eventstream/lane"
	"eventstream/wire"
)

// Event is one event, encoded once for all its recipients.
type Event struct {
	ID     event.ID
	TimeMs int64  // of its Kafka record, Unix milliseconds
	JSON   []byte // as a client gets it
}

// NewEvent encodes the event that u is at.
func NewEvent(id event.ID, u *lane.Unpacker) *Event {
	return &Event{ID: id, TimeMs: u.TimeMs, JSON: wire.AppendEvent(make([]byte, 0, len(u.Data)+64), id, u.TimeMs, u.Data)}
}

// Span is a range of offsets of one partition.
type Span struct {
	Partition int32
	From, To  int64
}
