package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// TryWrite reports whether the database accepts writes, by writing as the writes of
// filters do. It makes a table grow by a page, which a full disk refuses, and rolls that
// back. It commits a change, which a read-only server refuses, and a server that waits
// for a standby does not answer. One row remains. Only other trials wait for its lock.
func (p *Postgres) TryWrite(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		grown, err := tx.Begin(ctx) // a savepoint
		if err != nil {
			return err
		}
		if _, err := grown.Exec(ctx, `
			insert into write_trial_pages (pad) values (decode(repeat('00', 7500), 'hex'))`); err != nil {
			return err
		}
		if err := grown.Rollback(ctx); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			insert into write_trials default values on conflict (one_row) do update set tried_at = now()`)
		return err
	})
	if err != nil {
		return fail("try to write", err)
	}
	// Vacuum removes the page that was rolled back, so that the next trial needs the
	// disk space again. While somebody reads that table, as a backup does, vacuum would
	// wait: then the page stays until a later trial, or for autovacuum.
	var alone bool
	err = p.pool.QueryRow(ctx, `
		select not exists (select from pg_locks where relation = 'write_trial_pages'::regclass and pid <> pg_backend_pid())`).Scan(&alone)
	if err == nil && alone {
		p.pool.Exec(ctx, `vacuum (skip_locked) write_trial_pages`)
	}
	return nil
}

// TryWrite is Postgres.TryWrite.
func (m *Memory) TryWrite(ctx context.Context) error { return ctx.Err() }
