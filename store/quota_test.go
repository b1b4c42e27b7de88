package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/store"
)

// limited is a Store with quotas.
type limited interface {
	Store
	Limit(filter.Quota)
}

func eachLimited(t *testing.T, q filter.Quota, test func(*testing.T, limited)) {
	each(t, func(t *testing.T, s Store) {
		s.(limited).Limit(q)
		test(t, s.(limited))
	})
}

func wantOver(t *testing.T, what string, err error, text string) {
	t.Helper()
	if over, ok := errors.AsType[*filter.QuotaError](err); !ok || over.Subscriber != "ada" || !strings.Contains(over.Error(), text) {
		t.Errorf("%s: %v, want an error about the quota of ada: %s", what, err, text)
	}
}

func broad(part string) filter.Spec {
	return filter.Spec{SubscriberID: "ada", Where: filter.Where{"note": {Contains: &part}}, MatchAll: true}
}

// TestQuotas has each bound refuse what is too much in every way to write a filter,
// and room come back.
func TestQuotas(t *testing.T) {
	wide := spec("ada", "a", "b", "c", "d", "e")
	for _, tt := range []struct {
		name  string
		quota filter.Quota
		fits  []filter.Spec // together
		over  filter.Spec
		text  string
	}{
		{"filters", filter.Quota{Filters: 2}, []filter.Spec{spec("ada", "a"), spec("ada", "b")}, spec("ada", "c"),
			"filters: at most 2 are allowed, there are 2, and this is 1 more"},
		{"values", filter.Quota{Values: 8}, []filter.Spec{wide, spec("ada", "a", "b")}, spec("ada", "c", "d"),
			"values in all alternatives: at most 8 are allowed, there are 7, and this is 2 more"},
		{"broad", filter.Quota{Broad: 2}, []filter.Spec{broad("a"), broad("b")}, broad("c"),
			"broad filters (match_all): at most 2 are allowed, there are 2, and this is 1 more"},
		{"tried", filter.Quota{Tried: 2}, []filter.Spec{broad("a"), broad("b")}, broad("c"),
			"tests by suffix, contains, ne, not_in and exists false, in all alternatives: at most 2 are allowed, there are 2, and this is 1 more"},
		{"bytes", filter.Quota{Bytes: 100}, []filter.Spec{spec("ada", "a"), spec("ada", "b")}, spec("ada", "c"),
			"bytes of JSON: at most 100 are allowed, there are 86, and this is 43 more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachLimited(t, tt.quota, func(t *testing.T, s limited) {
				ctx := t.Context()
				var made []filter.Filter
				for _, f := range tt.fits {
					made = append(made, create(t, s, f))
				}
				refused := func(what string) {
					t.Helper()
					_, err := s.Create(ctx, tt.over)
					wantOver(t, "Create "+what, err, tt.text)
					for range 2 { // no key is taken
						_, _, err = s.CreateOnce(ctx, tt.over, "key")
						wantOver(t, "CreateOnce "+what, err, tt.text)
						_, _, err = s.ImportOnce(ctx, imports([]filter.Spec{spec("bob", "b"), tt.over}), "key")
						wantOver(t, "ImportOnce "+what, err, tt.text)
					}
					_, err = s.Import(ctx, imports([]filter.Spec{spec("bob", "b"), tt.over}))
					wantOver(t, "Import "+what, err, tt.text)
				}
				refused("when all is used")
				if list, err := s.List(ctx, "bob", "", 10); len(list) > 0 || err != nil {
					t.Errorf("an import that was refused left %+v, %v", list, err)
				}
				bobs := tt.over.Clone()
				bobs.SubscriberID = "bob"
				create(t, s, bobs) // has room of his own

				last := made[len(made)-1]
				if _, err := s.Update(ctx, last.ID, last.Spec, 0); err != nil {
					t.Errorf("Update to the same: %v", err)
				}
				refused("after an update that changes nothing")
				if _, err := s.Delete(ctx, last.ID, 0); err != nil {
					t.Fatal(err)
				}
				again := create(t, s, tt.over)
				if _, err := s.Delete(ctx, again.ID, 0); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Import(ctx, imports([]filter.Spec{last.Spec})); err != nil {
					t.Errorf("Import into the room of a filter that was deleted: %v", err)
				}
				refused("after an import")
				if _, err := s.DeleteAll(ctx, "ada"); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Import(ctx, imports(tt.fits)); err != nil {
					t.Errorf("Import after DeleteAll: %v", err)
				}
				refused("after DeleteAll and an import")
			})
		})
	}
}

func TestQuotaOfUpdates(t *testing.T) {
	eachLimited(t, filter.Quota{Values: 5}, func(t *testing.T, s limited) {
		ctx := t.Context()
		create(t, s, spec("ada", "a", "b"))
		f := create(t, s, spec("ada", "c", "d"))
		_, err := s.Update(ctx, f.ID, spec("ada", "c", "d", "e", "f"), 0)
		wantOver(t, "Update", err, "at most 5 are allowed, there are 4, and this is 2 more")
		_, err = s.Update(ctx, f.ID, spec("ada", "c", "d", "e", "f"), 7)
		wantErr(t, "Update of another revision", err, store.ErrConflict)
		if _, err := s.Update(ctx, f.ID, spec("ada", "c", "d", "e"), 1); err != nil {
			t.Errorf("Update to all that is allowed: %v", err)
		}
		s.Limit(filter.Quota{Values: 2}) // what is there stays, and may become less
		if _, err := s.Update(ctx, f.ID, spec("ada", "x", "y"), 0); err != nil {
			t.Errorf("Update to less, past a quota that was lowered: %v", err)
		}
		_, err = s.Update(ctx, f.ID, spec("ada", "x", "y", "z"), 0)
		wantOver(t, "Update to more", err, "at most 2 are allowed, there are 4, and this is 1 more")
	})
}

// TestQuotaHoldsAtOnce lets many write at random, and looks at what there is.
func TestQuotaHoldsAtOnce(t *testing.T) {
	const most, tries, writers = 7, 40, 8
	eachLimited(t, filter.Quota{Filters: most, Values: 2 * most}, func(t *testing.T, s limited) {
		ctx := t.Context()
		var refused atomic.Int32
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(1, uint64(w)))
				for i := range tries {
					subscriber := []string{"ada", "bob"}[rnd.IntN(2)]
					var err error
					switch rnd.IntN(6) {
					case 0, 1:
						_, err = s.Create(ctx, spec(subscriber, "a", "b"))
					case 2:
						_, _, err = s.CreateOnce(ctx, spec(subscriber, "a"), fmt.Sprint(w, i))
					case 3:
						_, err = s.Import(ctx, imports([]filter.Spec{spec(subscriber, "a"), spec("bob", "b"), spec("ada", "c")}))
					case 4:
						_, err = change(t, s, subscriber, rnd)
					case 5:
						if rnd.IntN(8) == 0 {
							_, err = s.DeleteAll(ctx, subscriber)
						}
					}
					if errors.As(err, new(*filter.QuotaError)) {
						refused.Add(1)
					} else if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if refused.Load() == 0 {
			t.Error("nothing was refused")
		}
		for _, subscriber := range []string{"ada", "bob"} {
			list, err := s.List(ctx, subscriber, "", 1000)
			if err != nil {
				t.Fatal(err)
			}
			values := 0
			for _, f := range list {
				values += len(f.EventTypes)
			}
			if len(list) > most || values > 2*most {
				t.Errorf("%s has %d filters with %d values; at most %d with %d are allowed", subscriber, len(list), values, most, 2*most)
			}
			// What is counted is what there is: exactly as much fits beside it.
			room := make([]string, 2*most-values)
			for i := range room {
				room[i] = fmt.Sprint(i)
			}
			if len(list) == most || len(room) == 0 {
				continue
			}
			if _, err := s.Create(ctx, spec(subscriber, append(room, "more")...)); !errors.As(err, new(*filter.QuotaError)) {
				t.Errorf("%s: one value too many: %v", subscriber, err)
			}
			if _, err := s.Create(ctx, spec(subscriber, room...)); err != nil {
				t.Errorf("%s: as many values as are left: %v", subscriber, err)
			}
		}
	})
}

// change updates or deletes one of a subscriber's filters.
func change(t *testing.T, s Store, subscriber string, rnd *rand.Rand) (filter.Filter, error) {
	list, err := s.List(t.Context(), subscriber, "", 10)
	if err != nil || len(list) == 0 {
		return filter.Filter{}, err
	}
	f := list[rnd.IntN(len(list))]
	if rnd.IntN(2) == 0 {
		f, err = s.Delete(t.Context(), f.ID, 0)
	} else {
		f, err = s.Update(t.Context(), f.ID, spec(subscriber, []string{"x", "y", "z"}[:1+rnd.IntN(3)]...), 0)
	}
	if errors.Is(err, store.ErrNotFound) { // somebody else was first
		err = nil
	}
	return f, err
}

// TestOldFiltersAreCounted begins with a database of a version without quotas.
func TestOldFiltersAreCounted(t *testing.T) {
	dsn := testenv.Postgres(t)
	s, conn := postgres(t, dsn), connect(t, dsn)
	ctx := t.Context()
	const n = 2500
	var all []filter.Spec
	for i := range n {
		all = append(all, spec([]string{"ada", "bob", "cy"}[i%3], "a", "b"))
	}
	if _, err := s.Import(ctx, imports(all)); err != nil {
		t.Fatal(err)
	}
	changed := create(t, s, spec("ada", "a"))
	gone := create(t, s, spec("ada", "a"))
	if _, err := conn.Exec(ctx, `
		drop table eventstream_migrations; drop table filter_counts; drop index filters_uncounted;
		alter table filters drop column n_values, drop column n_tried, drop column n_broad, drop column n_bytes`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, spec("ada", "a")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Create before the schema is there: %v, want ErrUnavailable", err)
	}
	if err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(ctx, changed.ID, spec("ada", "a", "b"), 0); err != nil { // counts from now on
		t.Errorf("Update of a filter that is not counted: %v", err)
	}
	if _, err := s.Delete(ctx, gone.ID, 0); err != nil {
		t.Errorf("Delete of a filter that is not counted: %v", err)
	}
	changes := func() (all string) { // which transactions changed what, as readers see it
		if err := conn.QueryRow(ctx, `select md5(string_agg(id::text || changed_in, ',' order by id)) from filters`).Scan(&all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := changes()
	var counted atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			m, err := s.CountOld(ctx)
			if err != nil {
				t.Error(err)
			}
			counted.Add(m)
		})
	}
	wg.Wait()
	if counted.Load() != n {
		t.Errorf("counted %d old filters, want %d", counted.Load(), n)
	}
	if m, err := s.CountOld(ctx); m != 0 || err != nil {
		t.Errorf("CountOld again = %d, %v", m, err)
	}
	if changes() != before {
		t.Error("filters are changed for readers by being counted")
	}
	var same bool
	err := conn.QueryRow(ctx, `
		select count(*) = 3 and bool_and((c.filters, c.n_values, c.n_bytes) = (f.filters, f.n_values, f.n_bytes))
		from filter_counts c join (
			select subscriber_id, count(*) filters, 2 * count(*) n_values, sum(length(replace(spec::text, ' ', ''))) n_bytes
			from filters where deleted_at is null group by subscriber_id
		) f using (subscriber_id)`).Scan(&same)
	if err != nil || !same {
		t.Errorf("the counts are not those of the filters: %t, %v", same, err)
	}
}
