package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"eventstream/filter"
	"eventstream/lane"
	"eventstream/replay"
)

// What is told of filters in memory is what they are, whatever the part that is asked for,
// and which of them match is what Spec.Match says.
func TestExplainRoutes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	r := newRoutes(lane.Shard{})
	all := make(map[filter.ID]filter.Filter)
	for i := range 3 * scanAtOnce {
		f := filter.Filter{ID: filter.ID(fmt.Sprintf("%08x-0000-4000-8000-%012x", rng.Uint32(), i)), Revision: 1 + rng.Int64N(9)}
		f.SubscriberID = []string{"ada", "bob", "eve"}[rng.IntN(3)]
		least := float64(rng.IntN(10))
		f.EventTypes, f.MinAmount = []string{[]string{"a", "b"}[rng.IntN(2)]}, &least
		deleted := rng.IntN(5) == 0
		r.setFilter(filter.Change{Filter: f})
		if deleted {
			r.setFilter(filter.Change{Filter: filter.Filter{ID: f.ID, Revision: f.Revision + 1, Spec: filter.Spec{SubscriberID: f.SubscriberID}}, Deleted: true})
			continue
		}
		all[f.ID] = f
	}
	r.join(1, []lane.Seated{{Seat: 7, Subscriber: "ada"}, {Seat: 8, Subscriber: "ada"}})
	r.publish()
	ids := slices.Sorted(maps.Keys(all))
	for _, tt := range []struct {
		after, upTo filter.ID
		event       string
	}{
		{"", "", `{"event_type":"a","amount":5}`},
		{ids[100], "", `{"event_type":"b","amount":3}`},
		{"", ids[200], `{"event_type":"a","amount":9}`},
		{ids[100], ids[200], `{"event_type":"c"}`},
	} {
		for _, subscriber := range []string{"ada", "bob", "nobody"} {
			decoded, err := filter.DecodeEvent([]byte(tt.event))
			if err != nil {
				t.Fatal(err)
			}
			want, addressed := []replay.LiveFilter{}, false
			for _, id := range ids {
				f := all[id]
				if f.SubscriberID != subscriber {
					continue
				}
				x := f.Explain(decoded)
				addressed = addressed || x.Matches && subscriber == "ada"
				if id > tt.after && (tt.upTo == "" || id <= tt.upTo) {
					want = append(want, replay.LiveFilter{ID: id, Revision: f.Revision, Matches: x.Matches})
				}
			}
			keys, err := r.filtersOf(t.Context(), replay.Question{Subscriber: subscriber, After: tt.after, UpTo: tt.upTo})
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.explain(keys, []byte(tt.event), nil)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, %q to %q, %s: %v, got %v, want %v", subscriber, tt.after, tt.upTo, tt.event, err, got, want)
			}
			yes, seats, err := r.addressed(subscriber, []byte(tt.event), nil)
			if wantSeats := map[string]int{"ada": 2}[subscriber]; yes != addressed || seats != wantSeats || err != nil {
				t.Errorf("%s, %s: addressed %t to %d seats, %v; want %t to %d", subscriber, tt.event, yes, seats, err, addressed, wantSeats)
			}
		}
	}
}

// A service tells what it has, which of another shard it is, and refuses what is too much.
func TestExplain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.serve(lane.Shard{Index: lane.ShardOf("s", 2), Of: 2})
	w.seat(1, 1, "s", "a")
	s := w.start()
	w.ready(s)
	ask := func(subscriber, data string) (replay.Live, error) {
		return s.Explain(t.Context(), replay.Question{Subscriber: subscriber, Event: json.RawMessage(data)})
	}
	for data, want := range map[string]bool{`{"event_type":"a"}`: true, `{"event_type":"b"}`: false} {
		got, err := ask("s", data)
		if err != nil || len(got.Filters) != 1 || got.Filters[0].Matches != want || got.Addressed != want || got.Seats != 1 || got.Waits != "" || got.Filters[0].Revision != 1 {
			t.Errorf("%s: %+v, %v; want that it matches: %t", data, got, err, want)
		}
	}
	other := "user_0"
	for i := 0; lane.ShardOf(other, 2) == w.cfg.Shard.Index; i++ {
		other = fmt.Sprint("user_", i)
	}
	if _, err := ask(other, `{"event_type":"a"}`); !errors.Is(err, replay.ErrElsewhere) {
		t.Errorf("of another shard: %v, want %v", err, replay.ErrElsewhere)
	}
	if _, err := ask("s", `{}`); !errors.Is(err, replay.ErrRequest) {
		t.Errorf("no event: %v, want %v", err, replay.ErrRequest)
	}
	for range explainsAtOnce {
		s.explaining <- struct{}{}
	}
	if _, err := ask("s", `{"event_type":"a"}`); !errors.Is(err, replay.ErrUnavailable) {
		t.Errorf("too many at once: %v, want %v", err, replay.ErrUnavailable)
	}
}

// BenchmarkExplain says what a look for the filters of one subscriber costs, and for how
// long at most it holds the lock that changes of filters wait for.
func BenchmarkExplain(b *testing.B) {
	const filters = 200_000
	r := newRoutes(lane.Shard{})
	least := 1.0
	for i := range filters {
		r.setFilter(filter.Change{Filter: filter.Filter{
			ID: filter.ID(fmt.Sprintf("00000000-0000-4000-8000-%012x", i)), Revision: 1,
			Spec: filter.Spec{SubscriberID: fmt.Sprint("user_", i/10), EventTypes: []string{"a"}, MinAmount: &least},
		}})
	}
	r.publish()
	b.ReportAllocs()
	for b.Loop() {
		keys, err := r.filtersOf(b.Context(), replay.Question{Subscriber: "user_7"})
		if err != nil || len(keys) != 10 {
			b.Fatal(len(keys), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(filters/scanAtOnce), "ns/lock")
}
