package store_test

import (
	"fmt"
	"iter"
	"syscall"
	"testing"
	"time"

	"eventstream/filter"
	"eventstream/perf/workload"
)

// BenchmarkLoad is what a filter service does when it starts: it reads all filters.
// The CPU time is that of this process, without PostgreSQL's.
func BenchmarkLoad(b *testing.B) {
	const n = 200_000
	s := benchStore(b)
	if _, err := s.Import(b.Context(), imports(workload.Narrow.Specs(n))); err != nil {
		b.Fatal(err)
	}
	b.Run(fmt.Sprintf("filters=%d", n), func(b *testing.B) {
		b.ReportAllocs()
		before, read := cpu(b), 0
		for b.Loop() {
			_, err := s.Load(b.Context(), func(filter.Filter) error { read++; return nil })
			if err != nil {
				b.Fatal(err)
			}
		}
		if read != b.N*n {
			b.Fatalf("read %d filters, want %d", read, b.N*n)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(read), "ns/filter")
		b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(read), "cpu-ns/filter")
	})
}

func imports(specs []filter.Spec) iter.Seq2[filter.Spec, error] {
	return func(yield func(filter.Spec, error) bool) {
		for _, s := range specs {
			if !yield(s, nil) {
				return
			}
		}
	}
}

// cpu returns the CPU time that this process has taken.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
