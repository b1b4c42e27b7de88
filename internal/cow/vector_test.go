package cow

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// TestVectorAgainstMap compares a Vector with a map, and snapshots with copies
// of the map.
func TestVectorAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var v Vector[int]
	want := map[uint32]int{}
	type snapshot struct {
		v    Vector[int]
		want map[uint32]int
	}
	var snapshots []snapshot
	g := Gen(1)
	for step := range 3000 {
		i := rng.Uint32N(1 << (rng.UintN(15)))
		*v.Own(g, i) = step + 1
		want[i] = step + 1
		if rng.IntN(20) == 0 {
			snapshots = append(snapshots, snapshot{v, maps.Clone(want)})
			g++
		}
	}
	snapshots = append(snapshots, snapshot{v, want})
	for n, s := range snapshots {
		for i := range uint32(1 << 15) {
			got := 0
			if p := s.v.At(i); p != nil {
				got = *p
			}
			if got != s.want[i] {
				t.Fatalf("snapshot %d: item %d = %d, want %d", n, i, got, s.want[i])
			}
		}
	}
	if p := v.At(1 << 31); p != nil {
		t.Errorf("an item far beyond the end is %d, want nil", *p)
	}
}
