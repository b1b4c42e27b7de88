package store_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/store"
)

// Store is what Postgres and Memory have in common.
type Store interface {
	Create(context.Context, filter.Spec) (filter.Filter, error)
	CreateOnce(ctx context.Context, s filter.Spec, key string) (filter.Filter, bool, error)
	Import(context.Context, iter.Seq2[filter.Spec, error]) (int64, error)
	ImportOnce(ctx context.Context, specs iter.Seq2[filter.Spec, error], key string) (int64, bool, error)
	DeleteAll(ctx context.Context, subscriber string) (int64, error)
	Get(context.Context, filter.ID) (filter.Filter, error)
	List(ctx context.Context, subscriber string, after filter.ID, limit int) ([]filter.Filter, error)
	Update(ctx context.Context, id filter.ID, s filter.Spec, ifRevision int64) (filter.Filter, error)
	Delete(ctx context.Context, id filter.ID, ifRevision int64) (filter.Filter, error)
	Estimate(context.Context) (int, error)
	Load(context.Context, func(filter.Filter) error) (store.Mark, error)
	ChangesSince(context.Context, store.Mark, func(store.Change) error) (store.Mark, error)
	Fingerprint(ctx context.Context, holds func(string) bool) (*filter.Fingerprint, error)
	LoadRanges(ctx context.Context, m store.Mark, ranges []int32, changed func(store.Change) error, each func(filter.Filter) error) error
	Purge(ctx context.Context, olderThan time.Duration) (int64, error)
	SaveAcks(context.Context, []event.Ack) error
	Acked(ctx context.Context, subscriber string) (event.Ack, error)
	ForgetAck(ctx context.Context, subscriber string) error
	ForgetAcks(ctx context.Context, before time.Time, limit int) (int64, error)
	CountAcks(ctx context.Context, before time.Time) (int64, error)
	Acks(ctx context.Context, after string, limit int) ([]event.Ack, error)
	AckTotals(ctx context.Context, topic event.TopicID, next []int64) (event.AckTotals, error)
	Revoke(context.Context, auth.Revocation) error
	RevocationsSince(context.Context, store.Mark, func(auth.Revocation) error) (store.Mark, error)
	Owner(context.Context) (filter.Owner, error)
	SetOwner(ctx context.Context, topic event.TopicID, name string, before filter.Owner) (filter.Owner, error)
	Ping(context.Context) error
	TryWrite(context.Context) error
	Close()
}

// each runs a test with an empty store of each kind.
func each(t *testing.T, test func(*testing.T, Store)) {
	t.Run("memory", func(t *testing.T) { test(t, &store.Memory{}) })
	t.Run("postgres", func(t *testing.T) { test(t, postgres(t, testenv.Postgres(t))) })
}

// postgres returns a store in the database of dsn, with its tables made.
func postgres(t *testing.T, dsn string) *store.Postgres {
	t.Helper()
	p, err := store.NewPostgres(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if err := p.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func spec(subscriber string, types ...string) filter.Spec {
	return filter.Spec{SubscriberID: subscriber, EventTypes: types}
}

func create(t *testing.T, s Store, spec filter.Spec) filter.Filter {
	t.Helper()
	f, err := s.Create(t.Context(), spec)
	if err != nil {
		t.Fatalf("Create(%+v) = %v", spec, err)
	}
	return f
}

func wantFilter(t *testing.T, what string, got filter.Filter, err error, want filter.Filter) {
	t.Helper()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s = %+v, %v; want %+v, nil", what, got, err, want)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func TestLifeOfAFilter(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		ctx := t.Context()
		made := create(t, s, spec("ada", "purchase"))
		if made.Revision != 1 || made.ID[14] != '7' {
			t.Errorf("Create = %+v, want revision 1 and a UUIDv7", made)
		}
		got, err := s.Get(ctx, made.ID)
		wantFilter(t, "Get", got, err, made)

		want := filter.Filter{ID: made.ID, Revision: 2, Spec: spec("ada", "refund")}
		got, err = s.Update(ctx, made.ID, want.Spec, 0)
		wantFilter(t, "Update", got, err, want)
		want.Revision = 3
		got, err = s.Update(ctx, made.ID, want.Spec, 2)
		wantFilter(t, "Update if revision 2", got, err, want)
		_, err = s.Update(ctx, made.ID, want.Spec, 2)
		wantErr(t, "Update if revision 2, but it is 3", err, store.ErrConflict)
		_, err = s.Update(ctx, made.ID, spec("bob", "refund"), 2)
		wantErr(t, "Update to another subscriber", err, store.ErrSubscriber)
		got, err = s.Get(ctx, made.ID)
		wantFilter(t, "Get", got, err, want)

		_, err = s.Delete(ctx, made.ID, 2)
		wantErr(t, "Delete if revision 2, but it is 3", err, store.ErrConflict)
		want.Revision = 4
		got, err = s.Delete(ctx, made.ID, 3)
		wantFilter(t, "Delete", got, err, want)

		_, err = s.Get(ctx, made.ID)
		wantErr(t, "Get after Delete", err, store.ErrNotFound)
		_, err = s.Update(ctx, made.ID, want.Spec, 0)
		wantErr(t, "Update after Delete", err, store.ErrNotFound)
		_, err = s.Delete(ctx, made.ID, 0)
		wantErr(t, "second Delete", err, store.ErrNotFound)
	})
}

func TestStrangeIDs(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		ctx := t.Context()
		made := create(t, s, spec("ada", "purchase"))
		got, err := s.Get(ctx, filter.ID(strings.ToUpper(string(made.ID))))
		wantFilter(t, "Get with the ID in capitals", got, err, made)
		for _, id := range []filter.ID{
			"", "7", "01a2092d-00d2-7c8d-adb7-41d088fd9c80", "{" + made.ID + "}", "urn:uuid:" + made.ID,
			made.ID + "0", "' or true --", "01a2092d00d27c8dadb741d088fd9c80", "\x00",
		} {
			_, err := s.Get(ctx, id)
			wantErr(t, fmt.Sprintf("Get(%q)", id), err, store.ErrNotFound)
			_, err = s.Update(ctx, id, made.Spec, 0)
			wantErr(t, fmt.Sprintf("Update(%q)", id), err, store.ErrNotFound)
			_, err = s.Delete(ctx, id, 0)
			wantErr(t, fmt.Sprintf("Delete(%q)", id), err, store.ErrNotFound)
		}
	})
}

func TestSpecsComeBackAsTheyWere(t *testing.T) {
	amount := func(f float64) filter.Spec { return filter.Spec{SubscriberID: "ada", MinAmount: &f} }
	specs := []filter.Spec{
		spec("ada", "a", "B", "ä", "\u2028", `"\`, "<&>", "日本語", "😀"),
		{SubscriberID: "日本語/😀", MatchAll: true},
		{SubscriberID: "ada", UserTiers: []string{"premium"}},
		amount(0), amount(-1.5), amount(0.1), amount(1e21), amount(math.MaxFloat64), amount(-math.MaxFloat64),
		amount(math.SmallestNonzeroFloat64), amount(9007199254740993),
		{SubscriberID: "ada", UserIDs: []string{"u"}, Countries: []string{"NL"}, Where: filter.Where{
			"a.b": {In: []filter.Scalar{filter.Text("x"), filter.Num(1e300), filter.Flag(false)}, Ne: new(filter.Text(""))},
			"at":  {Gte: new(filter.Text("2026-01-02T03:04:05Z"))},
		}},
		{SubscriberID: "ada", Any: []filter.Where{{"x": {Exists: new(true)}}, {"y": {Between: []filter.Scalar{filter.Num(1), filter.Num(2)}}}}},
		{SubscriberID: "ada", Expr: `x == "1"`, ExprAny: []filter.Where{{"x": {Eq: new(filter.Text("1"))}}}},
	}
	each(t, func(t *testing.T, s Store) {
		for _, want := range specs {
			made := create(t, s, want)
			got, err := s.Get(t.Context(), made.ID)
			wantFilter(t, "Get", got, err, filter.Filter{ID: made.ID, Revision: 1, Spec: want})
		}
	})
}

func TestInvalidSpecIsNotStored(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		made := create(t, s, spec("ada", "purchase"))
		for _, bad := range []filter.Spec{{}, {SubscriberID: "ada"}, spec("ada", ""), spec("a\x00da", "x")} {
			_, err := s.Create(t.Context(), bad)
			if _, ok := errors.AsType[*filter.Invalid](err); !ok {
				t.Errorf("Create(%+v): error %v, want *filter.Invalid", bad, err)
			}
			_, err = s.Update(t.Context(), made.ID, bad, 0)
			if _, ok := errors.AsType[*filter.Invalid](err); !ok {
				t.Errorf("Update(%+v): error %v, want *filter.Invalid", bad, err)
			}
		}
		list, err := s.List(t.Context(), "", "", 10)
		if len(list) != 1 || err != nil {
			t.Errorf("List = %+v, %v; want the valid one alone", list, err)
		}
	})
}

func TestListInPages(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		var all, ada []filter.Filter
		for i := range 9 {
			f := create(t, s, spec([]string{"ada", "bob", "cy"}[i%3], "purchase"))
			if i == 4 {
				if _, err := s.Delete(t.Context(), f.ID, 0); err != nil {
					t.Fatal(err)
				}
				continue
			}
			all = append(all, f)
			if i%3 == 0 {
				ada = append(ada, f)
			}
		}
		for _, tt := range []struct {
			subscriber string
			after      filter.ID
			limit      int
			want       []filter.Filter
		}{
			{"", "", 100, all},
			{"", "", 3, all[:3]},
			{"", all[2].ID, 3, all[3:6]},
			{"", all[7].ID, 3, nil},
			{"ada", "", 100, ada},
			{"ada", "", 1, ada[:1]},
			{"ada", ada[0].ID, 1, ada[1:2]},
			{"ada", all[1].ID, 5, ada[1:]}, // after another subscriber's
			{"nobody", "", 5, nil},
			{"", "", 0, nil},
		} {
			got, err := s.List(t.Context(), tt.subscriber, tt.after, tt.limit)
			if err != nil || !slices.EqualFunc(got, tt.want, func(a, b filter.Filter) bool { return reflect.DeepEqual(a, b) }) {
				t.Errorf("List(%q, %q, %d) = %+v, %v; want %+v", tt.subscriber, tt.after, tt.limit, got, err, tt.want)
			}
		}
		_, err := s.List(t.Context(), "", "what", 1)
		wantErr(t, "List after no ID", err, store.ErrNotFound)
	})
}

func TestEndedContext(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		made := create(t, s, spec("ada", "purchase"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		errs := map[string]error{"Ping": s.Ping(ctx), "TryWrite": s.TryWrite(ctx)}
		_, errs["Create"] = s.Create(ctx, made.Spec)
		_, errs["Get"] = s.Get(ctx, made.ID)
		_, errs["List"] = s.List(ctx, "", "", 1)
		_, errs["Update"] = s.Update(ctx, made.ID, made.Spec, 0)
		_, errs["Delete"] = s.Delete(ctx, made.ID, 0)
		_, errs["Estimate"] = s.Estimate(ctx)
		_, errs["Load"] = s.Load(ctx, func(filter.Filter) error { return nil })
		_, errs["ChangesSince"] = s.ChangesSince(ctx, "", func(store.Change) error { return nil })
		_, errs["Fingerprint"] = s.Fingerprint(ctx, nil)
		errs["LoadRanges"] = s.LoadRanges(ctx, "", nil, nil, nil)
		_, errs["Purge"] = s.Purge(ctx, 0)
		errs["SaveAcks"] = s.SaveAcks(ctx, []event.Ack{ack("ada", 1)})
		_, errs["Acked"] = s.Acked(ctx, "ada")
		errs["ForgetAck"] = s.ForgetAck(ctx, "ada")
		_, errs["ForgetAcks"] = s.ForgetAcks(ctx, time.Now(), 1)
		_, errs["CountAcks"] = s.CountAcks(ctx, time.Now())
		_, errs["Acks"] = s.Acks(ctx, "", 1)
		_, errs["AckTotals"] = s.AckTotals(ctx, event.TopicID{}, nil)
		for what, err := range errs {
			wantErr(t, what, err, context.Canceled)
			if errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s: %v: the store was not asked", what, err)
			}
		}
		got, err := s.Get(t.Context(), made.ID)
		wantFilter(t, "Get afterwards", got, err, made)
	})
}

// TestOneWinnerPerRevision lets many raise one filter's revision at once.
func TestOneWinnerPerRevision(t *testing.T) {
	const writers, wins = 8, 10
	each(t, func(t *testing.T, s Store) {
		made := create(t, s, spec("ada", "purchase"))
		won := make([][]int64, writers)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for len(won[w]) < wins {
					f, err := s.Get(t.Context(), made.ID)
					if err != nil {
						t.Error(err)
						return
					}
					f, err = s.Update(t.Context(), f.ID, f.Spec, f.Revision)
					if errors.Is(err, store.ErrConflict) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					won[w] = append(won[w], f.Revision)
				}
			})
		}
		wg.Wait()
		got := slices.Sorted(slices.Values(slices.Concat(won...)))
		for i, revision := range got {
			if revision != int64(i+2) {
				t.Fatalf("revisions %v, want each from 2 to %d once", got, writers*wins+1)
			}
		}
	})
}

// TestOneDeleteWins has a deletion told to one of those who asked for it.
func TestOneDeleteWins(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		made := create(t, s, spec("ada", "purchase"))
		errs := make([]error, 8)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { _, errs[i] = s.Delete(t.Context(), made.ID, 0) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
				continue
			}
			wantErr(t, "Delete", err, store.ErrNotFound)
		}
		if won != 1 {
			t.Errorf("%d of %d deletions succeeded, want 1", won, len(errs))
		}
	})
}

func TestCallersShareNoMemoryWithTheStore(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		amount := 5.0
		mine := filter.Spec{SubscriberID: "ada", EventTypes: []string{"purchase"}, MinAmount: &amount}
		made := create(t, s, mine)
		want := filter.Filter{ID: made.ID, Revision: 1, Spec: spec("ada", "purchase")}
		five := 5.0
		want.MinAmount = &five
		spoil := func(f filter.Filter) error { f.EventTypes[0], *f.MinAmount = "spoiled", -1; return nil }

		spoil(filter.Filter{Spec: mine})
		spoil(made)
		if _, err := s.Load(t.Context(), spoil); err != nil {
			t.Fatal(err)
		}
		list, _ := s.List(t.Context(), "", "", 1)
		spoil(list[0])
		got, err := s.Get(t.Context(), made.ID)
		wantFilter(t, "Get", got, err, want)
	})
}

// replica is a reader's copy of all filters, kept as its readers keep theirs.
type replica struct {
	all  map[filter.ID]store.Change
	mark store.Mark
}

func load(t *testing.T, s Store) *replica {
	t.Helper()
	r := &replica{all: make(map[filter.ID]store.Change)}
	var err error
	r.mark, err = s.Load(t.Context(), func(f filter.Filter) error {
		return r.apply(store.Change{Filter: f})
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *replica) apply(c store.Change) error {
	if r.all[c.ID].Revision < c.Revision {
		r.all[c.ID] = c
	}
	return nil
}

func (r *replica) follow(t *testing.T, s Store) {
	t.Helper()
	var err error
	if r.mark, err = s.ChangesSince(t.Context(), r.mark, r.apply); err != nil {
		t.Fatal(err)
	}
}

// wantSame compares the replica with what the store lists.
func (r *replica) wantSame(t *testing.T, s Store) {
	t.Helper()
	list, err := s.List(t.Context(), "", "", 1e6)
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[filter.ID]filter.Filter)
	for _, f := range list {
		want[f.ID] = f
	}
	got := make(map[filter.ID]filter.Filter)
	for id, c := range r.all {
		if !c.Deleted {
			got[id] = c.Filter
		}
	}
	if !maps.EqualFunc(got, want, func(a, b filter.Filter) bool { return reflect.DeepEqual(a, b) }) {
		t.Errorf("reader holds %+v, want %+v", got, want)
	}
}

func TestFollowChanges(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		ctx := t.Context()
		changed, deleted := create(t, s, spec("ada", "a")), create(t, s, spec("bob", "b"))
		create(t, s, spec("cy", "c"))
		early := &replica{all: make(map[filter.ID]store.Change)} // begins with the zero Mark
		r := load(t, s)
		r.wantSame(t, s)

		if _, err := s.Update(ctx, changed.ID, spec("ada", "changed"), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Delete(ctx, deleted.ID, 0); err != nil {
			t.Fatal(err)
		}
		create(t, s, spec("dee", "d"))
		r.follow(t, s)
		r.wantSame(t, s)
		if got := r.all[deleted.ID]; !got.Deleted || got.Revision != 2 {
			t.Errorf("deleted filter is told as %+v, want Deleted with revision 2", got)
		}
		load(t, s).wantSame(t, s)
		early.follow(t, s)
		early.wantSame(t, s)

		r.follow(t, s)
		r.wantSame(t, s)
	})
}

func TestFollowAnEmptyStore(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		r := load(t, s)
		create(t, s, spec("ada", "purchase"))
		r.follow(t, s)
		r.wantSame(t, s)
	})
}

// TestFollowWhileManyWrite checks that nothing is skipped.
func TestFollowWhileManyWrite(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		ctx := t.Context()
		r := load(t, s)
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() {
				for i := range 30 {
					f, err := s.Create(ctx, spec(fmt.Sprintf("w%d", w), "created"))
					if err == nil && i%2 == 0 {
						_, err = s.Update(ctx, f.ID, spec(f.SubscriberID, "updated"), 0)
					}
					if err == nil && i%3 == 0 {
						_, err = s.Delete(ctx, f.ID, 0)
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { writers.Wait(); close(done) }()
		for writing := true; writing; {
			select {
			case <-done:
				writing = false
			default:
			}
			r.follow(t, s) // once more after the last write
		}
		r.wantSame(t, s)
	})
}

func TestReaderStopsItself(t *testing.T) {
	enough := errors.New("enough")
	each(t, func(t *testing.T, s Store) {
		create(t, s, spec("ada", "a"))
		create(t, s, spec("ada", "b"))
		n := 0
		_, err := s.Load(t.Context(), func(filter.Filter) error { n++; return enough })
		wantErr(t, "Load", err, enough)
		_, err = s.ChangesSince(t.Context(), "", func(store.Change) error { n++; return enough })
		wantErr(t, "ChangesSince", err, enough)
		if n != 2 {
			t.Errorf("each was called %d times, want once by Load and once by ChangesSince", n)
		}
	})
}

func TestPurge(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		ctx := t.Context()
		late := load(t, s)
		gone := create(t, s, spec("ada", "a"))
		create(t, s, spec("ada", "b"))
		if _, err := s.Delete(ctx, gone.ID, 0); err != nil {
			t.Fatal(err)
		}
		purge := func(olderThan time.Duration, want int64) {
			t.Helper()
			if n, err := s.Purge(ctx, olderThan); n != want || err != nil {
				t.Errorf("Purge(%v) = %d, %v; want %d, nil", olderThan, n, err, want)
			}
		}
		purge(time.Hour, 0)
		middle := *late
		middle.all = make(map[filter.ID]store.Change)
		middle.follow(t, s)
		if !middle.all[gone.ID].Deleted {
			t.Errorf("before it is purged, the deletion is told as %+v", middle.all[gone.ID])
		}
		purge(0, 1)
		purge(0, 0)
		_, err := s.ChangesSince(ctx, late.mark, late.apply)
		wantErr(t, "ChangesSince with a mark from before the purged deletion", err, store.ErrMarkLost)

		// A transaction of somebody else may hold marks back for a while.
		testenv.Eventually(t, time.Minute, func() error {
			r := load(t, s)
			r.wantSame(t, s)
			_, err := s.ChangesSince(ctx, r.mark, r.apply)
			return err
		})
		early := &replica{all: make(map[filter.ID]store.Change)}
		early.follow(t, s) // the zero Mark is never lost
		early.wantSame(t, s)
	})
}

func TestForeignMarks(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		none := func(c store.Change) error { t.Errorf("unexpected change %+v", c); return nil }
		for _, m := range []store.Mark{"x", "-1", "99999999", "00000000-0000-0000-0000-000000000000/5", "a/b/c"} {
			_, err := s.ChangesSince(t.Context(), m, none)
			wantErr(t, fmt.Sprintf("ChangesSince(%q)", m), err, store.ErrMarkLost)
		}
	})
}
