package pipeline

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
)

// serve makes the services that are started from now on those of a shard.
func (w *world) serve(sh lane.Shard) {
	w.cfg.Shard, w.kafka.Group = sh, "g."+sh.String()
}

// people takes seats from first on for n subscribers, and returns the addresses
// of each of two shards.
func (w *world) people(first, n int) (seats [2][]event.Address) {
	w.t.Helper()
	for i := first; i < first+n; i++ {
		name := fmt.Sprint("user_", i)
		w.seat(1, event.Seat(i), name)
		sh := lane.ShardOf(name, 2)
		seats[sh] = append(seats[sh], event.Address{Gateway: 1, Seat: event.Seat(i)})
	}
	return seats
}

// Each shard serves its own subscribers and holds no others' filters, whether
// they were there before it or came later.
func TestShards(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	first := w.people(1, 10)
	services := make([]*running, 2)
	for i := range services {
		w.serve(lane.Shard{Index: int32(i), Of: 2})
		services[i] = w.start()
		w.ready(services[i])
	}
	for p := range int32(2) {
		w.produce(p, values("a", 50)...)
	}
	for i := range services {
		w.serve(lane.Shard{Index: int32(i), Of: 2})
		for p := range int32(2) {
			w.reaches(p, 50)
			w.holds(p, 0, 50, first[i]...)
		}
	}
	later := w.people(11, 10)
	w.produce(0, values("b", 50)...)
	for i, s := range services {
		w.serve(lane.Shard{Index: int32(i), Of: 2})
		w.reaches(0, 100)
		all := append(first[i], later[i]...)
		w.holds(0, 50, 100, all...)
		if got := s.routes.counts(); got.filters != len(all) || got.active != len(all) {
			t.Errorf("shard %d: %d filters, %d active; want %d", i, got.filters, got.active, len(all))
		}
	}
	if got, err := w.store.Topic(t.Context()); err != nil || got.Shards != 2 {
		t.Errorf("topic is %v, %v; want 2 shards", got, err)
	}
}

// A deleted filter goes although its deletion doesn't say whose it was.
func TestShardDeletes(t *testing.T) {
	r := newRoutes(lane.Shard{Index: lane.ShardOf("s", 2), Of: 2})
	r.setFilter(filter.Change{Filter: filter.Filter{ID: "f", Revision: 1, Spec: filter.Spec{SubscriberID: "s", MatchAll: true}}})
	r.setFilter(filter.Change{Filter: filter.Filter{ID: "f", Revision: 2}, Deleted: true})
	if got := r.counts().filters; got != 0 {
		t.Errorf("%d filters, want 0", got)
	}
}

// While the lanes of another number of shards are worked on, also if nothing
// happens there, a process does not begin. After that it takes over, and fills
// its lanes from Kafka.
func TestNumberOfShardsChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.Retention = time.Minute
	seats := w.people(1, 10)
	old := w.start()
	w.ready(old)
	w.produce(0, values("a", 50)...)
	w.reaches(0, 50)

	w.serve(lane.Shard{Index: 1, Of: 2})
	s := w.start()
	w.unready(s, "number of shards: 1, and this process is for shard 1/2")
	if _, pos := w.lane(0); pos.Next != -1 {
		t.Errorf("position %d, though the old ones are at work", pos.Next)
	}
	old.stop()
	w.ready(s)
	w.reaches(0, 50)
	w.holds(0, 0, 50, seats[1]...)
	if got, err := w.store.Topic(t.Context()); err != nil || got.Shards != 2 {
		t.Errorf("topic is %v, %v; want 2 shards", got, err)
	}
}

// A process whose subscribers others have begun to serve, divided otherwise, ends.
func TestShardsTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.ends = errShards
	s := w.start()
	w.ready(s)
	other := lane.Shard{Index: 0, Of: 2}
	if _, err := w.store.Claim(t.Context(), other, 0, w.topic.ID, 0, 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for sleep(ctx, 20*time.Millisecond) == nil {
			w.store.Append(ctx, lane.Append{Shard: other, Topic: w.topic.ID})
		}
	}()
	topic := w.topic
	topic.Shards = 2
	if err := w.store.SetTopic(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, func() error {
		select {
		case <-s.ended:
			return nil
		default:
			return errors.New("it goes on")
		}
	})
}

// A process that joins others takes partitions only when it can go on with them at
// once: it waits for presence before, and nobody waits for it.
func TestJoinsWhenItCanWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	first := w.start()
	w.ready(first)
	w.reaches(0, 0)
	w.reaches(1, 0)
	w.cfg.AnnounceGrace = time.Hour
	second := w.start()
	w.unready(second, "waiting for gateways")
	testenv.Eventually(t, patience, func() error {
		w.produce(0, values("a", 1)...)
		w.produce(1, values("a", 1)...)
		for p := range int32(2) {
			if _, pos := w.lane(p); pos.Next < 50 {
				return fmt.Errorf("partition %d is at %d", p, pos.Next)
			}
		}
		return nil
	})
	second.stop()
	w.ready(first)
}
