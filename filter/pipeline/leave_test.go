package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/internal/testenv"
)

// countingMembers counts how often somebody asked who is in the group.
type countingMembers struct {
	Kafka
	asked *atomic.Int64
}

func (c countingMembers) Members(ctx context.Context) (int, error) {
	defer c.asked.Add(1)
	return c.Kafka.Members(ctx)
}

// A service that can't reach the store leaves its partitions to one that can, and takes
// its share again when the store answers. One that is alone keeps them.
func TestLeavesWithoutStore(t *testing.T) {
	t.Parallel()
	const partitions = 4
	w := newWorld(t, partitions)
	w.cfg.LeaveAfter = time.Second
	w.seat(1, 7, "s")
	var asked atomic.Int64
	w.wrap = func(k Kafka) Kafka { return countingMembers{k, &asked} }
	good := w.start()
	ours := w.store
	w.store = &faulty{backend: ours.backend}
	cut := w.start()
	held := func(s *running) int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.assignments)
	}
	shares := func(want int) {
		t.Helper()
		testenv.Eventually(t, patience, func() error {
			if a, b := held(good), held(cut); a != partitions-want || b != want {
				return fmt.Errorf("shares are %d and %d, want %d and %d", a, b, partitions-want, want)
			}
			return nil
		})
	}
	shares(2)

	w.store.down()
	shares(0)
	for p := range int32(partitions) {
		w.produce(p, values("a", 10)...)
		w.reaches(p, 10)
	}
	if err := cut.Ready(t.Context()); !errors.Is(err, errAway) {
		t.Errorf("Ready = %v, want %v", err, errAway)
	}
	w.store.up()
	shares(2)

	// Nobody else is there: to leave would help nobody.
	good.stop()
	shares2 := func() error {
		if n := held(cut); n != partitions {
			return fmt.Errorf("%d partitions, want all", n)
		}
		return nil
	}
	testenv.Eventually(t, patience, shares2)
	w.store.down()
	before := asked.Load()
	testenv.Eventually(t, patience, func() error {
		if n := asked.Load() - before; n < 2 {
			return fmt.Errorf("it looked %d times whether others are there", n)
		}
		return nil
	})
	if err := shares2(); err != nil {
		t.Error(err)
	}
	w.store.up()
	for p := range int32(partitions) {
		w.produce(p, values("b", 10)...)
		w.reaches(p, 20)
		w.holds(p, 0, 20, event.Address{Gateway: 1, Seat: 7})
	}
}
