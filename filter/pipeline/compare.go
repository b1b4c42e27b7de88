package pipeline

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"eventstream/filter"
	"eventstream/internal/trouble"
)

// comparing is when all filters are compared with the filter store, which heals what
// nobody thought of. Only the goroutine of reconcile compares.
type comparing struct {
	every   time.Duration // never if negative
	share   int           // a comparison takes one of so many parts of the time at most
	next    atomic.Int64  // Unix nanoseconds
	suspect []int32       // ranges that differed the last time
	trouble *trouble.Trouble
}

const compareTimeout = 30 * time.Second

// soon has the next comparison come with the next look for changes.
func (c *comparing) soon() { c.next.Store(time.Now().UnixNano()) }

// after returns a time for the next one, not the same for all filter services, and later
// after one that took long.
func (c *comparing) after(took time.Duration) int64 {
	wait := max(c.every, time.Duration(c.share)*took)
	wait += time.Duration((rand.Float64() - 0.5) * 0.4 * float64(wait))
	return time.Now().Add(wait).UnixNano()
}

// compare compares all filters with the store, if it is time. Where they differ, and still
// do with the next look for changes, they are read again: one that was just written may
// be in the store already, and not yet here.
func (s *Service) compare(ctx context.Context) {
	c := &s.comparing
	began, due := time.Now(), c.next.Load()
	if c.every < 0 || began.UnixNano() < due {
		return
	}
	defer s.reconciling.Rest()()
	ranges, err := s.compareRanges(ctx)
	if ctx.Err() == nil {
		c.trouble.Saw(err)
	}
	c.suspect = ranges
	if len(ranges) == 0 {
		c.next.CompareAndSwap(due, c.after(time.Since(began))) // unless it is to be soon again
	}
}

// compareRanges returns what is to be looked at once more.
func (s *Service) compareRanges(ctx context.Context) ([]int32, error) {
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	ranges, err := s.differing(ctx)
	if err != nil || len(s.comparing.suspect) == 0 {
		return ranges, err
	}
	before := rangeSet(s.comparing.suspect)
	ranges = slices.DeleteFunc(ranges, func(i int32) bool { return !before[i] })
	if len(ranges) == 0 {
		return nil, nil
	}
	if err = s.repair(ctx, ranges); errors.Is(err, filter.ErrMarkLost) {
		err = nil // the next look for changes loads all
	}
	return nil, err
}

// differing returns the ranges in which the store has other filters than we.
func (s *Service) differing(ctx context.Context) ([]int32, error) {
	var holds func(string) bool
	if s.cfg.Shard.Of > 1 {
		holds = s.cfg.Shard.Holds
	}
	w := s.routes.glance()
	if w == nil {
		return nil, nil // all filters are just being loaded
	}
	defer s.routes.unwatch(w)
	print, err := s.filters.Fingerprint(ctx, holds)
	if err != nil || print == nil {
		return nil, err
	}
	s.metrics.compared.Inc()
	return s.routes.differing(w, print), nil
}

// repair reads the filters of some ranges again, and takes what it reads for the truth.
func (s *Service) repair(ctx context.Context, ranges []int32) error {
	select {
	case s.catching <- struct{}{}:
		defer func() { <-s.catching }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	mark := s.mark
	s.mu.Unlock()
	w := s.routes.watch(ranges)
	defer s.routes.unwatch(w)
	differed := 0
	err := s.filters.LoadRanges(ctx, mark, ranges, func(c filter.Change) error {
		s.routes.setFilter(c)
		return nil
	}, func(f filter.Filter) error {
		if s.routes.take(w, f) {
			differed++
		}
		return nil
	})
	if err != nil {
		return err
	}
	gone := s.routes.dropStale(w)
	if differed+gone > 0 {
		s.metrics.repaired.Add(float64(differed + gone))
		s.log.Warn("filters were not as in the filter store, and no change was on its way; they are now", "other", differed, "gone", gone)
	}
	return nil
}
