package scan

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"eventstream/internal/bubble"
)

// numbers is a log in which the event at offset o is meant for the keys that
// divide o. It counts its steps.
type numbers struct {
	first, end int64
	page       int64
	steps      int
	fail       error
	aboard     map[*Request[int64, int64]]bool
	served     map[int64]int // by key, the steps until its last request was done
}

func (n *numbers) Board(r *Request[int64, int64]) { n.aboard[r] = true }
func (n *numbers) Leave(r *Request[int64, int64]) {
	delete(n.aboard, r)
	n.served[r.Key] = n.steps
}

func (n *numbers) Step(_ context.Context, from, to int64) (next, first int64, err error) {
	n.steps++
	if n.fail != nil {
		return 0, 0, n.fail
	}
	next = min(from+n.page, n.end)
	for o := max(from, n.first); o < next; o++ {
		for r := range n.aboard {
			if o%r.Key == 0 {
				r.Give(o, o, 1)
			}
		}
	}
	return next, n.first, nil
}

func newNumbers() *numbers {
	return &numbers{end: 10_000, page: 100, aboard: make(map[*Request[int64, int64]]bool), served: make(map[int64]int)}
}

// drain takes until all is there.
func drain(ctx context.Context, s *Scan[int64, int64], key, from, to int64, bytes int) (all []int64, lost Range, err error) {
	for from < to {
		t, err := s.Take(ctx, key, from, to, bytes)
		if err != nil {
			return all, lost, err
		}
		all = append(all, t.Events...)
		if t.Lost != (Range{}) {
			lost = t.Lost
		}
		if t.Next <= from {
			return all, lost, fmt.Errorf("stands still at %d", from)
		}
		from = t.Next
	}
	return all, lost, nil
}

func multiples(key, from, to int64) (all []int64) {
	for o := from; o < to; o++ {
		if o%key == 0 {
			all = append(all, o)
		}
	}
	return all
}

func TestEachGetsItsOwn(t *testing.T) {
	log := newNumbers()
	s := New(log)
	rng := rand.New(rand.NewPCG(1, 2))
	var wg sync.WaitGroup
	for range 300 {
		key, from := rng.Int64N(50)+1, rng.Int64N(9000)
		to, bytes := from+rng.Int64N(1000), rng.IntN(40)+1
		wg.Go(func() {
			got, lost, err := drain(t.Context(), s, key, from, to, bytes)
			if want := multiples(key, from, to); !slices.Equal(got, want) || err != nil || lost != (Range{}) {
				t.Errorf("multiples of %d in [%d,%d), %d at a time: got %v, lost %v, %v, want %v", key, from, to, bytes, got, lost, err, want)
			}
		})
	}
	wg.Wait()
	if len(log.aboard) > 0 {
		t.Errorf("%d requests are still aboard", len(log.aboard))
	}
}

// TestShared lets a thousand ask for the same: one pass serves them all.
func TestShared(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := newNumbers()
		s := New(log)
		s.running = true // they gather first
		var wg sync.WaitGroup
		for i := range int64(1000) {
			wg.Go(func() { drain(t.Context(), s, i+1, 0, log.end, 1<<30) })
		}
		synctest.Wait()
		go s.run()
		wg.Wait()
		if want := int(log.end / log.page); log.steps != want {
			t.Errorf("%d steps, want %d", log.steps, want)
		}
	})
}

// TestSlow has one who takes little at a time: the others' pass is not longer
// for it.
func TestSlow(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := newNumbers()
		s := New(log)
		s.running = true
		var wg sync.WaitGroup
		wg.Go(func() { drain(t.Context(), s, 1, 0, log.end, 1) })
		wg.Go(func() { drain(t.Context(), s, 7, 0, log.end, 1<<30) })
		synctest.Wait()
		go s.run()
		wg.Wait()
		if want := int(log.end / log.page); log.served[7] != want {
			t.Errorf("a prompt reader took %d steps beside a slow one, want %d", log.served[7], want)
		}
	})
}

// gathering waits until a hundred have come.
type gathering struct {
	*numbers
	all func()
}

func (g gathering) Gather() { g.all() }

func TestGathers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := newNumbers()
		s := New(Log[int64, int64](gathering{log, synctest.Wait}))
		var wg sync.WaitGroup
		for i := range int64(100) {
			wg.Go(func() { drain(t.Context(), s, i+1, 0, log.end, 1<<30) })
		}
		wg.Wait()
		if want := int(log.end / log.page); log.steps != want {
			t.Errorf("%d steps, want %d", log.steps, want)
		}
	})
}

func TestLost(t *testing.T) {
	log := newNumbers()
	log.first = 250
	got, lost, err := drain(t.Context(), New(log), 10, 100, 500, 1<<30)
	if want := multiples(10, 250, 500); !slices.Equal(got, want) || err != nil || lost != (Range{100, 250}) {
		t.Errorf("got %v, lost %v, %v; want %v, lost {100 250}", got, lost, err, want)
	}
}

func TestFailure(t *testing.T) {
	log := newNumbers()
	log.fail = errors.New("out of order")
	if _, err := New(log).Take(t.Context(), 1, 0, 10, 10); !errors.Is(err, log.fail) {
		t.Errorf("got %v, want %v", err, log.fail)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(newNumbers()).Take(ctx, 1, 0, 10, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context ended: %v", err)
	}
}
