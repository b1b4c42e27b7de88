package pipeline

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/perf/workload"
	"eventstream/store"
)

// BenchmarkLoad is a filter service that starts: it reads all filters, each of
// another subscriber, and takes them into its routes. The CPU time is that of this
// process, without PostgreSQL's.
func BenchmarkLoad(b *testing.B) {
	const n = 200_000
	s, err := store.NewPostgres(testenv.Postgres(b))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	if err := s.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	specs := workload.Narrow.Specs(n)
	all := func(yield func(filter.Spec, error) bool) {
		for _, sp := range specs {
			if !yield(sp, nil) {
				return
			}
		}
	}
	if _, err := s.Import(b.Context(), all); err != nil {
		b.Fatal(err)
	}
	specs = nil
	b.Run(fmt.Sprintf("filters=%d", n), func(b *testing.B) {
		b.ReportAllocs()
		before := cpu(b)
		for b.Loop() {
			svc := New(Config{}, nil, s, nil, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
			if err := svc.loadFilters(b.Context()); err != nil {
				b.Fatal(err)
			}
			if got := svc.routes.counts().filters; got != n {
				b.Fatalf("%d filters, want %d", got, n)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/filter")
		b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N)/n, "cpu-ns/filter")
	})
}

// BenchmarkDiffering is for how long a comparison of all filters holds the lock of
// routes, when nothing differs; the rest is PostgreSQL's work.
func BenchmarkDiffering(b *testing.B) {
	const n = 1_000_000
	r := newRoutes(lane.Shard{})
	amount := 1.0
	for i := range n {
		r.setFilter(filter.Change{Filter: filter.Filter{
			ID: filter.ID(uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)).String()), Revision: 1,
			Spec: filter.Spec{SubscriberID: fmt.Sprint("s", i), MinAmount: &amount},
		}})
	}
	print := r.print
	b.Run(fmt.Sprintf("filters=%d", n), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w := r.glance()
			if got := r.differing(w, &print); len(got) > 0 {
				b.Fatalf("%d ranges differ", len(got))
			}
			r.unwatch(w)
		}
	})
}
