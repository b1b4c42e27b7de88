package pipeline

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/cow"
	"eventstream/lane"
)

// flap gives a subscriber's slot n seats and takes them away again, oldest first,
// each in a generation of its own.
func flap(p *places, g *cow.Gen, n int) {
	for i := range n {
		p.add(*g, 9, event.Address{Gateway: 7, Seat: event.Seat(i + 1)})
		*g++
	}
	for i := range n {
		p.remove(*g, 9, event.Address{Gateway: 7, Seat: event.Seat(i + 1)})
		*g++
	}
}

// Twice the seats of one subscriber are at most 2.5 times the work. What a change
// copies stands for its work: that can be counted exactly.
func TestFlapCost(t *testing.T) {
	cost := func(n int) float64 {
		var p places
		g := cow.Gen(1)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		flap(&p, &g, n)
		runtime.ReadMemStats(&after)
		if b := p.of(0); b.irregular != nil || b.regular != 0 {
			t.Errorf("%d seats: some are left", n)
		}
		return float64(after.TotalAlloc - before.TotalAlloc)
	}
	for _, n := range []int{500, 2000, 8000} {
		if ratio := cost(2*n) / cost(n); ratio > 2.5 {
			t.Errorf("%d seats cost %.2f times what %d cost, want at most 2.5", 2*n, ratio, n)
		}
	}
}

// TestCrowd compares a crowd with a plain list, also after what came later.
func TestCrowd(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var c crowd
		var want []event.Address
		g := cow.Gen(1)
		type kept struct {
			c    crowd
			want []event.Address
		}
		var snapshots []kept
		for step := range 3000 {
			a := event.Address{Gateway: event.Gateway(rng.IntN(3)), Seat: event.Seat(rng.IntN(400))}
			at, found := slices.BinarySearchFunc(want, a, compareAddress)
			grows := step/1000%2 == 0 // it grows, shrinks, and grows again
			switch {
			case !found && (grows || rng.IntN(3) == 0):
				c.add(g, a)
				want = slices.Insert(want, at, a)
			case !grows || rng.IntN(3) == 0:
				if empty := c.remove(g, a); empty != (found && len(want) == 1) {
					t.Fatalf("seed %d: remove reports empty = %t with %d seats before", seed, empty, len(want))
				}
				if found {
					want = slices.Delete(want, at, at+1)
				}
			}
			if rng.IntN(50) == 0 {
				snapshots = append(snapshots, kept{c, slices.Clone(want)})
				g++
			}
		}
		snapshots = append(snapshots, kept{c, want})
		for i, s := range snapshots {
			var got []event.Address
			for _, k := range s.c.chunks {
				if len(k.seats) == 0 || len(k.seats) > chunkMost {
					t.Fatalf("seed %d, snapshot %d: a chunk of %d seats", seed, i, len(k.seats))
				}
				got = append(got, k.seats...)
			}
			if !slices.Equal(got, s.want) {
				t.Fatalf("seed %d, snapshot %d: got %v, want %v", seed, i, got, s.want)
			}
		}
	}
}

// BenchmarkFlap is what one more connection of a subscriber costs that has left n
// seats already: its join, and the end of its oldest seat.
func BenchmarkFlap(b *testing.B) {
	for _, n := range []int{1, 100, 10_000, 1_000_000} {
		b.Run(fmt.Sprintf("seats=%d", n), func(b *testing.B) {
			r := newRoutes(lane.Shard{})
			r.setFilter(filter.Change{Filter: filter.Filter{ID: "f", Revision: 1, Spec: filter.Spec{SubscriberID: "s"}}})
			for i := range n {
				r.join(1, []lane.Seated{{Seat: event.Seat(i + 1), Subscriber: "s"}})
			}
			r.publish()
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i++
				r.apply([]lane.Change{
					{Gateway: 1, Joined: []lane.Seated{{Seat: event.Seat(n + i), Subscriber: "s"}}},
					{Gateway: 1, Forgot: []event.Seat{event.Seat(i)}},
				})
			}
		})
	}
}
