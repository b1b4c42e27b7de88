package store_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"eventstream/auth"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/store"
)

// changesOf returns how many changes a look finds, and the mark after it.
func changesOf(t *testing.T, s Store, m store.Mark) (ids map[filter.ID]int64, next store.Mark) {
	t.Helper()
	ids = make(map[filter.ID]int64)
	next, err := s.ChangesSince(t.Context(), m, func(c store.Change) error { ids[c.ID] = c.Revision; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return ids, next
}

// TestOpenWriter: a transaction that stays open, here or in another database of the server,
// makes no look read more than what is new; and what it writes is found when it ends.
func TestOpenWriter(t *testing.T) {
	dsn := testenv.Postgres(t)
	s := postgres(t, dsn)
	elsewhere, err := connect(t, testenv.Postgres(t)).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	here, err := connect(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := elsewhere.Exec(t.Context(), `create table t ()`); err != nil {
		t.Fatal(err)
	}
	late := filter.ID("01a2092d-00d2-7c8d-adb7-41d088fd9c80")
	if _, err := here.Exec(t.Context(), `insert into filters (id, subscriber_id, spec, revision)
		values ($1, 'late', '{"subscriber_id":"late","match_all":true}', 1)`, string(late)); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Exec(t.Context(), `insert into revocations (kind, id, revoked_at, expires_at) values ('token', 'late', now(), now() + '1 hour')`); err != nil {
		t.Fatal(err)
	}
	var revs revoked
	m := load(t, s).mark
	revs.follow(t, s)
	if _, err := s.Import(t.Context(), specs(200, nil)); err != nil {
		t.Fatal(err)
	}
	revoke(t, s, auth.Revocation{TokenID: "t1", At: time.Now(), Expires: time.Now().Add(time.Hour)})
	for look, want := range []int{200, 0, 0} {
		var got map[filter.ID]int64
		if got, m = changesOf(t, s, m); len(got) != want {
			t.Errorf("look %d found %d changes, want %d", look, len(got), want)
		}
		if got := revs.follow(t, s); got != min(want, 1) {
			t.Errorf("look %d found %d revocations, want %d", look, got, min(want, 1))
		}
	}
	one := create(t, s, spec("ada", "purchase"))
	got, m := changesOf(t, s, m)
	if len(got) != 1 || got[one.ID] != 1 {
		t.Errorf("the look after one change found %v", got)
	}
	if err := here.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, m = changesOf(t, s, m)
	if len(got) != 1 || got[late] != 1 {
		t.Errorf("the look after the open writer's end found %v, want what it wrote", got)
	}
	if got := revs.follow(t, s); got != 1 {
		t.Errorf("the look after the open writer's end found %d revocations, want 1", got)
	}
	if got, _ = changesOf(t, s, m); len(got) != 0 {
		t.Errorf("the look after that found %v, want none", got)
	}
}

// TestPurgeBesideOpenWriter: deletions that a reader has seen may be purged while a
// transaction that is older than they are stays open.
func TestPurgeBesideOpenWriter(t *testing.T) {
	dsn := testenv.Postgres(t)
	s, conn := postgres(t, dsn), connect(t, dsn)
	elsewhere, err := connect(t, testenv.Postgres(t)).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := elsewhere.Exec(t.Context(), `create table t ()`); err != nil {
		t.Fatal(err)
	}
	seen, unseen := create(t, s, spec("ada", "a")), create(t, s, spec("ada", "b"))
	if _, err := s.Delete(t.Context(), seen.ID, 0); err != nil {
		t.Fatal(err)
	}
	purge := func() {
		if _, err := conn.Exec(t.Context(), `update filters set deleted_at = now() - interval '1 day' where deleted_at is not null`); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Purge(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	m := load(t, s).mark
	purge()
	got, m := changesOf(t, s, m)
	if len(got) != 0 {
		t.Errorf("a look found %v, want none", got)
	}
	if _, err := s.Delete(t.Context(), unseen.ID, 0); err != nil {
		t.Fatal(err)
	}
	purge()
	_, err = s.ChangesSince(t.Context(), m, func(store.Change) error { return nil })
	wantErr(t, "ChangesSince with an unseen deletion purged", err, store.ErrMarkLost)

	// The open one itself deletes, and that is purged before anybody looks.
	another := create(t, s, spec("ada", "c"))
	tx, err := connect(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `update filters set deleted_at = now() - interval '1 day', revision = 2, changed_in = pg_current_xact_id()
		where id = $1`, string(another.ID)); err != nil {
		t.Fatal(err)
	}
	create(t, s, spec("ada", "d"))
	m = load(t, s).mark
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	purge()
	_, err = s.ChangesSince(t.Context(), m, func(store.Change) error { return nil })
	wantErr(t, "ChangesSince with the deletion of one that was open purged", err, store.ErrMarkLost)
}

// TestLooksAmongWriters has transactions begin, write and end in any order, some of them by
// a rollback, while a reader looks: it is told of each change, and of none twice.
func TestLooksAmongWriters(t *testing.T) {
	dsn := testenv.Postgres(t)
	s := postgres(t, dsn)
	rng := rand.New(rand.NewPCG(5, 5))
	const writers, steps = 6, 600
	conns := make([]*pgx.Conn, writers)
	open := make([]pgx.Tx, writers)
	wrote := make([][]string, writers)
	for i := range conns {
		conns[i] = connect(t, dsn)
	}
	m := load(t, s).mark
	pending := make(map[string]bool) // committed, not told yet
	look := func() {
		got, next := changesOf(t, s, m)
		for id := range got {
			if !pending[string(id)] {
				t.Errorf("told of %s again, or before it was committed", id)
			}
			delete(pending, string(id))
		}
		if m = next; len(pending) > 0 {
			t.Fatalf("not told of %v", pending)
		}
	}
	for n := range steps {
		i := rng.IntN(writers)
		var err error
		switch tx := open[i]; {
		case tx == nil:
			open[i], err = conns[i].Begin(t.Context())
		case rng.IntN(3) > 0:
			id := fmt.Sprintf("01a2092d-00d2-7c8d-adb7-%012d", n)
			_, err = tx.Exec(t.Context(), `insert into filters (id, subscriber_id, spec, revision)
				values ($1, 'ada', '{"subscriber_id":"ada","match_all":true}', 1)`, id)
			wrote[i] = append(wrote[i], id)
		default:
			if rng.IntN(4) == 0 {
				err = tx.Rollback(t.Context())
			} else if err = tx.Commit(t.Context()); err == nil {
				for _, id := range wrote[i] {
					pending[id] = true
				}
			}
			open[i], wrote[i] = nil, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		if rng.IntN(3) == 0 {
			look()
		}
	}
	look()
}
