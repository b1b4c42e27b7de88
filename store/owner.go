package store

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"eventstream/event"
	"eventstream/filter"
)

// Owner returns the pipeline that owns the database. Topic is zero if no filter service
// has claimed it yet.
func (p *Postgres) Owner(ctx context.Context) (o filter.Owner, err error) {
	var topic [16]byte
	err = p.pool.QueryRow(ctx, `select topic, name, seen_at from pipeline`).Scan(&topic, &o.Name, &o.Seen)
	if errors.Is(err, pgx.ErrNoRows) {
		return o, nil
	}
	o.Topic = topic
	return o, fail("read whose the database is", err)
}

// SetOwner claims the database for the filter services of a topic, and returns the
// Owner. It changes nothing if the owner is no longer before.
func (p *Postgres) SetOwner(ctx context.Context, topic event.TopicID, name string, before filter.Owner) (filter.Owner, error) {
	_, err := p.pool.Exec(ctx, `
		insert into pipeline as old (topic, name, seen_at) values ($1, $2, now())
		on conflict (one_row) do update set topic = excluded.topic, name = excluded.name, seen_at = excluded.seen_at
		where old.topic = $3 and old.seen_at = $4`, uuid.UUID(topic).String(), name, uuid.UUID(before.Topic).String(), before.Seen)
	if err != nil {
		return before, fail("say whose the database is", err)
	}
	return p.Owner(ctx)
}

// Owner is Postgres.Owner.
func (m *Memory) Owner(ctx context.Context) (filter.Owner, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owner, ctx.Err()
}

// SetOwner is Postgres.SetOwner.
func (m *Memory) SetOwner(ctx context.Context, topic event.TopicID, name string, before filter.Owner) (filter.Owner, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.owner == before {
		m.owner = filter.Owner{Topic: topic, Name: name, Seen: time.Now()}
	}
	return m.owner, ctx.Err()
}
