package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/store"
)

// The estimate is a number before there are statistics, and right with fresh ones.
func TestEstimate(t *testing.T) {
	dsn := testenv.Postgres(t)
	bare, err := store.NewPostgres(dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	if n, err := bare.Estimate(t.Context()); n != 0 || err != nil {
		t.Errorf("without a schema: %d, %v; want 0", n, err)
	}
	each := map[string]Store{"memory": &store.Memory{}, "postgres": postgres(t, dsn)}
	for name, s := range each {
		if n, err := s.Estimate(t.Context()); n != 0 || err != nil {
			t.Errorf("%s, empty: %d, %v; want 0", name, n, err)
		}
		if _, err := s.Import(t.Context(), specs(1000, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := connect(t, dsn).Exec(t.Context(), "analyze filters"); err != nil {
		t.Fatal(err)
	}
	for name, s := range each {
		if n, err := s.Estimate(t.Context()); n != 1000 || err != nil {
			t.Errorf("%s: %d, %v; want 1000", name, n, err)
		}
	}
}

// TestReadMany ends the reading of more filters than are decoded at a time, in all ways.
func TestReadMany(t *testing.T) {
	const n = 3000
	dsn := testenv.Postgres(t)
	s, conn := postgres(t, dsn), connect(t, dsn)
	if _, err := s.Import(t.Context(), specs(n, nil)); err != nil {
		t.Fatal(err)
	}
	reads := map[string]func(context.Context, func(filter.Filter) error) error{
		"Load": func(ctx context.Context, each func(filter.Filter) error) error {
			_, err := s.Load(ctx, each)
			return err
		},
		"ChangesSince": func(ctx context.Context, each func(filter.Filter) error) error {
			_, err := s.ChangesSince(ctx, "", func(c store.Change) error { return each(c.Filter) })
			return err
		},
	}
	// reach calls do when so many filters were read, and tells how many were in the end.
	reach := func(t *testing.T, ctx context.Context, name string, at int, do func() error) (seen int, err error) {
		t.Helper()
		ids := make(map[filter.ID]bool)
		calls := 0
		err = reads[name](ctx, func(f filter.Filter) error {
			ids[f.ID] = true
			if calls++; calls == at {
				return do()
			}
			return nil
		})
		if len(ids) != calls {
			t.Errorf("%s: %d calls for %d filters", name, calls, len(ids))
		}
		return calls, err
	}
	for name := range reads {
		t.Run(name, func(t *testing.T) {
			if seen, err := reach(t, t.Context(), name, 0, nil); seen != n || err != nil {
				t.Errorf("read %d filters, %v; want %d", seen, err, n)
			}
			enough := errors.New("enough")
			seen, err := reach(t, t.Context(), name, 1234, func() error { return enough })
			if seen != 1234 || !errors.Is(err, enough) {
				t.Errorf("stopped after 1234: read %d, %v; want that many and the error", seen, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			_, err = reach(t, ctx, name, 500, func() error { cancel(); return nil })
			if !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnavailable) {
				t.Errorf("cancelled on the way: %v, want context.Canceled alone", err)
			}
			ctx, cancel = context.WithCancel(t.Context())
			defer cancel()
			panicked := func() (p any) {
				defer func() { p = recover() }()
				reach(t, ctx, name, 700, func() error { panic("no more") })
				return nil
			}()
			if panicked != "no more" {
				t.Errorf("a panic of each came out as %v", panicked)
			}
		})
	}
	var id filter.ID
	if err := conn.QueryRow(t.Context(), `
		update filters set spec = spec || '{"cities":["x"]}'
		where id = (select id from filters offset $1 limit 1) returning id`, n/2).Scan(&id); err != nil {
		t.Fatal(err)
	}
	for name := range reads {
		_, err := reach(t, t.Context(), name, 0, nil)
		if !errors.Is(err, filter.ErrUnknown) || !strings.Contains(err.Error(), "spec of filter "+string(id)) || !strings.Contains(err.Error(), `"cities"`) {
			t.Errorf("%s: error %v, want ErrUnknown with filter %s and the name", name, err, id)
		}
	}
}

// TestReadStored reads what is and what is not plain, as it was written.
func TestReadStored(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		for _, sp := range []filter.Spec{
			{SubscriberID: "ada", EventTypes: []string{"a", "b"}, UserTiers: []string{"c"}, UserIDs: []string{"d"},
				Countries: []string{"e"}, MinAmount: new(-0.5), MaxAmount: new(1e15)},
			{SubscriberID: `a"d\a<ä>😀`, EventTypes: []string{"<&>", "Köln", "\u2028", `"`}, MinAmount: new(1e-9), MaxAmount: new(1e300)},
			{SubscriberID: "ada", MatchAll: true},
			{SubscriberID: "ada", Where: filter.Where{"country": {In: []filter.Scalar{filter.Text("DE"), filter.Num(1)}}}},
		} {
			made := create(t, s, sp)
			got, err := s.Get(t.Context(), made.ID)
			wantFilter(t, "Get", got, err, filter.Filter{ID: made.ID, Revision: 1, Spec: sp})
		}
		load(t, s).wantSame(t, s)
	})
}
