package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"eventstream/auth"
)

// CreateAPIKey saves a key.
func (p *Postgres) CreateAPIKey(ctx context.Context, k auth.APIKey) error {
	_, err := p.pool.Exec(ctx, `
		insert into api_keys (id, name, scope, hash, created_at) values ($1, $2, $3, $4, $5)`,
		k.ID, k.Name, string(k.Scope), k.Hash[:], k.Created)
	return fail("create API key", err)
}

// APIKeys returns all keys, including revoked ones, the oldest first.
func (p *Postgres) APIKeys(ctx context.Context) ([]auth.APIKey, error) {
	rows, err := p.pool.Query(ctx, `select id, name, scope, hash, created_at, revoked_at from api_keys order by created_at, id`)
	if err != nil {
		return nil, fail("list API keys", err)
	}
	keys, err := pgx.CollectRows(rows, scanAPIKey)
	return keys, fail("list API keys", err)
}

func scanAPIKey(row pgx.CollectableRow) (k auth.APIKey, err error) {
	var hash []byte
	var revoked *time.Time
	if err := row.Scan(&k.ID, &k.Name, (*string)(&k.Scope), &hash, &k.Created, &revoked); err != nil {
		return k, err
	}
	if len(hash) != len(k.Hash) {
		return k, fmt.Errorf("API key %s: a hash of %d bytes", k.ID, len(hash))
	}
	copy(k.Hash[:], hash)
	if revoked != nil {
		k.Revoked = *revoked
	}
	return k, nil
}

// RevokeAPIKey revokes a key, or fails with ErrNotFound. The row stays: once a key
// existed, the API requires one.
func (p *Postgres) RevokeAPIKey(ctx context.Context, id string) error {
	tag, err := p.pool.Exec(ctx, `update api_keys set revoked_at = coalesce(revoked_at, now()) where id = $1`, id)
	if err == nil && tag.RowsAffected() == 0 {
		return ErrNotFound
	}
	return fail("revoke API key", err)
}
