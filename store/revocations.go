package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"eventstream/auth"
)

// Revoke revokes tokens. A repeated revocation keeps the later At and Expires.
func (p *Postgres) Revoke(ctx context.Context, r auth.Revocation) error {
	kind, id := "subscriber", r.Subscriber
	if id == "" {
		kind, id = "token", r.TokenID
	}
	_, err := p.pool.Exec(ctx, `
		insert into revocations as old (kind, id, revoked_at, expires_at) values ($1, $2, $3, $4)
		on conflict (kind, id) do update set
			revoked_at = greatest(old.revoked_at, excluded.revoked_at),
			expires_at = greatest(old.expires_at, excluded.expires_at),
			changed_in = pg_current_xact_id()`, kind, id, r.At, r.Expires)
	return fail("revoke tokens", err)
}

// RevocationsSince passes to each every revocation that was made after m and has not
// expired, at least once and in no order, and returns the next Mark. If m is empty or
// lost, it passes all. An error of each ends it.
func (p *Postgres) RevocationsSince(ctx context.Context, m Mark, each func(auth.Revocation) error) (Mark, error) {
	next := m
	err := p.snapshot(ctx, func(tx pgx.Tx, at place) error {
		seen, err := at.since(m)
		if err != nil && !errors.Is(err, ErrMarkLost) {
			return err
		}
		next = at.mark()
		rows, err := tx.Query(ctx, `
			select kind, id, revoked_at, expires_at from revocations where expires_at > now() and `+unseen, seen.args()...)
		if err != nil {
			return err
		}
		var kind, id string
		var revoked, expires time.Time
		_, err = pgx.ForEachRow(rows, []any{&kind, &id, &revoked, &expires}, func() error {
			r := auth.Revocation{Subscriber: id, At: revoked, Expires: expires}
			if kind == "token" {
				r.Subscriber, r.TokenID = "", id
			}
			return each(r)
		})
		return err
	})
	if err != nil {
		return m, fail("read revocations", err)
	}
	return next, nil
}

// Revoke is Postgres.Revoke.
func (m *Memory) Revoke(ctx context.Context, r auth.Revocation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	m.revocations = append(m.revocations, r)
	return nil
}

// RevocationsSince is Postgres.RevocationsSince, but passes all each time.
func (m *Memory) RevocationsSince(ctx context.Context, _ Mark, each func(auth.Revocation) error) (Mark, error) {
	m.mu.Lock()
	list := slices.Clone(m.revocations)
	m.mu.Unlock()
	for _, r := range list {
		if !time.Now().Before(r.Expires) {
			continue
		}
		if err := each(r); err != nil {
			return "", err
		}
	}
	return "", ctx.Err()
}
