package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/internal/testenv"
	"eventstream/replay"
	"eventstream/topic"
)

// shut is a format of values "open" and "shut": these can be read once they are opened.
type shut struct{ opened atomic.Bool }

func (s *shut) Append(_ context.Context, dst, value []byte) ([]byte, error) {
	switch {
	case string(value) == "bad":
		return nil, errors.New("it is bad")
	case string(value) == "gone":
		return nil, fmt.Errorf("schema id 7: %w", topic.ErrNoSchema)
	case string(value) == "shut" && !s.opened.Load():
		return nil, fmt.Errorf("%w: shut", topic.ErrNotYet)
	}
	return fmt.Appendf(dst, `{"event_type":"a","was":%q}`, value), nil
}

// TestRecordNotReadableYet: what can't be read now waits, with all that comes after it in its
// partition. What came before it does not wait, and nothing is lost or a dead letter.
func TestRecordNotReadableYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	format := new(shut)
	w.cfg.Source = (*topic.Source)(nil).In(format)
	w.cfg.VerifyEvery = time.Hour // no idle partition is verified
	s := w.start()
	w.seat(event.Gateway(1), 1, "ann")
	w.produce(0, "open", "bad", "shut", "open")
	w.produce(1, "open", "gone")
	w.reaches(0, 2)
	w.reaches(1, 2)
	testenv.Eventually(t, patience, func() error {
		if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "offset 2: "+topic.ErrNotYet.Error()) {
			return fmt.Errorf("ready: %v, want the reason", err)
		}
		return nil
	})
	_, before := w.lane(0)
	w.seat(event.Gateway(1), 2, "bob")
	testenv.Eventually(t, patience, func() error { // it is alive, and knows of who comes now
		if _, pos := w.lane(0); pos.Beat < before.Beat+2 || pos.Synced == before.Synced {
			return fmt.Errorf("the lane is at beat %d, synced to %v; it was at %d, %v", pos.Beat, pos.Synced, before.Beat, before.Synced)
		}
		return nil
	})
	c := s.client(t)
	serves(t, c)
	if _, pos := w.lane(0); pos.Next != 2 {
		t.Errorf("the lane is at %d, want 2", pos.Next)
	}
	if _, err := ask(t.Context(), c, replay.Request{Subscriber: "ann", From: []int64{2, 0}}); !errors.Is(err, replay.ErrBroken) || !strings.Contains(err.Error(), "shut") {
		t.Errorf("replay: got %v, want it to fail, and not to pass over the record", err)
	}
	format.opened.Store(true)
	w.reaches(0, 4)
	got, err := ask(t.Context(), c, replay.Request{Subscriber: "ann", From: []int64{0, 1}})
	if err != nil || !slices.Equal(got.offsets[0], []int64{0, 2, 3}) || !slices.Contains(slices.Collect(maps.Values(got.data)), `{"event_type":"a","was":"shut"}`) {
		t.Errorf("replay: %v of %s, %v, want offsets 0, 2 and 3", got.offsets, got.data, err)
	}
	if n := counterValue(t, s.metrics.replayNoSchema); n == 0 {
		t.Error("the replay passed over a record without a schema, and did not count it")
	}
	if n := counterValue(t, s.metrics.deadLetters); n != 2 {
		t.Errorf("%v dead letters, want the one that is bad, and the one without a schema", n)
	}
}
