package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/internal/ops"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/topic"
)

// A partition whose only broker is away holds up nothing but itself: also a service that
// starts then goes on with the others, those who join are known in its lane, and what
// comes after, when the broker is back, is delivered to them.
func TestPartitionWithoutLeader(t *testing.T) {
	t.Parallel()
	k := testenv.KafkaServer(t)
	second := k.Second()
	k.Place("events", 1, 2, 1)
	k.Place("events.dlq", 1)
	w := worldOf(t, topic.Config{Brokers: []string{k.Addr}, Topic: "events", Group: "g", Partitions: 3}, lane.NewMemory())
	w.seat(1, 1, "s")
	s := w.start()
	for p := range int32(3) {
		w.produce(p, values("a", 5)...)
	}
	for p := range int32(3) {
		w.reaches(p, 5)
	}
	second.Kill()
	degraded := func(s *running) {
		t.Helper()
		testenv.Eventually(t, 2*patience, func() error {
			err := s.Ready(t.Context())
			if !ops.IsDegraded(err) || !strings.Contains(err.Error(), "[1]") {
				return fmt.Errorf("Ready: got %v, want degraded, partition 1", err)
			}
			return nil
		})
	}
	degraded(s)
	s.stop()
	s = w.start()
	degraded(s)
	for _, p := range []int32{0, 2} {
		w.produce(p, values("b", 5)...)
		w.reaches(p, 10)
		w.holds(p, 0, 10, one)
	}

	// Those who come now are known everywhere.
	two := event.Address{Gateway: 1, Seat: 2}
	w.seat(1, 2, "s")
	at, err := w.store.ControlEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, func() error {
		if _, pos := w.lane(1); pos.Synced.Compare(at) < 0 || pos.Next != 5 {
			return fmt.Errorf("lane 1: %+v, want it where it was, at 5, and matched with all up to %v", pos, at)
		}
		return nil
	})

	// A replay that needs the partition has to wait; another one does not.
	c := s.client(t)
	got := mustAsk(t, c, replay.Request{Subscriber: "s", From: []int64{0, 5, 0}, To: []int64{10, 5, 10}})
	if len(got.data) != 20 {
		t.Errorf("replay of nothing in partition 1: got %v", got.offsets)
	}
	for _, r := range []replay.Request{{Subscriber: "s", From: []int64{0, 4, 0}, To: []int64{10, 5, 10}}, {Subscriber: "s", From: []int64{0, 5, 0}}} {
		_, err := c.Open(t.Context(), r)
		if !errors.Is(err, replay.ErrUnavailable) || !strings.Contains(err.Error(), "partition 1: "+topic.ErrNoLeader.Error()) {
			t.Errorf("replay of partition 1, %+v: got %v, want %v", r, err, topic.ErrNoLeader)
		}
	}

	second.Restart()
	w.produce(1, values("c", 5)...)
	w.reaches(1, 10)
	evs, _ := w.lane(1)
	for i, e := range evs {
		want := 1
		if i >= 5 {
			want = 2
		}
		if e.offset != int64(i) || len(e.to) != want || e.to[want-1] != []event.Address{one, two}[want-1] {
			t.Errorf("lane 1: event %d has offset %d and goes to %v", i, e.offset, e.to)
		}
	}
	if len(evs) != 10 {
		t.Errorf("lane 1 holds %d events, want 10", len(evs))
	}
	testenv.Eventually(t, patience, func() error { return s.Ready(t.Context()) })
}

// Where the lane of a partition without a leader would begin nobody knows, if there is
// none: it is begun when there is a leader.
func TestNoLaneAndNoLeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.seat(1, 1, "s")
	w.produce(0, values("a", 5)...)
	w.produce(1, values("a", 5)...)
	gone := &leaderless{partition: 1}
	w.wrap = func(k Kafka) Kafka { gone.Kafka = k; return gone }
	gone.set(true)
	s := w.start()
	w.reaches(0, 5)
	testenv.Eventually(t, patience, func() error {
		if err := s.Ready(t.Context()); !ops.IsDegraded(err) {
			return fmt.Errorf("Ready: got %v, want degraded", err)
		}
		return nil
	})
	if _, pos := w.lane(1); pos.Next != -1 {
		t.Errorf("lane 1 is at %d, want none", pos.Next)
	}
	gone.set(false)
	w.reaches(1, 5)
	w.holds(1, 0, 5, one)
	testenv.Eventually(t, patience, func() error { return s.Ready(t.Context()) })

	// A store that is emptied then: the worker knows where it was.
	gone.set(true)
	w.store.backend.(*lane.Memory).Wipe()
	w.seq = make(map[event.Gateway]uint64)
	w.announce(1, lane.Seated{Seat: 1, Subscriber: "s"})
	testenv.Eventually(t, patience, func() error {
		if _, pos := w.lane(1); pos.Next != 5 || pos.First != 5 {
			return fmt.Errorf("lane 1: %+v, want it to begin where it was, at 5", pos)
		}
		return nil
	})
	gone.set(false)
	w.produce(1, values("b", 5)...)
	w.reaches(1, 10)
	w.holds(1, 5, 10, one)
}

// leaderless is a Kafka whose word on one partition is that it has no leader.
type leaderless struct {
	Kafka
	partition int32
	now       atomic.Bool
}

func (l *leaderless) set(gone bool) { l.now.Store(gone) }

func (l *leaderless) Range(ctx context.Context, p int32, since time.Time) (topic.Range, error) {
	if p == l.partition && l.now.Load() {
		return topic.Range{}, topic.ErrNoLeader
	}
	return l.Kafka.Range(ctx, p, since)
}

func (l *leaderless) Ends(ctx context.Context) (topic.Offsets, error) {
	ends, err := l.Kafka.Ends(ctx)
	if err == nil && l.now.Load() {
		ends[l.partition] = topic.Offset{Err: topic.ErrNoLeader}
	}
	return ends, err
}
