package judge

import (
	"math/rand/v2"
	"slices"
	"testing"

	"eventstream/filter"
)

// TestPossible compares what a filter may have been with the definition, which looks at all
// changes for each.
func TestPossible(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		s := new(Filters).Slot()
		at := Seq(0)
		for range rng.IntN(12) {
			at += Seq(rng.IntN(3))
			c := s.Ask(at, &filter.Spec{})
			if rng.IntN(3) > 0 {
				c.Answer(at + Seq(rng.IntN(6)))
			}
		}
		from := Seq(rng.IntN(20))
		to := from + Seq(rng.IntN(8))
		if rng.IntN(5) == 0 {
			to = Never
		}
		var want []*filter.Spec
		for i := len(s.changes) - 1; i >= -1; i-- {
			c := &Change{}
			if i >= 0 {
				c = s.changes[i]
			}
			end := Never
			for _, later := range s.changes[i+1:] {
				end = min(end, later.answered)
			}
			if c.asked <= to && end > from {
				want = append(want, c.spec)
			}
		}
		if got := s.possibleLocked(from, to); !slices.Equal(got, want) {
			t.Fatalf("from %d to %d: %d specs, want %d, of %d changes", from, to, len(got), len(want), len(s.changes))
		}
	}
}
