package delivery

import (
	"math"
	"slices"
	"testing"

	"eventstream/event"
)

// TestTable compares a table with a map. However many seats came and went between
// those that are left, it has no more parts than they need.
func TestTable(t *testing.T) {
	for _, shards := range []event.Seat{1, 2, 7} {
		tab := table{workers: shards}
		conns := make(map[event.Seat]*conn)
		set := func(seat event.Seat) {
			conns[seat] = &conn{seat: seat}
			tab.set(seat, conns[seat])
		}
		drop := func(seat event.Seat) {
			delete(conns, seat)
			tab.set(seat, nil)
		}
		last := math.MaxUint32 - math.MaxUint32%shards - 3*shards // seats of this worker
		for i := range event.Seat(1000) {
			set(i * shards)
		}
		for i := event.Seat(1000); i < 10_000_000; i += 1000 { // one stays while many come and go
			set(i * shards)
			if i >= 100_000 {
				drop((i - 100_000) * shards)
			}
		}
		set(last)
		set(5 * shards) // given out again
		drop(77 * shards)
		drop(77 * shards)
		n := 0
		tab.each(func(c *conn) {
			n++
			if conns[c.seat] != c {
				t.Errorf("seat %d: %p, want %p", c.seat, c, conns[c.seat])
			}
		})
		if n != len(conns) {
			t.Errorf("%d connections; want %d", n, len(conns))
		}
		for i := range event.Seat(1_000_000) {
			if got := tab.get(i * shards); got != conns[i*shards] {
				t.Fatalf("get(%d): got %p, want %p", i*shards, got, conns[i*shards])
			}
		}
		if tab.get(last) != conns[last] || tab.get(last+2*shards) != nil {
			t.Error("the last seats are wrong")
		}
		pages := 0
		for _, b := range tab.top {
			if b != nil {
				pages += b.live
			}
		}
		if pages > len(conns) {
			t.Errorf("%d pages for %d connections", pages, n)
		}
		for seat := range conns {
			tab.set(seat, nil)
		}
		if i := slices.IndexFunc(tab.top, func(b *branch) bool { return b != nil }); i >= 0 {
			t.Errorf("a branch is left without connections")
		}
	}
}
