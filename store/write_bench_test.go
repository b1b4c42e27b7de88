package store_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"eventstream/filter"
	"eventstream/perf/workload"
)

// BenchmarkCreate has four clients create filters at once: of a subscriber each time
// another, or all of one.
func BenchmarkCreate(b *testing.B) {
	s := benchStore(b)
	var n atomic.Int64
	for _, subscribers := range []int64{1 << 40, 1} {
		for _, keys := range []bool{false, true} {
			b.Run(fmt.Sprintf("one=%t/keys=%t", subscribers == 1, keys), func(b *testing.B) {
				b.SetParallelism(2)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						i := n.Add(1)
						var err error
						f := spec(fmt.Sprint("u", i%subscribers), "purchase")
						if keys {
							_, _, err = s.CreateOnce(b.Context(), f, fmt.Sprint("key", i))
						} else {
							_, err = s.Create(b.Context(), f)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

// BenchmarkImport copies filters of as many subscribers as perf's workload has, and
// of one.
func BenchmarkImport(b *testing.B) {
	const n = 100_000
	s := benchStore(b)
	for name, list := range map[string][]filter.Spec{"many": workload.Narrow.Specs(n), "one": workload.Narrow.Specs(n)} {
		b.Run("subscribers="+name, func(b *testing.B) {
			for i := range list {
				if name == "one" {
					list[i].SubscriberID = "ada"
				}
			}
			for b.Loop() {
				if _, err := s.Import(b.Context(), imports(list)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/filter")
		})
	}
}
