package store

import (
	"context"
	"crypto/sha256"
	"iter"
	"time"

	"eventstream/filter"
)

// memoryKey is what was created with an idempotency key.
type memoryKey struct {
	request [sha256.Size]byte
	id      filter.ID
	at      time.Time
}

func (k memoryKey) expired() bool { return time.Since(k.at) >= KeyLife }

// CreateOnce is Postgres.CreateOnce.
func (m *Memory) CreateOnce(ctx context.Context, s filter.Spec, key string) (f filter.Filter, again bool, err error) {
	spec, err := encode(s)
	if err != nil {
		return filter.Filter{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return filter.Filter{}, false, err
	}
	request := sha256.Sum256(spec)
	if k, ok := m.keys[key]; ok && !k.expired() {
		if k.request != request {
			return filter.Filter{}, false, ErrKeyReused
		}
		return filter.Filter{ID: k.id, Revision: 1, Spec: s.Clone()}, true, nil
	}
	if m.keys == nil {
		m.keys = make(map[string]memoryKey)
	}
	f = m.createLocked(s)
	m.keys[key] = memoryKey{request, f.ID, time.Now()}
	return f, false, nil
}

// Import is Postgres.Import, but for holding all Specs at a time.
func (m *Memory) Import(ctx context.Context, specs iter.Seq2[filter.Spec, error]) (int64, error) {
	var all []filter.Spec
	for s, err := range specs {
		if err == nil {
			err = s.Validate()
		}
		if err != nil {
			return 0, err
		}
		all = append(all, s)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	for _, s := range all {
		m.createLocked(s)
	}
	return int64(len(all)), nil
}

// DeleteAll deletes all filters of a subscriber, and returns how many.
func (m *Memory) DeleteAll(ctx context.Context, subscriber string) (n int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	for _, r := range m.rows {
		if r.SubscriberID == subscriber && !r.Deleted {
			r.Deleted, r.deletedAt = true, time.Now()
			m.changedLocked(r)
			n++
		}
	}
	return n, nil
}
