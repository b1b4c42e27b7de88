package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"eventstream/api"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/store"
)

// readyAs waits until /readyz says that we are ok or degraded.
func (s *service) readyAs(status string) answer {
	s.t.Helper()
	var a answer
	testenv.Eventually(s.t, 30*time.Second, func() error {
		if a = s.do("GET", "/readyz", ""); a.status != 200 || !strings.Contains(a.body, `"status":"`+status+`"`) {
			return fmt.Errorf("/readyz: %d %s, want %s", a.status, a.body, status)
		}
		return nil
	})
	return a
}

// A PostgreSQL that is read and not written: reading goes on, we say so, and nothing
// that is read takes it back.
func TestPostgresTakesNoWrites(t *testing.T) {
	dsn := testenv.Postgres(t)
	db := migrated(t, dsn)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	sql := func(statement string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	noWrites := func(s *service, path string) {
		t.Helper()
		for range 5 {
			wantUnavailable(t, "POST", s.do("POST", "/filters", adas))
			want(t, "GET", s.do("GET", path, "").status, 200)
			want(t, "GET /filters", s.do("GET", "/filters", "").status, 200)
			a := s.readyAs("degraded")
			if !strings.Contains(a.body, `"postgres":"ok","postgres_writes":"filters can't be written since 20`) {
				t.Errorf("/readyz: %s", a.body)
			}
		}
		s.wantLogged("filter store takes no writes", 1)
		s.wantLogged("filter store takes writes again", 0)
		s.wantLogged("filter store unavailable; requests", 0)
		s.wantLogged("filter store is back", 0)
	}

	s := start(t, api.Config{}, db)
	path, _ := s.create(adas)
	// As with a full disk, some writes go on: a filter can be deleted.
	sql(`create function refuse_growth() returns trigger language plpgsql as $$
		begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$`)
	for _, table := range []string{"filters", "write_trial_pages"} {
		sql(`create trigger full_disk before insert on ` + table + ` execute function refuse_growth()`)
	}
	noWrites(s, path)
	want(t, "DELETE", s.do("DELETE", path, "").status, 204)
	s.readyAs("degraded")
	for _, table := range []string{"filters", "write_trial_pages"} {
		sql(`drop trigger full_disk on ` + table)
	}
	s.readyAs("ok")
	s.wantLogged("filter store takes writes again", 1)
	path, _ = s.create(adas)

	standby, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	standby.RawQuery = "default_transaction_read_only=on"
	readOnly, err := store.NewPostgres(standby.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(readOnly.Close)
	s = start(t, api.Config{}, readOnly)
	s.readyAs("degraded") // before anybody writes
	noWrites(s, path)
}

// migrated returns a store with its tables.
func migrated(t *testing.T, dsn string) *store.Postgres {
	t.Helper()
	db, err := store.NewPostgres(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

// A Redis that answers and takes nothing.
func TestRedisTakesNoWrites(t *testing.T) {
	server := testenv.Redis(t)
	redis, err := lane.NewRedis(lane.RedisConfig{Addr: server.Addr}, discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	s := startPublishing(t, &store.Memory{}, redis)
	s.readyAs("ok")
	for i, fault := range []struct {
		name       string
		harm, heal []string
	}{
		{"full", []string{"CONFIG", "SET", "maxmemory", "1"}, []string{"CONFIG", "SET", "maxmemory", "0"}},
		{"without its replicas", []string{"CONFIG", "SET", "min-replicas-to-write", "1"}, []string{"CONFIG", "SET", "min-replicas-to-write", "0"}},
		{"a replica", []string{"REPLICAOF", "127.0.0.1", "1"}, []string{"REPLICAOF", "NO", "ONE"}},
	} {
		server.Do(fault.harm...)
		for range 3 {
			want(t, "POST when Redis is "+fault.name, s.do("POST", "/filters", adas).status, 202)
			a := s.readyAs("degraded")
			if !strings.Contains(a.body, `"redis":"ok","redis_writes":"the filter service can't be told of changes since 20`) {
				t.Errorf("Redis is %s: %s", fault.name, a.body)
			}
		}
		s.wantLogged("filter service can't be told of changes", i+1)
		s.wantLogged("filter service can be told of changes again", i)
		server.Do(fault.heal...)
		s.readyAs("ok") // although nobody writes
		s.wantLogged("filter service can be told of changes again", i+1)
		s.create(adas)
	}
}

// startPublishing is start with another Publisher.
func startPublishing(t *testing.T, db api.Store, p api.Publisher) *service {
	t.Helper()
	return serve(t, func(log *slog.Logger) *api.Server {
		return api.New(api.Config{}, db, p, lane.NewMemory(), nil, prometheus.NewRegistry(), log)
	})
}

// waiting is a Store whose writes take too long, as those that wait for somebody else do.
type waiting struct{ store.Memory }

func (*waiting) DeleteAll(context.Context, string) (int64, error) {
	return 0, fmt.Errorf("%w: %w", filter.ErrUnavailable, context.DeadlineExceeded)
}

// One write that waits for another says nothing of the rest.
func TestSlowWriteIsNotAnOutage(t *testing.T) {
	s := start(t, api.Config{}, &waiting{})
	for range 3 {
		wantUnavailable(t, "DELETE", s.do("DELETE", "/filters?subscriber_id=ada", ""))
		s.readyAs("ok")
	}
	s.wantLogged("filter store takes no writes", 0)
}
