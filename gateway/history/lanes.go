package history

import (
	"context"
	"sync"
	"time"

	"eventstream/event"
	"eventstream/internal/scan"
	"eventstream/lane"
)

// Store holds the lanes: Redis, or memory.
type Store interface {
	Range(ctx context.Context, sh lane.Shard, p int32, from, to int64, sink func(lane.Entry) error) (first int64, err error)
}

// Config holds what a gateway sets.
type Config struct {
	RingBytes     int           // of the newest entries, kept in memory
	SkipMalformed bool          // go on after an entry that can't be read, as if it had been trimmed
	Timeout       time.Duration // of a call to the store
}

// Lanes is the past of one shard's lanes: the newest entries, which are in memory, and
// what the store still has.
type Lanes struct {
	store Store
	shard lane.Shard
	cfg   Config
	ring  ring

	mu    sync.Mutex
	scans []*laneScan // by partition
}

// NewLanes returns the past of a shard's lanes. It holds nothing before Start.
func NewLanes(store Store, sh lane.Shard, cfg Config) *Lanes {
	return &Lanes{store: store, shard: sh, cfg: cfg, ring: ring{max: cfg.RingBytes}}
}

// Start takes partitions up that it does not have yet, at the given positions.
func (l *Lanes) Start(next []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := len(l.scans); p < len(next); p++ {
		l.scans = append(l.scans, scan.New(&laneLog{lanes: l, partition: int32(p), wanted: make(map[event.Gateway]map[event.Seat][]*request)}))
	}
	l.ring.start(next)
}

// Add takes in entries that were read, in order.
func (l *Lanes) Add(entries []lane.Entry) { l.ring.add(entries) }

// Cut tells that entries of a partition are missing before an offset.
func (l *Lanes) Cut(p int32, before int64) { l.ring.cut(p, before) }

// InMemory returns the offset from which on a partition's entries are in memory.
func (l *Lanes) InMemory(p int32) int64 { return l.ring.from(p) }

// Bytes is about how much memory the newest entries take.
func (l *Lanes) Bytes() int64 { return l.ring.size() }

// Part is what one call of Take returns.
type Part = scan.Taken[*Event]

// Take returns the events of a partition in [from, to) that are addressed to one of the
// seats, or about the first bytes of them. All who ask share passes through the lane.
func (l *Lanes) Take(ctx context.Context, p int32, seats []event.Address, from, to int64, bytes int) (Part, error) {
	l.mu.Lock()
	s := l.scans[p]
	l.mu.Unlock()
	return s.Take(ctx, seats, from, to, bytes)
}
