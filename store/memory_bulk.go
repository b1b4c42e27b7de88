package store

import (
	"context"
	"crypto/sha256"
	"iter"
	"maps"
	"slices"
	"time"

	"eventstream/filter"
)

// memoryKey is the filter created with an idempotency key.
type memoryKey struct {
	request [sha256.Size]byte
	id      filter.ID
	at      time.Time
}

// memoryImport is the import made with an idempotency key.
type memoryImport struct {
	request [sha256.Size]byte
	n       int64
	at      time.Time
}

func expired(at time.Time) bool { return time.Since(at) >= KeyLife }

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
	if k, ok := m.keys[key]; ok && !expired(k.at) {
		if k.request != request {
			return filter.Filter{}, false, ErrKeyReused
		}
		return filter.Filter{ID: k.id, Revision: 1, Spec: s.Clone()}, true, nil
	}
	if m.keys == nil {
		m.keys = make(map[string]memoryKey)
	}
	use := s.Use(len(spec))
	if err := m.quota.Check(s.SubscriberID, m.used[s.SubscriberID], use); err != nil {
		return filter.Filter{}, false, err
	}
	f = m.createLocked(s, use)
	m.keys[key] = memoryKey{request, f.ID, time.Now()}
	return f, false, nil
}

// Import is Postgres.Import, except that it holds all Specs at a time.
func (m *Memory) Import(ctx context.Context, specs iter.Seq2[filter.Spec, error]) (int64, error) {
	all, _, err := collect(specs)
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return m.importLocked(all)
}

// ImportOnce is Postgres.ImportOnce.
func (m *Memory) ImportOnce(ctx context.Context, specs iter.Seq2[filter.Spec, error], key string) (n int64, again bool, err error) {
	all, request, err := collect(specs)
	if err != nil {
		return 0, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, false, err
	}
	if i, ok := m.imports[key]; ok && !expired(i.at) {
		if i.request != request {
			return 0, false, ErrKeyReused
		}
		return i.n, true, nil
	}
	if m.imports == nil {
		m.imports = make(map[string]memoryImport)
	}
	if n, err = m.importLocked(all); err != nil {
		return 0, false, err
	}
	m.imports[key] = memoryImport{request, n, time.Now()}
	return n, false, nil
}

// sized is a Spec with its Use.
type sized struct {
	filter.Spec
	use filter.Use
}

// collect returns all specs, and the hash of their JSON.
func collect(specs iter.Seq2[filter.Spec, error]) (all []sized, request [sha256.Size]byte, err error) {
	sum := sha256.New()
	for s, err := range specs {
		if err != nil {
			return nil, request, err
		}
		spec, err := encode(s)
		if err != nil {
			return nil, request, err
		}
		sum.Write(spec)
		all = append(all, sized{s, s.Use(len(spec))})
	}
	return all, [sha256.Size]byte(sum.Sum(nil)), nil
}

func (m *Memory) importLocked(all []sized) (int64, error) {
	more := make(map[string]filter.Use)
	for _, s := range all {
		more[s.SubscriberID] = more[s.SubscriberID].Plus(s.use)
	}
	for _, subscriber := range slices.Sorted(maps.Keys(more)) { // sorted, so the error names the first
		if err := m.quota.Check(subscriber, m.used[subscriber], more[subscriber]); err != nil {
			return 0, err
		}
	}
	for _, s := range all {
		m.createLocked(s.Spec, s.use)
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
			m.deleteLocked(r)
			n++
		}
	}
	return n, nil
}
