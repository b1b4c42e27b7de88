package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"eventstream/internal/testenv"
	"eventstream/perf/workload"
	"eventstream/store"
)

// BenchmarkFingerprint is what comparing all filters costs: computed by PostgreSQL, and
// of what it sends, as for a shard.
func BenchmarkFingerprint(b *testing.B) {
	const n = 1_000_000
	s := benchStore(b)
	for range 5 {
		if _, err := s.Import(b.Context(), imports(workload.Narrow.Specs(n/5))); err != nil {
			b.Fatal(err)
		}
	}
	for _, by := range []struct {
		name  string
		holds func(string) bool
	}{{"there", nil}, {"here", func(string) bool { return true }}} {
		b.Run(fmt.Sprintf("filters=%d/%s", n, by.name), func(b *testing.B) {
			before := cpu(b)
			for b.Loop() {
				if _, err := s.Fingerprint(b.Context(), by.holds); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

// BenchmarkLookBesideOpenWriter is a look for changes that finds none, after so many
// changes since a transaction began that is still open: as it is, and from the oldest
// open transaction on.
func BenchmarkLookBesideOpenWriter(b *testing.B) {
	const n = 100_000
	s := benchStore(b)
	conn, err := pgx.Connect(b.Context(), testenv.Postgres(b))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	var xid uint64
	if _, err := conn.Exec(b.Context(), `begin`); err != nil {
		b.Fatal(err)
	}
	if err := conn.QueryRow(b.Context(), `select pg_current_xact_id()`).Scan(&xid); err != nil {
		b.Fatal(err)
	}
	if _, err := s.Import(b.Context(), imports(workload.Narrow.Specs(n))); err != nil {
		b.Fatal(err)
	}
	look := func(m store.Mark) (next store.Mark, read int) {
		next, err := s.ChangesSince(b.Context(), m, func(store.Change) error { read++; return nil })
		if err != nil {
			b.Fatal(err)
		}
		return next, read
	}
	mark, _ := look("")
	history, _, _ := strings.Cut(string(mark), " ")
	oldest := store.Mark(fmt.Sprintf("%s 0:%d:", history, xid))
	for _, from := range []struct {
		name string
		mark store.Mark
		want int
	}{{"unseen", mark, 0}, {"oldest", oldest, n}} {
		b.Run(fmt.Sprintf("changes=%d/%s", n, from.name), func(b *testing.B) {
			for b.Loop() {
				if _, read := look(from.mark); read != from.want {
					b.Fatalf("read %d changes, want %d", read, from.want)
				}
			}
		})
	}
}
