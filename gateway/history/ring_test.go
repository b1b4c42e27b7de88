package history

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"eventstream/lane"
)

// TestRing compares a ring with all that was ever added: what it holds is the end
// of each lane without a hole, and it holds as much as it may.
func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &ring{max: 500}
		start := []int64{5, 0}
		r.start(start)
		all := make([][]lane.Entry, len(start))
		next := slices.Clone(start)
		for range rapid.IntRange(1, 60).Draw(t, "entries") {
			p := int32(rapid.IntRange(0, 1).Draw(t, "partition"))
			if rapid.IntRange(0, 19).Draw(t, "cut") == 0 {
				next[p] += 3
				r.cut(p, next[p])
				all[p] = nil
				continue
			}
			last := next[p] + int64(rapid.IntRange(0, 4).Draw(t, "width"))
			e := lane.Entry{Partition: p, Last: last, Blob: make([]byte, rapid.IntRange(0, 100).Draw(t, "size"))}
			r.add([]lane.Entry{e})
			all[p], next[p] = append(all[p], e), last+1
		}
		held := 0
		for p := range all {
			from := r.from(int32(p))
			if _, ok := r.read(int32(p), from-1, 100); ok {
				t.Errorf("partition %d: read before %d, from where on it is complete", p, from)
			}
			got, ok := r.read(int32(p), from, 100)
			want := slices.DeleteFunc(slices.Clone(all[p]), func(e lane.Entry) bool { return e.Last < from })
			if !ok || !slices.EqualFunc(got, want, func(a, b lane.Entry) bool { return a.Last == b.Last }) {
				t.Errorf("partition %d from %d: got %v, %v, want %v", p, from, got, ok, want)
			}
			for _, e := range got {
				held += len(e.Blob) + entryOverhead
			}
			if few, _ := r.read(int32(p), from, 1); len(few) > 1 {
				t.Errorf("asked for one entry, got %d", len(few))
			}
		}
		if held != r.bytes || held > r.max {
			t.Errorf("holds %d bytes, counts %d, at most %d", held, r.bytes, r.max)
		}
	})
}

// A batch may have entries from before a hole, and from after it. The ring was cut then, and
// is never complete from before the hole again.
func TestRingCutInABatch(t *testing.T) {
	r := &ring{max: 3 * entryOverhead}
	r.start([]int64{0})
	r.cut(0, 10)
	r.add([]lane.Entry{{Last: 5}, {Last: 12}})
	for last := range int64(4) {
		r.add([]lane.Entry{{Last: 13 + last}})
		if from := r.from(0); from < 10 {
			t.Fatalf("complete from %d", from)
		}
	}
}
