package judge

import (
	"bytes"
	"sync"

	"eventstream/event"
	"eventstream/filter"
)

// Event is one event that was produced.
type Event struct {
	N     int // its number
	Value []byte
	Sent  Seq // just before it was produced

	// Set when Kafka acknowledged it. An event that it did not acknowledge may be
	// there or not.
	Acked Seq // 0 if it was not
	ID    event.ID
	Lost  bool // Kafka has lost it since: it may have come before, and need not come

	decoded map[string]any
}

// Events is all that was produced. Its methods may be called at the same time.
type Events struct {
	mu  sync.Mutex
	all []*Event
}

// Send notes an event that is about to be produced, and what it means to filters: the same,
// if they call everything as it does.
func (l *Events) Send(c *Clock, value func(n int) (value, means []byte)) (*Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &Event{N: len(l.all)}
	var means []byte
	e.Value, means = value(e.N)
	var err error
	if e.decoded, err = filter.DecodeEvent(means); err != nil {
		return nil, err
	}
	e.Sent = c.Now()
	l.all = append(l.all, e)
	return e, nil
}

// Ack notes that Kafka has the event.
func (l *Events) Ack(e *Event, at Seq, id event.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Acked, e.ID = at, id
}

// Lose notes that Kafka has lost all that it had of a partition from an offset on, and
// returns how many those were. Others get these offsets now.
func (l *Events) Lose(partition int32, from int64) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.all {
		if e.Acked > 0 && !e.Lost && e.ID.Partition == partition && e.ID.Offset >= from {
			e.Lost = true
			n++
		}
	}
	return n
}

// Same reports whether event n was produced with this value.
func (l *Events) Same(n int, value []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return n >= 0 && n < len(l.all) && bytes.Equal(l.all[n].Value, value)
}

// Len returns how many events were sent, and how many of them Kafka acknowledged.
func (l *Events) Len() (sent, acked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.all {
		if e.Acked > 0 {
			acked++
		}
	}
	return len(l.all), acked
}

// AckedSince returns how many events from a number on Kafka has, by partition.
func (l *Events) AckedSince(n int) map[int32]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[int32]int)
	for _, e := range l.all[n:] {
		if e.Acked > 0 {
			all[e.ID.Partition]++
		}
	}
	return all
}

// snapshot copies the events as they are known now.
func (l *Events) snapshot() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Event, len(l.all))
	for i, e := range l.all {
		out[i] = *e
	}
	return out
}
