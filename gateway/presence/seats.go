package presence

import (
	"cmp"
	"container/list"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"eventstream/event"
	"eventstream/lane"
)

// seats are those that can be resumed from, and whose they are.
type seats struct {
	mu    sync.Mutex
	taken map[event.Seat]string      // all seats that can be resumed from, connected or not
	last  event.Seat                 // given out
	ended list.List                  // of ended: seats without a connection, by time
	free  map[string][]*list.Element // of these, what the subscriber's next connections take, by time

	used   chan struct{} // closed when MostSeats were given out
	usedUp sync.Once     // that
}

// init begins with the seat after one.
func (s *seats) init(after event.Seat) {
	s.last = after
	s.taken, s.free = make(map[event.Seat]string), make(map[string][]*list.Element)
	s.used = make(chan struct{})
}

// ended is a seat, and when its connection ended or it was taken out of the hash.
type ended struct {
	seat event.Seat
	at   time.Time
}

// MostSeats is how many seats a gateway gives out before it makes place for one with
// others. Those that are left are for clients that come until then.
const MostSeats = math.MaxUint32 - 1<<20

// ErrUsed reports that there are no seats left.
var ErrUsed = errors.New("this gateway has given out all its seats, some four billion; one that starts has others")

// reserve returns a seat for the subscriber.
//
// A seat that the subscriber left within the resume window is taken again: events have
// been addressed to it all the time, so that older cursors that name it are as good as
// before. However often a client connects, its subscriber has only as many seats as it
// had connections at once, and its events as many recipients.
func (s *seats) reserve(subscriber string) (event.Seat, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free[subscriber]); n > 0 {
		e := s.free[subscriber][n-1]
		s.setFreeLocked(subscriber, s.free[subscriber][:n-1])
		return s.ended.Remove(e).(ended).seat, nil
	}
	if s.last >= MostSeats {
		s.usedUp.Do(func() { close(s.used) })
	}
	if s.last == math.MaxUint32 {
		return 0, ErrUsed
	}
	s.last++
	s.taken[s.last] = subscriber
	return s.last, nil
}

// left notes that the seat's connection ended.
func (s *seats) left(seat event.Seat, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.ended.PushBack(ended{seat, at})
	if subscriber, ok := s.taken[seat]; ok {
		s.free[subscriber] = append(s.free[subscriber], e)
	}
}

func (s *seats) setFreeLocked(subscriber string, free []*list.Element) {
	if len(free) == 0 {
		delete(s.free, subscriber)
		return
	}
	s.free[subscriber] = free
}

// occupant returns whose seat this is or was within the resume window.
func (s *seats) occupant(seat event.Seat) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	subscriber, ok := s.taken[seat]
	return subscriber, ok
}

// giveUp forgets the seats up to one.
func (s *seats) giveUp(upTo event.Seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	given := func(seat event.Seat) bool { return seat <= upTo }
	maps.DeleteFunc(s.taken, func(seat event.Seat, _ string) bool { return given(seat) })
	for subscriber, free := range s.free {
		s.setFreeLocked(subscriber, slices.DeleteFunc(free, func(e *list.Element) bool { return given(e.Value.(ended).seat) }))
	}
}

// expire takes away the seats that have had no connection since before, and returns them.
func (s *seats) expire(before time.Time) (gone []event.Seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.ended.Front(); e != nil && e.Value.(ended).at.Before(before); e = s.ended.Front() {
		seat := s.ended.Remove(e).(ended).seat
		subscriber := s.taken[seat]
		if free := s.free[subscriber]; len(free) > 0 && free[0] == e {
			s.setFreeLocked(subscriber, free[1:])
		}
		delete(s.taken, seat)
		gone = append(gone, seat)
	}
	return gone
}

// all returns all seats that can be resumed from, in order.
func (s *seats) all() []lane.Seated {
	s.mu.Lock()
	all := make([]lane.Seated, 0, len(s.taken))
	for seat, subscriber := range s.taken {
		all = append(all, lane.Seated{Seat: seat, Subscriber: subscriber})
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b lane.Seated) int { return cmp.Compare(a.Seat, b.Seat) })
	return all
}

func (s *seats) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.taken)
}

// lastGiven returns the last seat that was given out.
func (s *seats) lastGiven() event.Seat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}
