package pipeline

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/bubble"
	"eventstream/lane"
	"eventstream/store"
)

// TestTwoPipelines: of two topics, one has the filter store, as long as it says so.
func TestTwoPipelines(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t, 1), newWorld(t, 1)
	other.filters = w.filters
	s := w.start()
	w.ready(s)
	second := other.start()
	other.unready(second, "another pipeline's: filter services of topic events")
	w.ready(w.start())
	s.stop()
	other.unready(second, "another pipeline's: filter services of topic events")
}

func TestOwn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		filters := &faultyFilters{filterStore: &store.Memory{}}
		service := func(id byte) *Service {
			s := New(Config{}, nil, filters, nil, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
			s.topic.Store(&lane.Topic{Name: "events", ID: event.TopicID{id}})
			s.topics = []event.TopicID{{id}}
			return s
		}
		a, b := service(1), service(2)
		step := func(s *Service, want error) {
			t.Helper()
			if err := s.own(t.Context()); !errors.Is(err, want) {
				t.Errorf("own = %v, want %v", err, want)
			}
		}
		for range 20 {
			step(a, nil)
			step(b, filter.ErrTaken)
			time.Sleep(filter.OwnerBeat)
		}
		// While the store is away a cannot say so; that is no time in which b may take it.
		filters.set(filter.ErrUnavailable)
		for range 20 {
			step(b, filter.ErrUnavailable)
			time.Sleep(filter.OwnerBeat)
		}
		filters.set(nil)
		step(b, filter.ErrTaken)
		step(a, nil)
		// a has gone.
		for began := time.Now(); ; time.Sleep(filter.OwnerBeat) {
			err := b.own(t.Context())
			if gone := time.Since(began); err == nil && gone < filter.OwnerLapse || err != nil && gone > filter.OwnerLapse+filter.OwnerBeat {
				t.Errorf("own = %v when the owner had been silent for %v", err, gone)
			}
			if err == nil {
				break
			}
		}
		step(a, filter.ErrTaken)
		// The topic of b is made anew; of two services, one has not noticed yet.
		old := service(2)
		b.topic.Store(&lane.Topic{Name: "events", ID: event.TopicID{3}})
		b.topics = append(b.topics, event.TopicID{3})
		step(old, nil)
		step(b, nil)
		step(a, filter.ErrTaken)
		old.topics = append(old.topics, event.TopicID{3})
		step(old, nil)
		step(b, nil)
	})
}
