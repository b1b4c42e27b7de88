package store

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"eventstream/filter"
)

// Fingerprint is Postgres.Fingerprint.
func (m *Memory) Fingerprint(ctx context.Context, holds func(subscriber string) bool) (*filter.Fingerprint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	print := new(filter.Fingerprint)
	for _, r := range m.rows {
		if !r.Deleted && (holds == nil || holds(r.SubscriberID)) {
			print.Add(uuid.MustParse(string(r.ID)), r.Revision)
		}
	}
	return print, ctx.Err()
}

// LoadRanges is Postgres.LoadRanges.
func (m *Memory) LoadRanges(ctx context.Context, mark Mark, ranges []int32, changed func(Change) error, each func(filter.Filter) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	changes, _, err := m.changedSinceLocked(mark)
	var list []filter.Filter
	for _, r := range m.rows {
		if !r.Deleted && slices.Contains(ranges, filter.RangeOf(uuid.MustParse(string(r.ID)))) {
			list = append(list, r.copy().Filter)
		}
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	for _, c := range changes {
		if err := changed(c); err != nil {
			return err
		}
	}
	for _, f := range list {
		if err := each(f); err != nil {
			return err
		}
	}
	return ctx.Err()
}
