package pipeline

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/store"
)

// TestTruth has a store that is put back to earlier states, and changes that come before,
// while, and after it is read as the truth, some of them twice: in the end routes hold
// what it holds.
func TestTruth(t *testing.T) {
	for seed := range uint64(60) {
		testTruth(t, rand.New(rand.NewPCG(seed, 9)))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func testTruth(t *testing.T, rng *rand.Rand) {
	r := newRoutes(lane.Shard{})
	now := make(map[filter.ID]filter.Change) // what the store holds
	next := 0
	change := func() {
		id := filter.ID(fmt.Sprint("f", rng.IntN(max(next, 1))))
		c, ok := now[id]
		switch {
		case !ok || c.Deleted || rng.IntN(4) == 0:
			id = filter.ID(fmt.Sprint("f", next))
			next++
			c = filter.Change{Filter: filter.Filter{ID: id, Spec: filter.Spec{SubscriberID: fmt.Sprint("s", rng.IntN(5))}}}
		case rng.IntN(3) == 0:
			c.Deleted = true
		}
		c.Revision++
		c.EventTypes = []string{fmt.Sprint(rng.IntN(50))}
		now[id] = c
		for range 1 + rng.IntN(2) { // by the control stream, and by a look
			r.setFilter(c)
		}
	}
	for range 30 {
		change()
	}
	for range 8 {
		backup := maps.Clone(now)
		for range rng.IntN(30) {
			change()
		}
		if rng.IntN(2) == 0 {
			now = backup
		}
		for range rng.IntN(3) {
			change()
		}
		w := r.watch(nil)
		for range rng.IntN(3) {
			change()
		}
		read := maps.Clone(now)
		for _, c := range read {
			if rng.IntN(4) == 0 {
				change()
			}
			if !c.Deleted {
				r.take(w, c.Filter)
			}
		}
		change()
		r.dropStale(w)
		r.unwatch(w)
		change()
		holdsWhat(t, r, now)
	}
}

// holdsWhat checks that routes hold what a store does.
func holdsWhat(t *testing.T, r *routes, want map[filter.ID]filter.Change) {
	t.Helper()
	var print filter.Fingerprint
	live := 0
	for id, c := range want {
		f := r.filters[keyOf(id)]
		if c.Deleted {
			if f.condition != nil {
				t.Errorf("filter %s is there in revision %d, and was deleted", id, f.revision)
			}
			continue
		}
		live++
		print.Add(keyOf(id), c.Revision)
		condition := r.index.Intern(&c.Spec)
		if f.revision != c.Revision || f.condition != condition {
			t.Errorf("filter %s is there in revision %d, with what it asks for: %t; want revision %d", id, f.revision, f.condition == condition, c.Revision)
		}
		r.index.Release(condition)
	}
	if got := r.counts().filters; got != live || r.print != print {
		t.Errorf("%d filters are there, the fingerprint is right: %t; want %d", got, r.print == print, live)
	}
}

// TestWatchLetsOthersIn has filters come while a watch looks at all that are known: what was
// known is to be read, or goes, and what came and is read stays.
func TestWatchLetsOthersIn(t *testing.T) {
	r := newRoutes(lane.Shard{})
	made := func(i int) filter.Filter {
		return filter.Filter{ID: filter.ID(fmt.Sprint(i)), Revision: 1, Spec: filter.Spec{SubscriberID: "s", MatchAll: true}}
	}
	const before, most = 5 * lookAtOnce, 10 * lookAtOnce
	for i := range before {
		r.setFilter(filter.Change{Filter: made(i)})
	}
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		i := before
		defer func() { done <- i }()
		for ; i < most; i++ {
			select {
			case <-stop:
				return
			default:
				r.setFilter(filter.Change{Filter: made(i)})
			}
		}
	}()
	w := r.watch(nil)
	close(stop)
	known := <-done
	for i := range known {
		if i < before && !w.stale[keyOf(made(i).ID)] {
			t.Fatalf("filter %d was known, and would stay if the store did not have it", i)
		}
		if i > 0 { // which the store has lost
			r.take(w, made(i))
		}
	}
	if n := r.dropStale(w); n != 1 || r.counts().filters != known-1 {
		t.Errorf("dropped %d of %d filters, and %d are there; want 1 dropped", n, known, r.counts().filters)
	}
}

// postgresWorld is a world with filters in PostgreSQL.
func postgresWorld(t *testing.T, dsn string) (*world, *store.Postgres) {
	t.Helper()
	w := newWorld(t, 1)
	pg, err := store.NewPostgres(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pg.Close)
	if err := pg.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.filters.filterStore = pg
	return w, pg
}

// api does what the API does with a filter: it writes, and then tells.
func (w *world) api(f filter.Filter, err error) filter.Filter {
	w.t.Helper()
	if err == nil {
		_, err = w.store.PublishFilter(w.t.Context(), filter.Change{Filter: f})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

func (w *world) apiDelete(id filter.ID) {
	w.t.Helper()
	f, err := w.filters.Delete(w.t.Context(), id, 0)
	if err == nil {
		_, err = w.store.PublishFilter(w.t.Context(), filter.Change{Filter: f, Deleted: true})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func atLeast(subscriber string, amount float64) filter.Spec {
	return filter.Spec{SubscriberID: subscriber, MinAmount: &amount}
}

// agrees produces events, and reports whether what is delivered is what the filters in
// the store ask for, as the API lists them. seats has a seat for each subscriber.
func (w *world) agrees(seats map[string]event.Seat) error {
	w.t.Helper()
	model := &naive{make(map[filter.ID]filter.Change), make(map[event.Address]string)}
	list, err := w.filters.List(w.t.Context(), "", "", 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range list {
		model.set(filter.Change{Filter: f})
	}
	for subscriber, seat := range seats {
		model.seats[event.Address{Gateway: 1, Seat: seat}] = subscriber
		w.announce(1, lane.Seated{Seat: seat, Subscriber: subscriber}) // at first, and so that it is not taken for gone
	}
	var events []string
	for amount := 0; amount < 1000; amount += 50 {
		events = append(events, fmt.Sprintf(`{"event_type":"a","amount":%d.5}`, amount))
	}
	from := w.produce(0, events...)
	w.reaches(0, from+int64(len(events)))
	all, _ := w.lane(0)
	got := make(map[int64][]event.Address)
	for _, d := range all {
		got[d.offset] = d.to
	}
	for i, e := range events {
		want := model.recipients([]byte(e))
		if fmt.Sprint(got[from+int64(i)]) != fmt.Sprint(want) {
			return fmt.Errorf("%s went to %v, want %v", e, got[from+int64(i)], want)
		}
	}
	return nil
}

func (w *world) willAgree(seats map[string]event.Seat) {
	w.t.Helper()
	testenv.Eventually(w.t, time.Minute, func() error { return w.agrees(seats) })
}

// TestBackupRestored puts a base backup of PostgreSQL in place, twice, and lets its
// transactions' numbers catch up before the filter service looks. What is delivered
// then is what the API shows, and the next changes have their effect at once.
func TestBackupRestored(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t)
	w, pg := postgresWorld(t, server.DSN)
	seats := map[string]event.Seat{"changed": 1, "deleted": 2, "made": 3, "kept": 4}
	changed := w.api(pg.Create(t.Context(), atLeast("changed", 10)))
	deleted := w.api(pg.Create(t.Context(), atLeast("deleted", 10)))
	w.api(pg.Create(t.Context(), atLeast("kept", 500)))
	s := w.start()
	w.ready(s)
	if err := w.agrees(seats); err != nil {
		t.Error(err)
	}
	restore := server.Backup()
	for round := range 2 {
		for i := range 4 {
			changed = w.api(pg.Update(t.Context(), changed.ID, atLeast("changed", float64(900+i)), 0))
		}
		w.apiDelete(deleted.ID)
		w.api(pg.Create(t.Context(), atLeast("made", 10)))
		if err := w.agrees(seats); err != nil {
			t.Errorf("round %d, before: %v", round, err)
		}
		w.filters.set(filter.ErrUnavailable)
		server.Kill()
		restore()
		server.Restart()
		testenv.Eventually(t, patience, func() error { // whoever knows that it was away looks now and then
			_, err := pg.Create(t.Context(), atLeast("kept", 600))
			return err
		})
		for i := range 40 {
			if _, err := pg.Create(t.Context(), atLeast("kept", float64(600+i))); err != nil {
				t.Fatal(err)
			}
		}
		w.filters.set(nil)
		w.willAgree(seats)
		changed = w.api(pg.Update(t.Context(), changed.ID, atLeast("changed", 700), 0))
		if changed.Revision != 2 {
			t.Errorf("round %d: revision %d after the backup, want 2", round, changed.Revision)
		}
		if err := w.agrees(seats); err != nil {
			t.Errorf("round %d, a change after the backup: %v", round, err)
		}
	}
}

// TestComparesWithTheStore changes rows by hand, as no look for changes finds out. It is
// told and healed; changes that are on their way meanwhile are no reason.
func TestComparesWithTheStore(t *testing.T) {
	t.Parallel()
	dsn := testenv.Postgres(t)
	w, pg := postgresWorld(t, dsn)
	w.cfg.Compare, w.cfg.compareShare = time.Millisecond, 1
	seats := map[string]event.Seat{"lower": 1, "gone": 2, "back": 3, "busy": 4}
	lower := w.api(pg.Create(t.Context(), atLeast("lower", 10)))
	lower = w.api(pg.Update(t.Context(), lower.ID, atLeast("lower", 900), 0))
	gone := w.api(pg.Create(t.Context(), atLeast("gone", 10)))
	back := w.api(pg.Create(t.Context(), atLeast("back", 10)))
	w.apiDelete(back.ID)
	s := w.start()
	w.ready(s)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	for i, by := range []struct{ hand, id string }{
		{`update filters set revision = 1, spec = spec || '{"min_amount":10}' where id = $1`, string(lower.ID)},
		{`delete from filters where id = $1`, string(gone.ID)},
		{`update filters set revision = 1, deleted_at = null where id = $1`, string(back.ID)},
	} {
		if _, err := conn.Exec(t.Context(), by.hand, by.id); err != nil {
			t.Fatal(err)
		}
		w.willAgree(seats)
		if got := metric(t, s, "repairs_total"); got != float64(i+1) {
			t.Errorf("%v filters were repaired, want %d", got, i+1)
		}
	}

	// Changes that are told late, or never; some by a transaction that ends late.
	rng := rand.New(rand.NewPCG(1, 1))
	enough := metric(t, s, "comparisons_total") + 10
	told := make(chan filter.Change, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c := range told {
			if _, err := w.store.PublishFilter(context.Background(), c); err != nil {
				t.Error(err)
			}
		}
	}()
	var ids []filter.ID
	for n := 0; metric(t, s, "comparisons_total") < enough; n++ {
		var c filter.Change
		var err error
		switch i := rng.IntN(len(ids) + 1); {
		case i == len(ids):
			if c.Filter, err = pg.Create(t.Context(), atLeast("busy", float64(rng.IntN(1000)))); err == nil {
				ids = append(ids, c.ID)
			}
		case rng.IntN(2) == 0:
			c.Filter, err = pg.Update(t.Context(), ids[i], atLeast("busy", float64(rng.IntN(1000))), 0)
		default:
			c.Filter, err = pg.Delete(t.Context(), ids[i], 0)
			c.Deleted = true
			ids = append(ids[:i], ids[i+1:]...)
		}
		if err != nil {
			t.Fatal(err)
		}
		if rng.IntN(3) > 0 && len(told) < cap(told) {
			told <- c
		}
	}
	close(told)
	<-done
	w.willAgree(seats)
	if got := metric(t, s, "repairs_total"); got != 3 {
		t.Errorf("%v filters were repaired, want 3: the others were on their way", got)
	}
}

// TestComparesAShard: a service that holds some subscribers' filters compares those.
func TestComparesAShard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.Shard, w.cfg.Compare, w.cfg.compareShare = lane.Shard{Index: 1, Of: 3}, time.Millisecond, 1
	w.topic.Shards = 3
	for i := range 30 {
		w.seat(1, event.Seat(i+1), fmt.Sprint("s", i))
	}
	s := w.start()
	testenv.Eventually(t, patience, func() error {
		if n := metric(t, s, "comparisons_total"); n < 5 {
			return fmt.Errorf("%v comparisons, want 5", n)
		}
		return nil
	})
	if got := metric(t, s, "repairs_total"); got != 0 {
		t.Errorf("%v filters were repaired, want none", got)
	}
}
