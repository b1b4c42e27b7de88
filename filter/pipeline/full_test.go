package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// A Redis without memory makes events wait in Kafka. What retention allows goes,
// and so it goes on, also with a service that starts when Redis is full.
func TestFullRedis(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{MaxMemory: "8mb"})
	w := newRealWorld(t, server, 1)
	w.cfg.Retention = 6 * time.Second // long enough to fill it on a busy machine
	w.seat(1, 1, "s")
	s := w.start()
	event := fmt.Sprintf(`{"event_type":"a","pad":%q}`, strings.Repeat("x", 20_000))
	w.produce(0, event)
	w.reaches(0, 1)
	const n = 600
	for range n / 10 {
		w.produce(0, event, event, event, event, event, event, event, event, event, event)
	}
	testenv.Eventually(t, patience, func() error {
		if metric(t, s, "redis_failures_total") == 0 {
			return errors.New("Redis isn't full")
		}
		return nil
	})
	s.stop()
	s = w.start()
	w.reaches(0, n+1)
	w.ready(s)
	s.stop() // or it trims while we look
	evs, pos := w.lane(0)
	if len(evs) == 0 || len(evs) == n+1 {
		t.Errorf("lane holds %d events, want some", len(evs))
	}
	w.holds(0, pos.First, n+1, one)
}
