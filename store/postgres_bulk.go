package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"eventstream/filter"
)

// KeyLife is how long an idempotency key is remembered.
const KeyLife = 24 * time.Hour

// CreateOnce is Create, unless a filter was created with the same key within
// KeyLife: then it returns that one as it was created, and true. The error is
// ErrKeyReused if what was asked for then is not s.
func (p *Postgres) CreateOnce(ctx context.Context, s filter.Spec, key string) (f filter.Filter, again bool, err error) {
	spec, err := encode(s)
	if err != nil {
		return filter.Filter{}, false, err
	}
	request := sha256.Sum256(spec)
	// Of two at once, the second waits for the first to commit. A key that is
	// gone when it is looked up has just expired.
	for range 3 {
		f, err = scan(p.pool.QueryRow(ctx, `
			with fresh as (
				insert into idempotency_keys as k (key, request, filter_id) values ($1, $2, $3)
				on conflict (key) do update
				set request = excluded.request, filter_id = excluded.filter_id, created_at = now()
				where k.created_at <= now() - $4::interval
				returning filter_id
			)
			insert into filters (id, subscriber_id, spec, revision)
			select filter_id, $5, $6, 1 from fresh
			returning id, revision, spec`, key, request[:], string(newID()), KeyLife, s.SubscriberID, spec))
		if !errors.Is(err, pgx.ErrNoRows) {
			return f, false, fail("create filter", err)
		}
		var asked []byte
		err = p.pool.QueryRow(ctx, `select filter_id, request from idempotency_keys where key = $1`, key).Scan(&f.ID, &asked)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			continue
		case err != nil:
			return filter.Filter{}, false, fail("read idempotency key", err)
		case string(asked) != string(request[:]):
			return filter.Filter{}, false, ErrKeyReused
		}
		return filter.Filter{ID: f.ID, Revision: 1, Spec: s}, true, nil
	}
	return filter.Filter{}, false, fmt.Errorf("create filter: %w: its idempotency key comes and goes", ErrUnavailable)
}

// Import creates a filter for each Spec, all of them or none, and returns how
// many. It holds no more than a few at a time. An error of specs ends it.
func (p *Postgres) Import(ctx context.Context, specs iter.Seq2[filter.Spec, error]) (int64, error) {
	n, err := copyFilters(ctx, p.pool, specs, io.Discard)
	return p.imported(ctx, n, err)
}

// ImportOnce is Import, unless there was one with the same key within KeyLife: then
// it returns how many filters that one created, and true. The error is ErrKeyReused
// if those were others.
func (p *Postgres) ImportOnce(ctx context.Context, specs iter.Seq2[filter.Spec, error], key string) (n int64, again bool, err error) {
	err = pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		// Of two at once, the second waits here until the first is done.
		tag, err := tx.Exec(ctx, `
			insert into import_keys as k (key) values ($1)
			on conflict (key) do update set created_at = now() where k.created_at <= now() - $2::interval`, key, KeyLife)
		if err != nil {
			return err
		}
		request := sha256.New()
		if again = tag.RowsAffected() == 0; again {
			n, err = repeated(ctx, tx, specs, request, key)
			return err
		}
		if n, err = copyFilters(ctx, tx, specs, request); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `update import_keys set request = $2, imported = $3 where key = $1`, key, request.Sum(nil), n)
		return err
	})
	if again {
		return n, true, fail("repeat import", err)
	}
	n, err = p.imported(ctx, n, err)
	return n, false, err
}

// repeated compares specs with those that were imported with the key, and returns how
// many those were.
func repeated(ctx context.Context, tx pgx.Tx, specs iter.Seq2[filter.Spec, error], request hash.Hash, key string) (n int64, err error) {
	for s, err := range specs {
		if err != nil {
			return 0, refused{err}
		}
		spec, err := encode(s)
		if err != nil {
			return 0, refused{err}
		}
		request.Write(spec)
	}
	var asked []byte
	err = tx.QueryRow(ctx, `select request, imported from import_keys where key = $1`, key).Scan(&asked, &n)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, fmt.Errorf("%w: the idempotency key has just expired", ErrUnavailable)
	case err == nil && !bytes.Equal(asked, request.Sum(nil)):
		return 0, ErrKeyReused
	}
	return n, err
}

// imported is what became of an import.
func (p *Postgres) imported(ctx context.Context, n int64, err error) (int64, error) {
	if err == nil && n >= analyzeFrom {
		// Until PostgreSQL does so by itself, a minute or more, it would sort the
		// whole table for each page of a list. The import stands without it.
		p.pool.Exec(ctx, `analyze filters`)
	}
	return n, fail("import filters", err)
}

// analyzeFrom is from how many new filters on PostgreSQL's guesses are far off.
const analyzeFrom = 1000

// copier is a pool or a transaction.
type copier interface {
	CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error)
}

// copyFilters copies specs into the table, and their JSON to request.
func copyFilters(ctx context.Context, to copier, specs iter.Seq2[filter.Spec, error], request io.Writer) (int64, error) {
	next, stop := iter.Pull2(specs)
	defer stop()
	var flaw error // PostgreSQL would give it back as an error of its own
	row := func() ([]any, error) {
		s, err, more := next()
		if !more {
			return nil, nil
		}
		var spec []byte
		if err == nil {
			spec, err = encode(s)
		}
		if err != nil {
			flaw = err
			return nil, err
		}
		request.Write(spec) // a hash takes everything
		return []any{uuid.Must(uuid.NewV7()), s.SubscriberID, spec, int64(1)}, nil
	}
	columns := []string{"id", "subscriber_id", "spec", "revision"}
	n, err := to.CopyFrom(ctx, pgx.Identifier{"filters"}, columns, pgx.CopyFromFunc(row))
	if flaw != nil {
		return 0, refused{flaw}
	}
	return n, err
}

// DeleteAll deletes all filters of a subscriber, and returns how many.
func (p *Postgres) DeleteAll(ctx context.Context, subscriber string) (int64, error) {
	tag, err := p.pool.Exec(ctx, `
		update filters
		set deleted_at = now(), revision = revision + 1, updated_at = now(), changed_in = pg_current_xact_id()
		where subscriber_id = $1 and deleted_at is null`, subscriber)
	return tag.RowsAffected(), fail("delete filters of a subscriber", err)
}
