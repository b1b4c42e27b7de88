package store

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/filter"
)

// Memory keeps filters, acknowledgements and revocations in memory, for development and
// tests. The zero value is an empty store.
type Memory struct {
	mu      sync.Mutex
	rows    map[filter.ID]*row
	ids     []filter.ID // of rows, in order
	changes uint64      // number of the last change
	purged  uint64      // the highest change of a purged row
	acks    map[string]event.Ack
	keys    map[string]memoryKey // of idempotency
	imports map[string]memoryImport

	revocations []auth.Revocation
	owner       filter.Owner

	quota filter.Quota
	used  map[string]filter.Use // by subscriber
}

type row struct {
	Change
	use       filter.Use
	changed   uint64 // number of the row's last change
	deletedAt time.Time
}

// Close does nothing.
func (m *Memory) Close() {}

// Ping reports only that ctx has ended.
func (m *Memory) Ping(ctx context.Context) error { return ctx.Err() }

// Limit is Postgres.Limit.
func (m *Memory) Limit(q filter.Quota) { m.quota = q }

// Create stores a new filter. The error may be a *filter.Invalid or a
// *filter.QuotaError.
func (m *Memory) Create(ctx context.Context, s filter.Spec) (filter.Filter, error) {
	spec, err := encode(s)
	if err != nil {
		return filter.Filter{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return filter.Filter{}, err
	}
	use := s.Use(len(spec))
	if err := m.quota.Check(s.SubscriberID, m.used[s.SubscriberID], use); err != nil {
		return filter.Filter{}, err
	}
	return m.createLocked(s, use), nil
}

func (m *Memory) createLocked(s filter.Spec, use filter.Use) filter.Filter {
	if m.rows == nil {
		m.rows = make(map[filter.ID]*row)
		m.used = make(map[string]filter.Use)
	}
	r := &row{Change: Change{Filter: filter.Filter{ID: newID(), Spec: s.Clone()}}, use: use}
	m.rows[r.ID] = r
	m.ids = append(m.ids, r.ID)
	m.used[r.SubscriberID] = m.used[r.SubscriberID].Plus(use)
	return m.changedLocked(r)
}

// Get returns a filter, or ErrNotFound.
func (m *Memory) Get(ctx context.Context, id filter.ID) (filter.Filter, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.rowLocked(ctx, id)
	if err != nil {
		return filter.Filter{}, err
	}
	return r.copy().Filter, nil
}

// List returns at most limit filters after the given ID, sorted by ID: a subscriber's,
// or all if subscriber is "".
func (m *Memory) List(ctx context.Context, subscriber string, after filter.ID, limit int) ([]filter.Filter, error) {
	if after != "" {
		var err error
		if after, err = canonical(after); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	start, found := slices.BinarySearch(m.ids, after)
	if found {
		start++
	}
	var list []filter.Filter
	for _, id := range m.ids[start:] {
		if len(list) >= limit {
			break
		}
		r := m.rows[id]
		if !r.Deleted && (subscriber == "" || subscriber == r.SubscriberID) {
			list = append(list, r.copy().Filter)
		}
	}
	return list, ctx.Err()
}

// Update replaces a filter's Spec, if ifRevision is its revision or 0. Otherwise the
// error is ErrNotFound, ErrSubscriber, ErrConflict, a *filter.Invalid or a
// *filter.QuotaError.
func (m *Memory) Update(ctx context.Context, id filter.ID, s filter.Spec, ifRevision int64) (filter.Filter, error) {
	spec, err := encode(s)
	if err != nil {
		return filter.Filter{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.rowLocked(ctx, id)
	switch {
	case err != nil:
		return filter.Filter{}, err
	case r.SubscriberID != s.SubscriberID:
		return filter.Filter{}, ErrSubscriber
	case ifRevision != 0 && ifRevision != r.Revision:
		return filter.Filter{}, ErrConflict
	}
	use := s.Use(len(spec))
	more := use.Minus(r.use)
	if err := m.quota.Check(s.SubscriberID, m.used[s.SubscriberID], more); err != nil {
		return filter.Filter{}, err
	}
	r.Spec, r.use = s.Clone(), use
	m.used[s.SubscriberID] = m.used[s.SubscriberID].Plus(more)
	return m.changedLocked(r), nil
}

// Delete deletes a filter, if ifRevision is its revision or 0, and returns it with the
// revision of the deletion. Otherwise the error is ErrNotFound or ErrConflict.
func (m *Memory) Delete(ctx context.Context, id filter.ID, ifRevision int64) (filter.Filter, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.rowLocked(ctx, id)
	if err != nil {
		return filter.Filter{}, err
	}
	if ifRevision != 0 && ifRevision != r.Revision {
		return filter.Filter{}, ErrConflict
	}
	return m.deleteLocked(r), nil
}

func (m *Memory) deleteLocked(r *row) filter.Filter {
	r.Deleted, r.deletedAt = true, time.Now()
	if u := m.used[r.SubscriberID].Minus(r.use); u == (filter.Use{}) {
		delete(m.used, r.SubscriberID)
	} else {
		m.used[r.SubscriberID] = u
	}
	return m.changedLocked(r)
}

// Estimate returns how many filters there are, deleted ones included.
func (m *Memory) Estimate(ctx context.Context) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.rows), ctx.Err()
}

// Load passes every filter to each, all as of one moment, and returns the Mark at which
// ChangesSince continues. An error of each ends it.
func (m *Memory) Load(ctx context.Context, each func(filter.Filter) error) (Mark, error) {
	return m.since(ctx, "", func(c Change) error {
		if c.Deleted {
			return nil
		}
		return each(c.Filter)
	})
}

// ChangesSince passes to each every filter that was changed or deleted after m, in no
// order, and returns the next Mark. The error is ErrMarkLost if deletions after m have
// been purged. An error of each ends it.
func (m *Memory) ChangesSince(ctx context.Context, mark Mark, each func(Change) error) (Mark, error) {
	return m.since(ctx, mark, each)
}

func (m *Memory) since(ctx context.Context, mark Mark, each func(Change) error) (Mark, error) {
	changed, next, err := m.changed(mark)
	if err != nil {
		return mark, err
	}
	for _, c := range changed {
		if err := ctx.Err(); err != nil {
			return mark, err
		}
		if err := each(c); err != nil {
			return mark, err
		}
	}
	return next, ctx.Err()
}

// changed returns copies, so that the receiver can use them without the lock.
func (m *Memory) changed(mark Mark) ([]Change, Mark, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changedSinceLocked(mark)
}

func (m *Memory) changedSinceLocked(mark Mark) ([]Change, Mark, error) {
	var after uint64
	if mark != "" {
		var err error
		after, err = strconv.ParseUint(string(mark), 10, 64)
		if err != nil || after < m.purged || after > m.changes {
			return nil, "", ErrMarkLost
		}
	}
	next := Mark(strconv.FormatUint(m.changes, 10))
	if after == m.changes {
		return nil, next, nil
	}
	var list []Change
	for _, r := range m.rows {
		if r.changed > after {
			list = append(list, r.copy())
		}
	}
	return list, next, nil
}

// Purge removes the filters that were deleted longer ago than olderThan, and returns
// how many. Readers that have not yet seen their deletion get ErrMarkLost. It also
// removes expired idempotency keys and revocations.
func (m *Memory) Purge(ctx context.Context, olderThan time.Duration) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	maps.DeleteFunc(m.keys, func(_ string, k memoryKey) bool { return expired(k.at) })
	maps.DeleteFunc(m.imports, func(_ string, i memoryImport) bool { return expired(i.at) })
	m.revocations = slices.DeleteFunc(m.revocations, func(r auth.Revocation) bool { return !time.Now().Before(r.Expires) })
	before := len(m.ids)
	m.ids = slices.DeleteFunc(m.ids, func(id filter.ID) bool {
		r := m.rows[id]
		if !r.Deleted || time.Since(r.deletedAt) < olderThan {
			return false
		}
		m.purged = max(m.purged, r.changed)
		delete(m.rows, id)
		return true
	})
	return int64(before - len(m.ids)), nil
}

// rowLocked returns the row of a filter that is not deleted.
func (m *Memory) rowLocked(ctx context.Context, id filter.ID) (*row, error) {
	id, err := canonical(id)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := m.rows[id]
	if r == nil || r.Deleted {
		return nil, ErrNotFound
	}
	return r, nil
}

// changedLocked records a change of r, and returns the filter.
func (m *Memory) changedLocked(r *row) filter.Filter {
	m.changes++
	r.Revision++
	r.changed = m.changes
	return r.copy().Filter
}

func (r *row) copy() Change {
	c := r.Change
	c.Spec = c.Spec.Clone()
	return c
}
