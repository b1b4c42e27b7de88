package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"eventstream/topic"
)

// assignment is what is known of a partition while it is assigned to us, over
// all failures of its worker.
type assignment struct {
	part *topic.Partition
	trim trimmer // only the worker uses it

	mu         sync.Mutex
	next       int64     // every offset below is done
	moved      time.Time // when next last moved
	waiting    int64     // end of the partition when that was first looked at since then; -1 if not yet
	stepped    time.Time // when the worker last did its work
	failing    time.Time // when it began to fail; zero if it doesn't
	lastFail   time.Time // when it last failed
	leaderless time.Time // since when the partition has no leader; zero if it has one
	err        error     // why
}

// assigned returns the assignment of a partition, a new one if it has just come
// to us. It is forgotten when ctx ends, which is when the partition goes away.
func (s *Service) assigned(ctx context.Context, p *topic.Partition) *assignment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.assignments[p.ID]; a != nil && a.part == p {
		return a
	}
	now := time.Now()
	a := &assignment{
		part: p, moved: now, stepped: now, waiting: -1,
		trim: trimmer{retention: s.cfg.Retention, maxBytes: s.cfg.MaxLaneBytes},
	}
	s.assignments[p.ID] = a
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.assignments[p.ID] == a {
			delete(s.assignments, p.ID)
			s.metrics.unassigned(p.ID)
		}
	})
	return a
}

// done notes that the worker did its work, that the partition is at next, and
// that Kafka's log ended at end when we last heard. A worker that fails may well
// find nothing to do at first, each time it is started again: that counts only if
// nothing waits, or after a while.
func (a *assignment) done(next, end int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if next != a.next || end <= next || now.Sub(a.lastFail) > 3*stall {
		a.failing = time.Time{}
	}
	if next != a.next {
		a.next, a.moved, a.waiting = next, now, -1
	}
	a.stepped = now
}

// failed notes why the worker can't do its work.
func (a *assignment) failed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastFail, a.err = time.Now(), err
	if a.failing.IsZero() {
		a.failing = a.lastFail
	}
}

// failing reports whether a partition's worker has failed for a while.
func (s *Service) failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.assignments {
		a.mu.Lock()
		long := func(since time.Time) bool { return !since.IsZero() && time.Since(since) > stall }
		failing := long(a.failing) || long(a.leaderless)
		a.mu.Unlock()
		if failing {
			return true
		}
	}
	return false
}

// sees notes whether the partition has a leader.
func (a *assignment) sees(leader bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case leader:
		a.leaderless = time.Time{}
	case a.leaderless.IsZero():
		a.leaderless = time.Now()
	}
}

// lastStep is when the worker last did its work.
func (a *assignment) lastStep() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stepped
}

func (a *assignment) position() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.next
}

// stall is how long a partition may stand still before that is a reason not to be
// ready.
const stall = 5 * time.Second

// check tells what is wrong with the partition. The log ended at end after the
// partition had come to next.
//
// That the log goes on after next is not yet wrong: the offsets may be those of
// transactions' marks, or of records that are gone. But it doesn't grow without
// new records.
func (a *assignment) check(next, end int64, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if errors.Is(a.err, topic.ErrNoLeader) && now.Sub(a.lastFail) < stall {
		return nil // its lane can't be begun; what else there is to say follows from its end
	}
	if since := now.Sub(a.failing); !a.failing.IsZero() && since > stall {
		return fmt.Errorf("partition %d fails for %s: %w", a.part.ID, since.Round(time.Second), a.err)
	}
	if idle := now.Sub(a.stepped); idle > stall {
		return fmt.Errorf("partition %d stands still for %s", a.part.ID, idle.Round(time.Second))
	}
	if end < next {
		return fmt.Errorf("partition %d ends at %d in Kafka, before the position %d: Kafka lost records, and new ones with offsets below are not passed on, which clients are told as a gap; \"eventstream skip-lost\" makes an end of it", a.part.ID, end, next)
	}
	if a.waiting < 0 {
		a.waiting = end
	}
	if idle := now.Sub(a.moved); end > a.waiting && idle > stall {
		return fmt.Errorf("partition %d: events wait at %d, and none was done for %s", a.part.ID, a.next, idle.Round(time.Second))
	}
	return nil
}
