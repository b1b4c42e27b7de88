package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// MigrationError reports a failed migration. It was rolled back as a whole.
type MigrationError struct {
	Name string // of the migration
	Line int    // of its file; 0 if unknown
	Err  error
}

func (e *MigrationError) Error() string {
	at := ""
	if e.Line > 0 {
		at = fmt.Sprintf(", line %d", e.Line)
	}
	return fmt.Sprintf("migration %s%s: %v; nothing of it was applied", e.Name, at, e.Err)
}

func (e *MigrationError) Unwrap() error { return e.Err }

// Migrate applies pending migrations. It may run in many processes at once. If nothing
// is pending it only reads, and waits for no lock.
//
// A database that a newer version has migrated is left as it is, without an error.
func (p *Postgres) Migrate(ctx context.Context) error {
	return p.MigrateEach(ctx, func(Migration) {})
}

// MigrateEach is Migrate, and calls done with each migration when it is committed.
func (p *Postgres) MigrateEach(ctx context.Context, done func(Migration)) error {
	for {
		s, err := p.Schema(ctx)
		if err != nil {
			return err
		}
		next := s.in(Pending, InPlace)
		if len(next) == 0 {
			return nil
		}
		m, err := p.migrateNext(ctx, next[0])
		switch {
		case forbidden(err) && len(s.Pending()) == 0:
			return nil // only the record is missing
		case err != nil:
			return fail("migrate the schema", err)
		case m != nil:
			done(*m)
		}
	}
}

// migrationsTable records applied migrations.
const migrationsTable = `
	create table if not exists eventstream_migrations (
		number     integer primary key,
		name       text not null,
		checksum   text not null, -- SHA-256 of its SQL
		applied_at timestamptz not null default now()
	)`

// migrateNext applies the first pending migration, and returns it, or nil if another
// process has applied it. first is the pending one that was read before locking.
func (p *Postgres) migrateNext(ctx context.Context, first Migration) (applied *Migration, err error) {
	// At a higher isolation level the transaction would not see what others committed
	// while it waited for the lock.
	opts := pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	err = pgx.BeginTxFunc(ctx, p.pool, opts, func(tx pgx.Tx) error {
		if err := lockSchema(ctx, tx); err != nil {
			return err
		}
		// This comes before the schema is read: it makes PostgreSQL notice what others
		// committed while we waited. PostgreSQL may have cached that a table does not exist.
		if _, err := tx.Exec(ctx, migrationsTable); err != nil {
			return first.failed(err, 0)
		}
		s, err := p.readSchema(ctx, tx)
		if err != nil {
			return err
		}
		next := s.in(Pending, InPlace)
		if len(next) == 0 {
			return nil
		}
		m := next[0]
		if m.State == Pending {
			if _, err := tx.Exec(ctx, m.sql); err != nil {
				return m.failed(err, lineOf(m.sql, err))
			}
		}
		_, err = tx.Exec(ctx, `insert into eventstream_migrations (number, name, checksum) values ($1, $2, $3)`, m.Number, m.Name, m.Checksum)
		if err != nil {
			return m.failed(err, 0)
		}
		m.State, applied = Applied, &m
		return nil
	})
	return applied, err
}

// lockSchema waits until no other process migrates this schema, and prepares tx for a
// migration. A migration that waits for a table lock makes other queries wait behind
// it, so it fails after 2 s, to be tried again.
func lockSchema(ctx context.Context, tx pgx.Tx) error {
	for _, sql := range []string{
		`set local client_min_messages = warning`,
		`set local statement_timeout = 0`,
		`set local lock_timeout = 0`,
		`select pg_advisory_xact_lock(hashtextextended('eventstream schema ' || current_schema(), 0))`,
		`set local lock_timeout = '2s'`,
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// failed returns the error of m, with advice if the cause is known.
func (m Migration) failed(err error, line int) error {
	e := &MigrationError{Name: m.Name, Line: line, Err: err}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return e
	}
	switch pg.Code {
	case "42501": // insufficient privilege
		e.Err = fmt.Errorf("%w; run `eventstream migrate` as the user that owns the tables", err)
	case "3F000": // no schema
		e.Err = fmt.Errorf("%w; create the schema that search_path names", err)
	case "42P01", "42703": // otherwise these mean that migrations are pending
		return refused{e}
	}
	return e
}

// forbidden reports whether the database's user lacks a right.
func forbidden(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "42501"
}

// lineOf returns the line of sql that PostgreSQL's error is about, or 0.
func lineOf(sql string, err error) int {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	before := []rune(sql) // PostgreSQL counts characters, from 1
	if !ok || pg.Position < 1 || int(pg.Position) > len(before) {
		return 0
	}
	return 1 + strings.Count(string(before[:pg.Position-1]), "\n")
}
