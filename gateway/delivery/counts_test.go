package delivery

import (
	"math"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Each age is counted where a histogram of Prometheus would.
func TestAges(t *testing.T) {
	bounds := prometheus.ExponentialBuckets(firstAge, 2, ageBuckets)
	for _, ms := range []int64{-5, 0, 1, 2, 3, 4, 5, 7, 8, 9, 1000, 1024, 1025, 100_000, 262_143, 262_144, 262_145, 1 << 40} {
		want := 0
		for want < ageBuckets && float64(ms)/1000 > bounds[want] {
			want++
		}
		var c counts
		c.age(ms)
		for i := range c.ages {
			if n := c.ages[i].Load(); (n == 1) != (i == want) {
				t.Errorf("%d ms: %d in bucket %d, want it in %d", ms, n, i, want)
			}
		}
	}
}

// Producers set events' times as they like: a sum of them has to stay one.
func TestAgesAreBounded(t *testing.T) {
	var c counts
	for range 3 {
		c.age(math.MaxInt64)
		c.age(math.MinInt64)
	}
	if got := c.total.Load(); got != 3*maxAge {
		t.Errorf("sum %d ms, want %d", got, 3*maxAge)
	}
}
