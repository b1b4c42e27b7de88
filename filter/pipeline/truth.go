package pipeline

import "eventstream/filter"

// watch notes which filters change while the store is read as the truth: what is read
// counts whatever revision is known. The store may have been put back to an earlier
// state, and then has lower revisions, and filters that were deleted.
//
// What is known when a watch begins was in the store before, and so is in what is read
// after that, unless it was deleted or the store has lost it. What changes later may be
// news to what is read: of these two, the higher revision counts.
type watch struct {
	changed map[key]filter.Change // since it began, the latest of each
	stale   map[key]bool          // known when it began, and not read yet
	touched *[filter.Ranges]bool  // of a glance: ranges of what changed
}

func (w *watch) note(k key, c filter.Change) {
	if w.touched != nil {
		w.touched[filter.RangeOf(k)] = true
	} else if w.changed[k].Revision <= c.Revision {
		w.changed[k] = c
	}
}

// watch begins to note changes, in the place of whoever did so before. What is known in
// the given ranges when it returns, or everything if that is nil, goes if it is not read.
// Events need not wait until it has seen a million filters: it lets others have the lock.
func (r *routes) watch(ranges []int32) *watch {
	expect := 0
	if ranges == nil {
		expect = r.counts().filters
	}
	w := &watch{changed: make(map[key]filter.Change), stale: make(map[key]bool, expect)}
	in := rangeSet(ranges)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watching = w
	n := 0
	for k, f := range r.filters {
		if f.condition != nil && (ranges == nil || in[filter.RangeOf(k)]) {
			w.stale[k] = true
		}
		if n++; n%lookAtOnce == 0 { // what comes or goes meanwhile may be met or not
			r.mu.Unlock()
			r.mu.Lock()
		}
	}
	return w
}

// lookAtOnce is how many filters are looked at under the lock: a millisecond's work.
const lookAtOnce = 4096

// glance begins to note changes for differing. It returns nil if somebody does already.
func (r *routes) glance() *watch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watching != nil {
		return nil
	}
	r.watching = &watch{touched: new([filter.Ranges]bool)}
	return r.watching
}

func rangeSet(ranges []int32) (in [filter.Ranges]bool) {
	for _, i := range ranges {
		in[i] = true
	}
	return in
}

// unwatch ends w.
func (r *routes) unwatch(w *watch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watching == w {
		r.watching = nil
	}
}

// take takes in a filter as it was read from the store, and reports whether something
// else was known that no change since w began explains.
func (r *routes) take(w *watch, f filter.Filter) (differed bool) {
	if !r.shard.Holds(f.SubscriberID) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k, c := keyOf(f.ID), filter.Change{Filter: f}
	delete(w.stale, k)
	later, changed := w.changed[k]
	if changed && later.Revision > c.Revision {
		c = later
	}
	return r.putLocked(k, c) && !changed
}

// dropStale drops what was not read, publishes what was, and returns how many it dropped
// that no change since w began deleted.
func (r *routes) dropStale(w *watch) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range w.stale {
		if f := r.filters[k]; f.condition != nil {
			r.dropLocked(k, f)
			delete(r.filters, k)
			if _, changed := w.changed[k]; !changed {
				n++
			}
		}
	}
	r.publishLocked()
	return n
}

// differing returns the ranges in which the store held other filters than are known, and
// no change since w, a glance, began is to blame. It knows of none if another watch has begun.
func (r *routes) differing(w *watch, store *filter.Fingerprint) (ranges []int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watching != w {
		return nil
	}
	for i := range store {
		if store[i] != r.print[i] && !w.touched[i] {
			ranges = append(ranges, int32(i))
		}
	}
	return ranges
}
