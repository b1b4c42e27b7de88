package filter

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"eventstream/event"
)

// TestIndexAgainstScan adds, replaces and removes filters at random and compares
// every match with trying all filters one by one.
func TestIndexAgainstScan(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	x := NewIndex()
	m := NewMatcher(x)
	live := map[ID]filed{}
	for step := range 20_000 {
		id := ID(fmt.Sprint("f", rng.IntN(300)))
		switch rng.IntN(4) {
		case 0:
			x.Remove(id)
			delete(live, id)
		case 1, 2:
			f := &Filter{ID: id, Spec: randomSpec(rng)}
			slot := Slot(rng.IntN(50))
			x.Add(f, slot)
			live[id] = filed{slot, f.Spec}
		}
		ev := randomEvent(rng)
		want := map[Slot]bool{}
		for _, f := range live {
			if f.spec.Match(ev) {
				want[f.slot] = true
			}
		}
		got := m.Match(ev)
		if len(got) != len(want) || slices.ContainsFunc(got, func(s Slot) bool { return !want[s] }) {
			t.Fatalf("step %d, event %+v: Match = %v, want %v", step, ev, got, want)
		}
		if x.Len() != len(live) {
			t.Fatalf("step %d: Len = %d, want %d", step, x.Len(), len(live))
		}
	}
	for id := range live {
		x.Remove(id)
	}
	if x.Len() != 0 || len(x.byType) != 0 {
		t.Errorf("after removing all: Len = %d, %d types, want none", x.Len(), len(x.byType))
	}
}

var types, tiers = []string{"a", "b", "c"}, []string{"x", "y", "z"}

func randomSpec(rng *rand.Rand) Spec {
	s := Spec{EventTypes: someOf(rng, types), UserTiers: someOf(rng, tiers)}
	if rng.IntN(2) == 0 {
		amount := float64(rng.IntN(10))
		s.MinAmount = &amount
	}
	return s
}

func someOf(rng *rand.Rand, all []string) (some []string) {
	for _, v := range all {
		if rng.IntN(2) == 0 {
			some = append(some, v)
		}
	}
	return some
}

func randomEvent(rng *rand.Rand) *event.Event {
	ev := &event.Event{Type: []byte(types[rng.IntN(3)])}
	switch i := rng.IntN(5); {
	case i < 3:
		ev.UserTier = []byte(tiers[i])
	case i == 3:
		ev.UserTier = []byte{} // present and empty
	}
	if rng.IntN(4) > 0 {
		ev.Amount, ev.HasAmount = float64(rng.IntN(10)), true
	}
	return ev
}

func TestMatchDoesNotAllocate(t *testing.T) {
	x := NewIndex()
	for i := range 1000 {
		amount := float64(i)
		x.Add(&Filter{ID: ID(fmt.Sprint(i)), Spec: Spec{EventTypes: []string{"a"}, MinAmount: &amount}}, Slot(i))
	}
	m := NewMatcher(x)
	ev := &event.Event{Type: []byte("a"), UserTier: []byte("x"), Amount: 500, HasAmount: true}
	m.Match(ev)
	if n := testing.AllocsPerRun(100, func() { m.Match(ev) }); n != 0 {
		t.Errorf("Match allocates %v times, want 0", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("filters=%d", n), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 2))
			x := NewIndex()
			for i := range n {
				amount := rng.Float64() * float64(n) / 10 // about ten match below
				s := Spec{EventTypes: []string{types[rng.IntN(3)]}, UserTiers: []string{tiers[rng.IntN(3)]}, MinAmount: &amount}
				x.Add(&Filter{ID: ID(fmt.Sprint(i)), Spec: s}, Slot(i))
			}
			m := NewMatcher(x)
			ev := &event.Event{Type: []byte("a"), UserTier: []byte("x"), Amount: 9, HasAmount: true}
			b.ReportAllocs()
			for b.Loop() {
				m.Match(ev)
			}
		})
	}
}
