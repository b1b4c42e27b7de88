package reader

import (
	"slices"
	"sync"

	"eventstream/event"
	"eventstream/gateway/position"
)

// follows is the old seats that our seats have resumed from. What is addressed to an old
// seat goes to the seats that follow it.
type follows struct {
	mu    sync.Mutex
	seats map[event.Gateway]map[event.Seat][]event.Seat
}

// add has seat get what is addressed to old, too.
func (f *follows) add(old event.Address, seat event.Seat) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seats == nil {
		f.seats = make(map[event.Gateway]map[event.Seat][]event.Seat)
	}
	if f.seats[old.Gateway] == nil {
		f.seats[old.Gateway] = make(map[event.Seat][]event.Seat)
	}
	f.seats[old.Gateway][old.Seat] = append(f.seats[old.Gateway][old.Seat], seat)
}

// Unfollow ends that seat gets what is addressed to old.
func (r *Reader) Unfollow(old event.Address, seat event.Seat) {
	f := &r.follows
	f.mu.Lock()
	defer f.mu.Unlock()
	seats := f.seats[old.Gateway]
	rest := slices.DeleteFunc(seats[old.Seat], func(s event.Seat) bool { return s == seat })
	if len(rest) > 0 {
		seats[old.Seat] = rest
		return
	}
	delete(seats, old.Seat)
	if len(seats) == 0 {
		delete(f.seats, old.Gateway)
	}
}

// Followed returns how many gateways' old seats are followed.
func (r *Reader) Followed() int {
	r.follows.mu.Lock()
	defer r.follows.mu.Unlock()
	return len(r.follows.seats)
}

// Join calls known at one point between two batches, from which on the reader's positions
// are live. There seat begins to follow an old one, unless old is zero or seat itself.
// Whoever is known to its worker then gets every event from live on that is addressed to
// it. What is below now was produced before; now is nil if that is so of nothing from live
// on.
func (r *Reader) Join(seat event.Seat, old event.Address, known func()) (live, now []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old != (event.Address{}) && old != (event.Address{Gateway: r.cfg.Gateway, Seat: seat}) {
		r.follows.add(old, seat)
	}
	known()
	if position.Below(r.next, r.ends) >= 0 {
		now = position.Highest(r.next, r.ends)
	}
	return r.next, now
}
