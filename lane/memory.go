package lane

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"eventstream/event"
)

// memoryLaneBytes bounds the entries that one lane of a Memory holds.
const memoryLaneBytes = 32 << 20

// memoryTailCount is how many entries of one lane Tail passes on at a time.
const memoryTailCount = 64

// Memory keeps lanes, control stream and presence in this process. It keeps the
// promises of Redis; besides, a lane that has grown past 32 MB is trimmed. All
// methods may be called concurrently; none waits for anything but
// Tail, Ask and FollowOrders.
type Memory struct {
	laneBytes int
	every     time.Duration // how often Tail passes positions

	mu    sync.Mutex // guards all below
	epoch string
	topic *Topic
	lanes map[memoryKey]*memoryLane
	wake  chan struct{} // closed when an entry is appended

	followers map[event.Gateway]chan memoryOrder
	memoryControl
}

// memoryKey names a lane. As in Redis, those of different numbers of shards take
// the place of each other.
type memoryKey struct {
	partition, shard int32
	several          bool
}

func memoryKeyOf(sh Shard, p int32) memoryKey { return memoryKey{p, sh.whole().Index, sh.Of > 1} }

// memoryLane is one partition of one shard.
type memoryLane struct {
	topic       event.TopicID
	of          int32 // shards
	beat        int64
	next, first int64
	after       int64 // offset after the last event appended; where the lane began if there was none
	synced      ControlID
	lost        Loss
	skipped     Skips
	end         int64
	entries     []Entry     // by Last
	retired     *time.Timer // drops the lane; nil unless Retire was called
	bytes       int
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	m := &Memory{laneBytes: memoryLaneBytes, every: time.Second, wake: make(chan struct{})}
	m.clearLocked()
	return m
}

func (m *Memory) clearLocked() {
	m.epoch, m.topic = "", nil
	m.lanes = make(map[memoryKey]*memoryLane)
	m.memoryControl = memoryControl{used: m.used, gateways: make(map[event.Gateway]*memoryGateway)}
}

// Wipe empties the store, as losing a Redis does.
func (m *Memory) Wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clearLocked()
}

// Close does nothing.
func (m *Memory) Close() {}

// Ping returns nil: the store is always there.
func (m *Memory) Ping(context.Context) error { return nil }

// TryWrite is Redis.TryWrite.
func (m *Memory) TryWrite(context.Context) error { return nil }

// CheckConfig returns nothing: there is nothing to configure.
func (m *Memory) CheckConfig(context.Context) (Inspection, error) { return Inspection{}, nil }

// Epoch returns the identity of the store's content. created says that there
// was none, so that the store was empty, and that this call made it.
func (m *Memory) Epoch(context.Context) (epoch string, created bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epoch == "" {
		m.epoch, created = rand.Text(), true
	}
	return m.epoch, created, nil
}

// SetTopic is Redis.SetTopic.
func (m *Memory) SetTopic(_ context.Context, t Topic) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	t.Shards = max(t.Shards, 1)
	if m.topic != nil && m.topic.ID == t.ID && m.topic.Shards == t.Shards {
		t.Partitions = max(t.Partitions, m.topic.Partitions)
	}
	m.topic = &t
	return nil
}

// Topic returns what the last SetTopic said, or ErrNoTopic.
func (m *Memory) Topic(context.Context) (Topic, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.topic == nil {
		return Topic{}, ErrNoTopic
	}
	return *m.topic, nil
}

// Claim is Redis.Claim.
func (m *Memory) Claim(_ context.Context, sh Shard, p int32, id event.TopicID, start, end int64) (next int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.laneLocked(sh, p)
	if l == nil || l.topic != id {
		if start < 0 {
			return -1, nil
		}
		var required ControlID
		if r := m.lanes[memoryKeyOf(sh, p)]; r != nil && r.next < 0 {
			required = r.synced
		}
		l = &memoryLane{topic: id, of: sh.whole().Of, next: start, first: start, after: start, synced: required}
		m.lanes[memoryKeyOf(sh, p)] = l
	}
	l.end = end
	l.keep()
	return l.next, nil
}

// laneLocked returns a lane, nil if there is none for this number of shards.
func (m *Memory) laneLocked(sh Shard, p int32) *memoryLane {
	if l := m.lanes[memoryKeyOf(sh, p)]; l != nil && l.next >= 0 && l.of == sh.whole().Of {
		return l
	}
	return nil
}

// Append is Redis.Append. The entry is copied.
func (m *Memory) Append(_ context.Context, a Append) (next int64, err error) {
	if err := a.check(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.laneLocked(a.Shard, a.Partition)
	if l == nil || l.topic != a.Topic {
		return -1, nil
	}
	if l.next != a.Expect || a.Synced.Compare(l.synced) < 0 {
		return l.next, nil
	}
	if a.Skipped != l.skipped {
		return Unskipped, nil
	}
	l.next, l.synced, l.end = a.Next, a.Synced, a.End
	l.beat++
	if len(a.Entry) > 0 {
		l.entries = append(l.entries, Entry{a.Partition, a.Last, max(l.after, l.first), slices.Clone(a.Entry)})
		l.after = a.Last + 1
		l.bytes += len(a.Entry)
		close(m.wake)
		m.wake = make(chan struct{})
	}
	l.trim(min(a.TrimBefore, a.Next), m.laneBytes)
	return l.next, nil
}

// Retire is Redis.Retire.
func (m *Memory) Retire(_ context.Context, sh Shard, id event.TopicID, n int32, keep time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := range n {
		l := m.laneLocked(sh, p)
		if l == nil || l.topic != id {
			continue
		}
		if keep <= 0 {
			l.keep()
			delete(m.lanes, memoryKeyOf(sh, p))
			continue
		}
		l.keep()
		l.retired = time.AfterFunc(keep, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if key := memoryKeyOf(sh, p); m.lanes[key] == l && l.retired != nil {
				delete(m.lanes, key)
			}
		})
	}
	return nil
}

// keep undoes Retire.
func (l *memoryLane) keep() {
	if l.retired != nil {
		l.retired.Stop()
		l.retired = nil
	}
}

// trim drops the entries with no offset from before on, and the oldest ones
// above maxBytes.
func (l *memoryLane) trim(before int64, maxBytes int) {
	l.first = max(l.first, before)
	n := 0
	for ; n < len(l.entries); n++ {
		e := l.entries[n]
		if e.Last >= before && l.bytes <= maxBytes {
			break
		}
		l.first = max(l.first, e.Last+1)
		l.bytes -= len(e.Blob)
	}
	clear(l.entries[:n]) // their blobs are garbage now
	l.entries = l.entries[n:]
}

// from returns the entries whose Last is at least o.
func (l *memoryLane) from(o int64) []Entry {
	return l.entries[sort.Search(len(l.entries), func(i int) bool { return l.entries[i].Last >= o }):]
}

// Positions returns the positions of a shard in partitions 0 to n-1.
func (m *Memory) Positions(_ context.Context, sh Shard, n int32) ([]Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Position, n)
	for p := range n {
		out[p] = m.positionLocked(sh, p)
	}
	return out, nil
}

// Require is Redis.Require.
func (m *Memory) Require(_ context.Context, sh Shard, n int32, synced ControlID) ([]Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Position, n)
	for p := range n {
		out[p] = m.positionLocked(sh, p)
		l := m.lanes[memoryKeyOf(sh, p)]
		if l == nil { // it waits for the claim
			l = &memoryLane{next: -1, first: -1}
			m.lanes[memoryKeyOf(sh, p)] = l
		}
		if synced.Compare(l.synced) > 0 {
			l.synced = synced
		}
	}
	return out, nil
}

func (m *Memory) positionLocked(sh Shard, p int32) Position {
	if l := m.laneLocked(sh, p); l != nil {
		return Position{p, l.next, l.first, l.synced, l.beat, l.lost, l.end, l.skipped}
	}
	return Position{Partition: p, Next: -1, First: -1}
}

// Range is Redis.Range.
func (m *Memory) Range(_ context.Context, sh Shard, p int32, from, to int64, sink func(Entry) error) (first int64, err error) {
	entries, pos := m.read(sh, p, from, to)
	for _, e := range entries {
		if err := sink(e); err != nil {
			return pos.First, err
		}
	}
	if pos.Next >= 0 && pos.Next < to {
		return pos.First, fmt.Errorf("range of partition %d to %d, is at %d: %w", p, to, pos.Next, ErrBehind)
	}
	return pos.First, nil
}

func (m *Memory) read(sh Shard, p int32, from, to int64) ([]Entry, Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.laneLocked(sh, p)
	if l == nil {
		return nil, m.positionLocked(sh, p)
	}
	entries := l.from(from)
	for i, e := range entries {
		if e.Last >= to-1 {
			entries = entries[:i+1]
			break
		}
	}
	return slices.Clone(entries), m.positionLocked(sh, p)
}

// Tail is Redis.Tail. It never fails but by sink.
func (m *Memory) Tail(ctx context.Context, sh Shard, from []int64, sink func(Batch) error) error {
	next, due := slices.Clone(from), slices.Repeat([]bool{true}, len(from))
	ticker := time.NewTicker(m.every)
	defer ticker.Stop()
	for ctx.Err() == nil {
		batch, wake := m.news(sh, next, due)
		if len(batch.Entries) > 0 || len(batch.Positions) > 0 {
			if err := sink(batch); err != nil && ctx.Err() == nil {
				return err
			}
			wake = ready // there may be more; see only whether positions are due
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-ticker.C:
			due = slices.Repeat([]bool{true}, len(from))
		}
	}
	return nil
}

// ready is a channel that never waits.
var ready = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// news returns what there is from next on and the positions that are due, both
// of which it moves, and what to wait for when there is nothing. A position
// stays due while entries below it are left.
func (m *Memory) news(sh Shard, next []int64, due []bool) (Batch, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out Batch
	for i := range next {
		var left bool
		if l := m.laneLocked(sh, int32(i)); l != nil {
			entries := l.from(next[i])
			left = len(entries) > memoryTailCount
			entries = entries[:min(len(entries), memoryTailCount)]
			out.Entries = append(out.Entries, entries...)
			if len(entries) > 0 {
				next[i] = entries[len(entries)-1].Last + 1
			}
		}
		if due[i] && !left {
			out.Positions = append(out.Positions, m.positionLocked(sh, int32(i)))
			due[i] = false
		}
	}
	return out, m.wake
}
