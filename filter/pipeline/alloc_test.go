//go:build !race

package pipeline

import (
	"testing"

	"eventstream/perf/workload"
)

// TestEventAllocations takes events with few, many and no recipients, at
// seats in order and in disorder, from their JSON to a packed entry.
func TestEventAllocations(t *testing.T) {
	const n = 20_000
	for _, moved := range []bool{false, true} {
		v := filled(workload.Narrow.Specs(n), 2, moved)
		for _, matches := range []int{0, 10, 500} {
			raw := workload.Narrow.Event(matches, n)
			var p path
			p.pass(t, v, raw)
			if got := testing.AllocsPerRun(100, func() { p.pass(t, v, raw) }); got != 0 {
				t.Errorf("%d matches, moved %t: %v allocations, want 0", matches, moved, got)
			}
		}
	}
}
