package store_test

import (
	"fmt"
	"testing"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/store"
)

// TestOwner: of several who see the same owner, one takes its place.
func TestOwner(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		a, b, c := event.TopicID{1}, event.TopicID{2}, event.TopicID{3}
		none, err := s.Owner(t.Context())
		if err != nil || none != (filter.Owner{}) {
			t.Fatalf("Owner at first = %+v, %v", none, err)
		}
		first, err := s.SetOwner(t.Context(), a, "events", none)
		if err != nil || first.Topic != a || first.Name != "events" || first.Seen.IsZero() {
			t.Errorf("SetOwner = %+v, %v", first, err)
		}
		if got, err := s.SetOwner(t.Context(), b, "late", none); err != nil || got != first {
			t.Errorf("SetOwner in the place of nobody = %+v, %v, want %+v", got, err, first)
		}
		again, err := s.SetOwner(t.Context(), a, "events", first)
		if err != nil || again.Topic != a || !again.Seen.After(first.Seen) {
			t.Errorf("SetOwner once more = %+v, %v", again, err)
		}
		if got, err := s.SetOwner(t.Context(), b, "late", first); err != nil || got != again {
			t.Errorf("SetOwner in the place of one that has said so since = %+v, %v", got, err)
		}
		if got, err := s.SetOwner(t.Context(), c, "next", again); err != nil || got.Topic != c || got.Name != "next" {
			t.Errorf("SetOwner in the place of another = %+v, %v", got, err)
		}
	})
}

// TestSchemas: two schemas of one database are two stores.
func TestSchemas(t *testing.T) {
	dsn := testenv.Postgres(t)
	conn := connect(t, dsn)
	var stores [2]*store.Postgres
	for i := range stores {
		name := fmt.Sprint("part", i)
		if _, err := conn.Exec(t.Context(), "create schema "+name); err != nil {
			t.Fatal(err)
		}
		stores[i] = postgres(t, dsn+"&search_path="+name)
		create(t, stores[i], spec(name, "purchase"))
		if _, err := stores[i].SetOwner(t.Context(), event.TopicID{byte(i + 1)}, name, filter.Owner{}); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range stores {
		o, err := s.Owner(t.Context())
		r := load(t, s)
		if err != nil || o.Topic != (event.TopicID{byte(i + 1)}) || len(r.all) != 1 {
			t.Errorf("schema %d: owner %+v, %v, %d filters", i, o, err, len(r.all))
		}
		if got, _ := changesOf(t, s, r.mark); len(got) != 0 {
			t.Errorf("schema %d: a look found %v", i, got)
		}
	}
}
