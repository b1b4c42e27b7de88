package judge

import (
	"iter"
	"slices"
	"sort"
	"sync"

	"eventstream/filter"
)

// Filters is the history of one subscriber's filters. Its methods may be called
// at the same time.
type Filters struct {
	mu    sync.Mutex
	slots []*Slot
}

// Slot is the history of one filter.
type Slot struct {
	of      *Filters
	changes []*Change
}

// Change is a change of a filter: from Asked on it may be in force. Once it was
// Answered, what came before it is not, unless it is not Sure: then both may be.
type Change struct {
	of       *Filters
	asked    Seq
	answered Seq // Never as long as it was not, or nobody knows what came of it
	spec     *filter.Spec
}

// Slot adds a filter that does not exist yet.
func (f *Filters) Slot() *Slot {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &Slot{of: f}
	f.slots = append(f.slots, s)
	return s
}

// Ask notes that a filter is about to be changed to spec, nil when it is deleted.
func (s *Slot) Ask(at Seq, spec *filter.Spec) *Change {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	c := &Change{of: s.of, asked: at, answered: Never, spec: spec}
	s.changes = append(s.changes, c)
	return c
}

// Answer notes that the change is in force. A change whose answer did not say so
// gets none.
func (c *Change) Answer(at Seq) {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.answered = at
}

// Refuse notes that the change did not take place and never will.
func (s *Slot) Refuse(c *Change) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.changes = slices.DeleteFunc(s.changes, func(other *Change) bool { return other == c })
}

// Saved is what the filters of a subscriber may have been at some moment.
type Saved struct {
	of    *Filters
	specs [][]*filter.Spec // of each slot
}

// Save notes what the filters may be now, to be restored.
func (f *Filters) Save(at Seq) *Saved {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &Saved{of: f}
	for _, slot := range f.slots {
		s.specs = append(s.specs, slot.possibleLocked(at, at))
	}
	return s
}

// Restore notes that the filters go back to what they were. A request whose fate is
// unknown may still be done after that. The changes are to be answered when they are in force.
func (s *Saved) Restore(at Seq) (changes []*Change) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	for i, slot := range s.of.slots {
		specs := []*filter.Spec{nil}
		if i < len(s.specs) {
			specs = slices.Clone(s.specs[i])
		}
		for c := range slot.duringLocked(at, Never) {
			if c.answered == Never {
				specs = append(specs, c.spec)
			}
		}
		for n, spec := range distinct(specs) {
			c := &Change{of: s.of, asked: at, answered: Never, spec: spec}
			slot.changes = append(slot.changes, c)
			if n == 0 {
				changes = append(changes, c)
			}
		}
	}
	return changes
}

// possibleLocked returns what the filter may have been at some time from one
// moment to another, each once; nil stands for none.
func (s *Slot) possibleLocked(from, to Seq) []*filter.Spec {
	var specs []*filter.Spec
	for c := range s.duringLocked(from, to) {
		specs = append(specs, c.spec)
	}
	return distinct(specs)
}

// duringLocked yields the changes that may have been in force at some time from one moment
// to another, the latest first, and when each was surely replaced by a later one. The last one
// may stand for what was before all changes. It looks at these, and at none of the thousands
// that an hour has besides: changes are in the order in which they were asked for, and before
// one that was replaced by then there are only others that were.
func (s *Slot) duringLocked(from, to Seq) iter.Seq2[*Change, Seq] {
	return func(yield func(c *Change, end Seq) bool) {
		end := Never
		asked := sort.Search(len(s.changes), func(i int) bool { return s.changes[i].asked > to })
		for _, c := range slices.Backward(s.changes[:asked]) {
			if end <= from || !yield(c, end) {
				return
			}
			end = min(end, c.answered)
		}
		if end > from {
			yield(&Change{}, end)
		}
	}
}

// distinct returns each of specs once. Otherwise each restore of the database would double
// what a filter may be.
func distinct(specs []*filter.Spec) (each []*filter.Spec) {
	for _, s := range specs {
		if !slices.Contains(each, s) {
			each = append(each, s)
		}
	}
	return each
}

// may reports whether at some time from one moment to another a filter that
// matches may have been in force.
func (f *Filters) may(from, to Seq, matches func(*filter.Spec) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.slots {
		if slices.ContainsFunc(s.possibleLocked(from, to), matches) {
			return true
		}
	}
	return false
}

// must reports whether at every time from one moment to another some filter was
// in force that matches, whatever came of what was under way.
func (f *Filters) must(from, to Seq, matches func(*filter.Spec) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.alwaysLocked(from, from+1, matches) { // as of most events that did not come: they need no moments
		return false
	}
	moments := f.momentsLocked(from, to)
	for i, m := range moments[:len(moments)-1] {
		if !f.alwaysLocked(m, moments[i+1], matches) {
			return false
		}
	}
	return true
}

// momentsLocked returns from, to, and when something was asked or answered in between.
func (f *Filters) momentsLocked(from, to Seq) []Seq {
	moments := []Seq{from, to}
	for _, s := range f.slots {
		for c := range s.duringLocked(from, to) {
			for _, at := range []Seq{c.asked, c.answered} {
				if at > from && at < to {
					moments = append(moments, at)
				}
			}
		}
	}
	slices.Sort(moments)
	return moments
}

// alwaysLocked reports whether one of the filters matches in each state that it
// may have had between two moments in a row.
func (f *Filters) alwaysLocked(from, to Seq, matches func(*filter.Spec) bool) bool {
	for _, s := range f.slots {
		// What is asked at the second moment is of the next stretch.
		states := s.possibleLocked(from, max(from, to-1))
		if !slices.ContainsFunc(states, func(spec *filter.Spec) bool { return !matches(spec) }) {
			return true
		}
	}
	return false
}
