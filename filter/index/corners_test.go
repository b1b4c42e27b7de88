package index

import (
	"testing"

	"eventstream/filter"
	"eventstream/filter/filtertest"
)

// TestCorners holds the index to the cases by which the language is defined.
func TestCorners(t *testing.T) {
	filtertest.RunCorners(t, "../testdata/corners.txt", func(s filter.Spec) func(raw []byte) bool {
		x := New(Options{})
		x.Add(x.Intern(&s), 7)
		snap := x.Snapshot()
		return func(raw []byte) bool {
			var r reader
			found, err := r.match(snap, raw)
			if err != nil {
				t.Fatalf("event %.100s: %v", raw, err)
			}
			return len(found) == 1
		}
	})
}
