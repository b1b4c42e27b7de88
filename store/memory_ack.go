package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"eventstream/event"
)

// SaveAcks is Postgres.SaveAcks.
func (m *Memory) SaveAcks(ctx context.Context, acks []event.Ack) error {
	acks, err := merge(acks)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.acks == nil {
		m.acks = make(map[string]event.Ack)
	}
	for _, a := range acks {
		if old, ok := m.acks[a.Subscriber]; ok {
			a = old.Heal(time.Now()).Merge(a)
		}
		m.acks[a.Subscriber] = copyAck(a)
	}
	return nil
}

// Acked returns what a subscriber acknowledged, or ErrNotFound.
func (m *Memory) Acked(ctx context.Context, subscriber string) (event.Ack, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return event.Ack{}, err
	}
	a, ok := m.acks[subscriber]
	if !ok {
		return event.Ack{}, ErrNotFound
	}
	return copyAck(a.Heal(time.Now())), nil
}

// ForgetAck is Postgres.ForgetAck.
func (m *Memory) ForgetAck(ctx context.Context, subscriber string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, ok := m.acks[subscriber]; !ok {
		return ErrNotFound
	}
	delete(m.acks, subscriber)
	return nil
}

// ForgetAcks is Postgres.ForgetAcks.
func (m *Memory) ForgetAcks(ctx context.Context, before time.Time, limit int) (n int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, a := range m.acks {
		if n < int64(limit) && a.At.Before(before) && ctx.Err() == nil {
			delete(m.acks, id)
			n++
		}
	}
	return n, ctx.Err()
}

// CountAcks is Postgres.CountAcks.
func (m *Memory) CountAcks(ctx context.Context, before time.Time) (n int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.acks {
		if a.At.Before(before) {
			n++
		}
	}
	return n, ctx.Err()
}

// Acks returns at most limit acknowledgements of subscribers after the given one,
// sorted by subscriber id.
func (m *Memory) Acks(ctx context.Context, after string, limit int) ([]event.Ack, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []event.Ack
	for _, id := range slices.Sorted(maps.Keys(m.acks)) {
		if id > after && len(list) < limit {
			list = append(list, copyAck(m.acks[id].Heal(time.Now())))
		}
	}
	return list, ctx.Err()
}

// AckTotals sums up all acknowledgements. For those in the given topic it also returns
// how far they are behind the given next offset of each partition.
func (m *Memory) AckTotals(ctx context.Context, topic event.TopicID, next []int64) (event.AckTotals, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := event.AckTotals{Subscribers: int64(len(m.acks))}
	for _, a := range m.acks {
		if t.Oldest.IsZero() || a.At.Before(t.Oldest) {
			t.Oldest = a.At
		}
		if a.Cursor.Topic != topic {
			continue
		}
		var behind int64
		for _, n := range a.Cursor.Behind(next) {
			behind += n
		}
		t.MaxBehind = max(t.MaxBehind, behind)
	}
	return t, ctx.Err()
}

func copyAck(a event.Ack) event.Ack {
	a.Cursor.Next = slices.Clone(a.Cursor.Next)
	return a
}
