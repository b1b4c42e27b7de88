package store_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/store"
)

// connect returns a connection beside the store's.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// TestLateCommit has transaction 1 begin first and commit last. A reader that
// remembers the highest number it has seen skips it; ours doesn't.
func TestLateCommit(t *testing.T) {
	ctx, dsn := t.Context(), testenv.Postgres(t)
	s, conn := postgres(t, dsn), connect(t, dsn)
	r := load(t, s)

	late, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const id = "01a2092d-00d2-7c8d-adb7-41d088fd9c80"
	_, err = late.Exec(ctx, `insert into filters (id, subscriber_id, spec, revision)
		values ($1, 'late', '{"subscriber_id":"late","match_all":true}', 1)`, id)
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, spec("early", "purchase"))

	naive := &naiveReader{conn: connect(t, dsn)}
	naive.follow(t)
	r.follow(t, s)
	if err := late.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	naive.follow(t)
	r.follow(t, s)

	if slices.Contains(naive.seen, "late") || !slices.Contains(naive.seen, "early") {
		t.Errorf("naive reader saw %v; this test is to show that it misses the late one", naive.seen)
	}
	if got := r.all[id].SubscriberID; got != "late" {
		t.Errorf("filter of the late transaction: subscriber %q, want %q", got, "late")
	}
	r.wantSame(t, s)
}

type naiveReader struct {
	conn *pgx.Conn
	last uint64
	seen []string
}

func (r *naiveReader) follow(t *testing.T) {
	t.Helper()
	rows, err := r.conn.Query(t.Context(), `select changed_in, subscriber_id from filters where changed_in > $1`, r.last)
	if err != nil {
		t.Fatal(err)
	}
	var xid uint64
	var subscriber string
	_, err = pgx.ForEachRow(rows, []any{&xid, &subscriber}, func() error {
		r.seen, r.last = append(r.seen, subscriber), max(r.last, xid)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLateUpdate has a transaction that began earlier update a row later.
func TestLateUpdate(t *testing.T) {
	ctx, dsn := t.Context(), testenv.Postgres(t)
	s, conn := postgres(t, dsn), connect(t, dsn)
	made := create(t, s, spec("ada", "purchase"))
	late, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := late.Exec(ctx, `select pg_current_xact_id()`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(ctx, made.ID, spec("ada", "second"), 0); err != nil {
		t.Fatal(err)
	}
	r := load(t, s)
	if _, err := late.Exec(ctx, `update filters set spec = spec || '{"event_types":["third"]}',
		revision = revision + 1, changed_in = pg_current_xact_id()`); err != nil {
		t.Fatal(err)
	}
	r.follow(t, s)
	if err := late.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	r.follow(t, s)
	if got := r.all[made.ID]; got.Revision != 3 || got.EventTypes[0] != "third" {
		t.Errorf("reader holds %+v, want revision 3 with event type third", got)
	}
}

// TestAnotherDatabase: what a reader knows of one database says nothing about another.
func TestAnotherDatabase(t *testing.T) {
	mark := load(t, postgres(t, testenv.Postgres(t))).mark
	other := postgres(t, testenv.Postgres(t))
	_, err := other.ChangesSince(t.Context(), mark, func(store.Change) error { return nil })
	wantErr(t, "ChangesSince with another database's mark", err, store.ErrMarkLost)
}

// TestUnknownCondition: a filter of a newer version is not taken for a wider one.
func TestUnknownCondition(t *testing.T) {
	dsn := testenv.Postgres(t)
	s, conn := postgres(t, dsn), connect(t, dsn)
	made := create(t, s, spec("ada", "purchase"))
	if _, err := conn.Exec(t.Context(), `update filters set spec = spec || '{"where":{"country":{"wildcard":"N*"}}}'`); err != nil {
		t.Fatal(err)
	}
	_, err := s.Load(t.Context(), func(filter.Filter) error { return nil })
	if !errors.Is(err, filter.ErrUnknown) || !strings.Contains(err.Error(), string(made.ID)) || !strings.Contains(err.Error(), "wildcard") {
		t.Errorf("Load: error %v, want one that names the filter and the condition", err)
	}
}

func TestNotMigrated(t *testing.T) {
	p, err := store.NewPostgres(testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	err = p.Ping(t.Context())
	wantErr(t, "Ping without tables", err, store.ErrUnavailable)
	if err != nil && !strings.Contains(err.Error(), `relation "filters" does not exist`) {
		t.Errorf("Ping = %v, want the missing table named", err)
	}
}

func TestBadAddress(t *testing.T) {
	_, err := store.NewPostgres("postgres://ada:secret@host:port/db")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("NewPostgres = %v, want an error without the password", err)
	}
}

// TestUnreachable covers the ways in which a server can be away. NewPostgres
// itself never notices.
func TestUnreachable(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, tt := range []struct{ name, dsn string }{
		{"nobody listens", "postgres://ada@" + testenv.Addr(t) + "/db"},
		{"no answer", "postgres://ada@" + silent.Addr().String() + "/db"},
		{"no such host", "postgres://ada@host.invalid/db"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := store.NewPostgres(tt.dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err = p.Create(ctx, spec("ada", "purchase"))
			wantErr(t, "Create", err, store.ErrUnavailable)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("Create took %v with a deadline of 200ms", took)
			}
		})
	}
}

// TestConnectTimeout: without a deadline, a call gives up on a silent server.
func TestConnectTimeout(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p, err := store.NewPostgres("postgres://ada@" + silent.Addr().String() + "/db?connect_timeout=1&sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	wantErr(t, "Ping", p.Ping(t.Context()), store.ErrUnavailable)
}

func TestLockedRow(t *testing.T) {
	dsn := testenv.Postgres(t)
	s, conn := postgres(t, dsn), connect(t, dsn)
	made := create(t, s, spec("ada", "purchase"))
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `select from filters for update`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = s.Update(ctx, made.ID, made.Spec, 0)
	wantErr(t, "Update of a locked row", err, store.ErrUnavailable)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(t.Context(), made.ID, made.Spec, 0); err != nil {
		t.Errorf("Update of the unlocked row: %v", err)
	}
}

// TestServerRestarts: connections in the pool that died with the server fail no call.
func TestServerRestarts(t *testing.T) {
	dsn := testenv.Postgres(t)
	s, conn := postgres(t, dsn), connect(t, dsn)
	made := create(t, s, spec("ada", "purchase"))
	if _, err := conn.Exec(t.Context(), `select pg_terminate_backend(pid, 5000) from pg_stat_activity
		where datname = current_database() and pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), made.ID)
	wantFilter(t, "Get after all connections were ended", got, err, made)
}

func TestConnectionLost(t *testing.T) {
	link, dsn := newLink(t, testenv.Postgres(t))
	s := postgres(t, dsn)
	made := create(t, s, spec("ada", "purchase"))

	link.cut()
	_, err := s.Get(t.Context(), made.ID)
	wantErr(t, "Get with the link cut", err, store.ErrUnavailable)
	_, err = s.ChangesSince(t.Context(), "", func(store.Change) error { return nil })
	wantErr(t, "ChangesSince with the link cut", err, store.ErrUnavailable)

	link.restore()
	testenv.Eventually(t, 30*time.Second, func() error { return s.Ping(t.Context()) }) // it is tried every half second
	var got filter.Filter
	testenv.Eventually(t, 30*time.Second, func() error { // another connection may have been made before
		got, err = s.Get(t.Context(), made.ID)
		return err
	})
	wantFilter(t, "Get with the link restored", got, err, made)
	_, err = s.Load(t.Context(), func(filter.Filter) error { link.cut(); return nil })
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Load with the link cut on the way: %v, want ErrUnavailable", err)
	}
}

// link forwards TCP connections to PostgreSQL as long as it isn't cut.
type link struct {
	target string

	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

// newLink returns a link to the server of dsn, and dsn leading over it.
func newLink(t *testing.T, dsn string) (*link, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{target: u.Host}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { l.forward(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); l.cut(); wg.Wait() })
	u.Host = ln.Addr().String()
	return l, u.String()
}

func (l *link) forward(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer up.Close()
	l.mu.Lock()
	if l.down {
		l.mu.Unlock()
		return
	}
	l.conns = append(l.conns, c, up)
	l.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(up, c); up.Close() })
	io.Copy(c, up)
	c.Close()
	wg.Wait()
}

func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

func (l *link) restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}
