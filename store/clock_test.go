package store

import (
	"net/url"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// A server's clock that differs from ours is told. A function that hides PostgreSQL's own
// stands for a clock that is wrong.
func TestAhead(t *testing.T) {
	dsn := testenv.Postgres(t)
	s, err := NewPostgres(dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.pool.Exec(t.Context(), `create schema wrong`); err != nil {
		t.Fatal(err)
	}
	own, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := own.Query()
	q.Set("search_path", "wrong,pg_catalog")
	own.RawQuery = q.Encode()
	moved, err := NewPostgres(own.String())
	if err != nil {
		t.Fatal(err)
	}
	defer moved.Close()
	for _, by := range []string{"0", "1 hour", "-1 hour"} {
		if _, err := s.pool.Exec(t.Context(), `create or replace function wrong.clock_timestamp() returns timestamptz language sql as $$select pg_catalog.clock_timestamp() + interval '`+by+`'$$`); err != nil {
			t.Fatal(err)
		}
		want := map[string]time.Duration{"0": 0, "1 hour": time.Hour, "-1 hour": -time.Hour}[by]
		got, err := moved.Ahead(t.Context())
		if err != nil || (got-want).Abs() > time.Minute { // as loaded as this machine may be
			t.Errorf("moved by %s: ahead by %v, %v", by, got, err)
		}
		if by == "0" && got > 0 {
			t.Errorf("the same clock is ahead by %v", got)
		}
	}
}
