package main

import (
	"fmt"
	"testing"
)

func TestEnginesFindTheSame(t *testing.T) {
	w := newWorkload(1_000, 0, 3, 15)
	reference, err := newOurs(w, requested)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range peers {
		t.Run(c.name, func(t *testing.T) {
			peer, err := c.build(w)
			if err != nil {
				t.Fatal(err)
			}
			defer peer.close()
			for matches, events := range w.kinds {
				if err := checkEqual(reference, peer, events); err != nil {
					t.Fatal(err)
				}
				if n := len(reference.found()); n < eventsEach*matches/2 || n > eventsEach*matches*3/2 {
					t.Errorf("%d events match %d times, want about %d", eventsEach, n, eventsEach*matches)
				}
			}
		})
	}
}

func TestCheckEqual(t *testing.T) {
	for _, tt := range []struct {
		ours, peer []pair
		want       string
	}{
		{[]pair{{1, 1}, {1, 2}}, []pair{{1, 2}, {1, 1}}, "<nil>"},
		{[]pair{{1, 1}, {1, 2}}, []pair{{1, 1}}, "event 1: we match subscriber 2, the peer does not"},
		{[]pair{{1, 1}, {2, 1}}, []pair{{2, 1}}, "event 1: we match subscriber 1, the peer does not"},
		{[]pair{{2, 1}}, []pair{{2, 1}, {1, 7}}, "event 1: the peer matches subscriber 7, we do not"},
		{nil, []pair{{0, 0}}, "event 0: the peer matches subscriber 0, we do not"},
	} {
		if got := fmt.Sprint(checkEqual(fixed(tt.ours), fixed(tt.peer), nil)); got != tt.want {
			t.Errorf("%v and %v: %s, want %s", tt.ours, tt.peer, got, tt.want)
		}
	}
}

// fixed is an engine that always finds the same.
type fixed []pair

func (f fixed) match([]int) int { return len(f) }
func (f fixed) found() []pair   { return f }
func (f fixed) close()          {}

func BenchmarkFilters(b *testing.B) {
	for _, c := range append([]contender{us}, peers...) {
		sizes := []int{1_000, 10_000}
		if c.name == us.name {
			sizes = append(sizes, 100_000, 1_000_000)
		}
		for _, filters := range sizes {
			b.Run(fmt.Sprintf("engine=%s/filters=%d", c.name, filters), func(b *testing.B) { benchmark(b, c, filters) })
		}
	}
}

func benchmark(b *testing.B, c contender, filters int) {
	w := newWorkload(filters, 0, 10)
	if c.name == us.name {
		c.build = usReady.build // takes a fifth of the time, for the million
	}
	reference, err := newOurs(w, ready)
	if err != nil {
		b.Fatal(err)
	}
	e, err := c.build(w)
	if err != nil {
		b.Fatal(err)
	}
	defer e.close()
	for _, matches := range []int{0, 10} {
		events := w.kinds[matches]
		if err := checkEqual(reference, e, events); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("matches=%d", matches), func(b *testing.B) {
			b.ReportAllocs()
			pairs, start := 0, cpu()
			for i := 0; b.Loop(); i++ {
				pairs += e.match(events[i%len(events):][:1])
			}
			b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(pairs)/float64(b.N), "matches/op")
		})
	}
}
