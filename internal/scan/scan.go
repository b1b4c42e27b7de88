// Package scan serves many readers of one log in shared passes.
//
// Each request wants what is meant for its key in a range of offsets. A pass goes
// forward through the log once, from the lowest offset that somebody wants, for
// all who ask; each entry of the log is read and decoded once. Who comes when the
// pass is beyond its offset waits for the next one, like passengers of a lift. A
// request whose share is full leaves the pass with what it has, and is asked
// again for the rest: so a slow reader holds nobody up.
package scan

import (
	"context"
	"math"
	"sync"
)

// Log is what a Scan reads. Its calls come from one goroutine at a time.
type Log[K, E any] interface {
	// Board and Leave begin and end that r is to be given what is meant for it.
	Board(r *Request[K, E])
	Leave(r *Request[K, E])
	// Step reads from an offset on, some entries, and calls Give for each of them
	// and each request that it is meant for. Every offset below next has then been
	// read; it is above from. Nothing at or above to is wanted. first tells from
	// where on the log is complete: entries below it are gone.
	Step(ctx context.Context, from, to int64) (next, first int64, err error)
}

// Gatherer is a Log that may wait before a pass begins, so that those who come at
// about the same time share it.
type Gatherer interface{ Gather() }

// Scan is the passes through one log. Its methods may be called concurrently.
type Scan[K, E any] struct {
	log Log[K, E]

	mu      sync.Mutex
	waiting []*Request[K, E]
	running bool
}

// New returns a Scan of log. A goroutine runs only while there are requests.
func New[K, E any](log Log[K, E]) *Scan[K, E] { return &Scan[K, E]{log: log} }

// Request is one call of Take.
type Request[K, E any] struct {
	Key K

	ctx      context.Context
	from, to int64
	was      int64 // from, before the step
	room     int   // bytes left
	taken    Taken[E]
	err      error
	done     chan struct{}
}

// Taken is the result of Take.
type Taken[E any] struct {
	Events []E
	Next   int64 // where to go on: what is below is among Events, or lost
	Lost   Range // what the log does not hold any more; mostly empty
}

// Range is the offsets from From up to, but without, To.
type Range struct{ From, To int64 }

// Take returns what is meant for key in [from, to), or about the first bytes of
// it: the last event may exceed them. An error of the log fails it as a whole.
func (s *Scan[K, E]) Take(ctx context.Context, key K, from, to int64, bytes int) (Taken[E], error) {
	r := &Request[K, E]{Key: key, ctx: ctx, from: from, to: to, room: bytes, done: make(chan struct{})}
	if from >= to {
		return Taken[E]{Next: from}, ctx.Err()
	}
	s.mu.Lock()
	s.waiting = append(s.waiting, r)
	start := !s.running
	s.running = true
	s.mu.Unlock()
	if start {
		go s.run()
	}
	select {
	case <-r.done:
		return r.taken, r.err
	case <-ctx.Done():
		return Taken[E]{}, ctx.Err() // the pass finds out
	}
}

// Give gives r an event of the log, unless it has no use for it. It is called by
// Log.Step, with ascending offsets.
func (r *Request[K, E]) Give(offset int64, event E, bytes int) {
	if !r.Wants(offset) {
		return
	}
	r.taken.Events = append(r.taken.Events, event)
	r.room -= bytes
	r.from = offset + 1
}

// Wants reports whether r has room for an event of this offset.
func (r *Request[K, E]) Wants(offset int64) bool {
	return offset >= r.from && offset < r.to && r.room > 0
}

func (s *Scan[K, E]) run() {
	var aboard []*Request[K, E]
	at := int64(math.MaxInt64) // where the pass is
	gatherer, gathers := s.log.(Gatherer)
	for {
		if gathers && len(aboard) == 0 && s.awaited() {
			gatherer.Gather()
		}
		boarded, more := s.board(&at, len(aboard) == 0)
		if !more {
			return
		}
		for _, r := range boarded {
			s.log.Board(r)
		}
		aboard = append(aboard, boarded...)
		at, aboard = s.step(at, aboard)
	}
}

// awaited reports whether somebody waits.
func (s *Scan[K, E]) awaited() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) > 0
}

// board takes those who wait and can still get on. An empty pass goes back to the
// lowest offset wanted; if nobody waits, the run is over.
func (s *Scan[K, E]) board(at *int64, empty bool) (boarded []*Request[K, E], more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	alive := s.waiting[:0]
	for _, r := range s.waiting {
		if r.ctx.Err() == nil {
			alive = append(alive, r)
		}
	}
	clear(s.waiting[len(alive):])
	s.waiting = alive
	if empty {
		if len(alive) == 0 {
			s.waiting, s.running = nil, false
			return nil, false
		}
		*at = math.MaxInt64
		for _, r := range alive {
			*at = min(*at, r.from)
		}
	}
	rest := s.waiting[:0]
	for _, r := range alive {
		if r.from >= *at {
			boarded = append(boarded, r)
		} else {
			rest = append(rest, r)
		}
	}
	clear(s.waiting[len(rest):])
	s.waiting = rest
	return boarded, true
}

// step reads on once, and lets those off who have what they wanted.
func (s *Scan[K, E]) step(at int64, aboard []*Request[K, E]) (int64, []*Request[K, E]) {
	to := at
	ctx := context.Background()
	for _, r := range aboard {
		r.was, to, ctx = r.from, max(to, r.to), r.ctx
	}
	if len(aboard) > 1 {
		ctx = context.Background() // nobody's end may fail the others
	}
	next, first, err := s.log.Step(ctx, at, to)
	stay := aboard[:0]
	for _, r := range aboard {
		if err == nil {
			r.passed(next, first)
		}
		if err == nil && r.room > 0 && r.from < r.to && r.ctx.Err() == nil {
			stay = append(stay, r)
			continue
		}
		s.log.Leave(r)
		r.taken.Next, r.err = r.from, err
		close(r.done)
	}
	clear(aboard[len(stay):])
	return next, stay
}

// passed notes a step: all up to next was read, and the log was complete from
// first on.
func (r *Request[K, E]) passed(next, first int64) {
	if r.room > 0 {
		r.from = max(r.from, min(next, r.to))
	}
	if lost := (Range{r.was, min(first, r.to)}); lost.To > lost.From {
		if r.taken.Lost == (Range{}) {
			r.taken.Lost = lost
		}
		r.taken.Lost.To = lost.To
	}
}
