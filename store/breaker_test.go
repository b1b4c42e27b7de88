package store_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"eventstream/internal/check/cluster"
	"eventstream/internal/testenv"
	"eventstream/store"
)

// proxied returns a store behind a proxy.
func proxied(t *testing.T) (*store.Postgres, *cluster.Proxy) {
	t.Helper()
	dsn, err := url.Parse(testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := cluster.NewProxy(dsn.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	dsn.Host = proxy.Addr()
	return postgres(t, dsn.String()), proxy
}

// While PostgreSQL is known to be away nobody waits for it, and soon after it is back
// calls are answered, whichever way it was away.
func TestPostgresAway(t *testing.T) {
	p, proxy := proxied(t)
	made := create(t, p, spec("ada", "purchase"))
	for _, fault := range []struct {
		name string
		harm func() error
	}{{"refused", proxy.Refuse}, {"silent", proxy.Hang}, {"dropped", proxy.Drop}} {
		if err := fault.harm(); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, time.Minute, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := p.Get(ctx, made.ID); !errors.Is(err, store.ErrAway) {
				return err
			}
			return nil
		})
		for range 1000 { // with no deadline of their own
			_, err := p.Get(context.Background(), made.ID)
			wantErr(t, fault.name+": Get", err, store.ErrUnavailable)
		}
		_, err := p.Create(context.Background(), made.Spec)
		wantErr(t, fault.name+": Create", err, store.ErrAway)
		_, err = p.List(context.Background(), "", "", 1)
		wantErr(t, fault.name+": List", err, store.ErrAway)
		_, err = p.ChangesSince(context.Background(), "", nil)
		wantErr(t, fault.name+": ChangesSince", err, store.ErrAway)
		if err := proxy.Heal(); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, time.Minute, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := p.Get(ctx, made.ID)
			return err
		})
	}
}

// A server that never says anything is tried by one connection at a time.
func TestOneProbe(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var came atomic.Int32
	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			defer c.Close()
		}
	}()
	p, err := store.NewPostgres("postgres://ada@" + silent.Addr().String() + "/db?sslmode=disable&connect_timeout=1")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	testenv.Eventually(t, time.Minute, func() error {
		if err := p.Ping(t.Context()); !errors.Is(err, store.ErrAway) {
			return err
		}
		return nil
	})
	before, began := came.Load(), time.Now()
	for range 10_000 {
		wantErr(t, "Ping", p.Ping(t.Context()), store.ErrAway)
	}
	if n, most := came.Load()-before, int32(time.Since(began)/time.Second)+2; n > most {
		t.Errorf("10,000 calls made %d connections, want %d at most", n, most)
	}
}

// Calls that fail while the server is there don't make it count as away: one that
// waits for a lock, and one that comes to nothing.
func TestSlowIsNotAway(t *testing.T) {
	dsn := testenv.Postgres(t)
	p := postgres(t, dsn)
	made := create(t, p, spec("ada", "purchase"))
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `select from filters for update`); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := p.Update(ctx, made.ID, made.Spec, 0)
		cancel()
		wantErr(t, "Update of a locked row", err, store.ErrUnavailable)
		for range 100 {
			if _, err := p.Get(t.Context(), made.ID); err != nil {
				t.Fatalf("Get beside it: %v", err)
			}
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}
