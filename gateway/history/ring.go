package history

import (
	"slices"
	"sort"
	"sync"

	"eventstream/lane"
)

// ring keeps the newest entries of the lanes in memory, as they were read. A client that
// was away for a moment is served from it, without a call to the store. The oldest entry
// of all lanes is dropped first.
type ring struct {
	max int // bytes

	mu    sync.Mutex
	lanes []recent // by partition
	order []int32  // partitions of the entries, oldest first
	bytes int
}

// recent is the newest entries of one lane.
type recent struct {
	from    int64 // every event from here on that has been read is in entries
	entries []lane.Entry
}

// entryOverhead is about what an entry costs beside its bytes.
const entryOverhead = 64

// start begins at the given positions, of partitions that it does not have yet.
func (r *ring) start(next []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range next[len(r.lanes):] {
		r.lanes = append(r.lanes, recent{from: n})
	}
}

// add takes in what was read, in order.
func (r *ring) add(entries []lane.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		l := &r.lanes[e.Partition]
		if e.Last < l.from { // from before a cut: when evicted it would move from back to before the cut
			continue
		}
		l.entries = append(l.entries, e)
		r.order = append(r.order, e.Partition)
		r.bytes += len(e.Blob) + entryOverhead
	}
	for r.bytes > r.max && len(r.order) > 0 {
		l := &r.lanes[r.order[0]]
		r.order = r.order[1:]
		e := l.entries[0]
		l.entries[0] = lane.Entry{} // its bytes are garbage now
		l.entries = l.entries[1:]
		l.from = e.Last + 1
		r.bytes -= len(e.Blob) + entryOverhead
	}
}

// cut drops all of a partition: entries are missing before the offset.
func (r *ring) cut(p int32, before int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.lanes[p]
	for _, e := range l.entries {
		r.bytes -= len(e.Blob) + entryOverhead
	}
	*l = recent{from: before}
	r.order = slices.DeleteFunc(r.order, func(q int32) bool { return q == p })
}

// from returns the offset from which on the ring holds the partition.
func (r *ring) from(p int32) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lanes[p].from
}

// size is about how many bytes it holds.
func (r *ring) size() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(r.bytes)
}

// read returns up to n entries that may hold events of the partition from an
// offset on. ok is false if the ring does not reach back to it.
func (r *ring) read(p int32, from int64, n int) (entries []lane.Entry, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.lanes[p]
	if from < l.from {
		return nil, false
	}
	i := sort.Search(len(l.entries), func(i int) bool { return l.entries[i].Last >= from })
	return slices.Clone(l.entries[i:min(i+n, len(l.entries))]), true
}
