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

// CreateOnce is Create, unless a filter was created with the same key within KeyLife:
// then it returns that one as it was created, and true. The error is ErrKeyReused if
// that filter's Spec was not s.
func (p *Postgres) CreateOnce(ctx context.Context, s filter.Spec, key string) (f filter.Filter, again bool, err error) {
	spec, err := encode(s)
	if err != nil {
		return filter.Filter{}, false, err
	}
	request := sha256.Sum256(spec)
	use := s.Use(len(spec))
	// Of two concurrent calls, the second waits until the first has committed. If the
	// key is gone when it is looked up, it has just expired.
	for range 3 {
		f, err = p.within(ctx, s.SubscriberID, func() (f filter.Filter, err error) {
			err = pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
				args := p.args([]any{string(newID()), s.SubscriberID, string(spec)}, use)
				if f, err = p.createFresh(ctx, tx, append(args, key, request[:], KeyLife)); errors.Is(err, errFull) {
					return noRoom{use}
				}
				return err
			})
			return f, err
		})
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

var errFull = errors.New("no room")

// createFresh creates a filter and its key. The error is pgx.ErrNoRows if the key is
// known, and errFull if the quota is used up: then tx must be rolled back.
func (p *Postgres) createFresh(ctx context.Context, tx pgx.Tx, args []any) (filter.Filter, error) {
	var id *string
	var revision *int64
	var spec []byte
	err := tx.QueryRow(ctx, `
		with fresh as (
			insert into idempotency_keys as k (key, request, filter_id) values ($13, $14, $1)
			on conflict (key) do update
			set request = excluded.request, filter_id = excluded.filter_id, created_at = now()
			where k.created_at <= now() - $15::interval
			returning filter_id
		), more as (select $2::text, 1, $4::int, $5::int, $6::int, $7::int from fresh), room as (`+takeRoom+`),
		made as (
			insert into filters (id, subscriber_id, spec, revision, n_values, n_tried, n_broad, n_bytes)
			select filter_id, $2, $3, 1, $4, $5, $6, $7 from fresh, room
			returning id, revision, spec
		)
		select id::text, revision, spec from fresh left join made on true`, args...).Scan(&id, &revision, &spec)
	if err == nil && id == nil {
		err = errFull
	}
	if err != nil {
		return filter.Filter{}, err
	}
	s, err := decode(filter.ID(*id), spec)
	return filter.Filter{ID: filter.ID(*id), Revision: *revision, Spec: s}, err
}

// Import creates a filter for each Spec, all of them or none, and returns how many. It
// holds only a few at a time. An error of specs ends it. A *filter.QuotaError is
// returned after all are read.
func (p *Postgres) Import(ctx context.Context, specs iter.Seq2[filter.Spec, error]) (n int64, err error) {
	err = pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		n, err = p.copyFilters(ctx, tx, specs, io.Discard)
		return err
	})
	return p.imported(ctx, n, err)
}

// ImportOnce is Import, unless there was an import with the same key within KeyLife:
// then it returns how many filters that one created, and true. The error is
// ErrKeyReused if it imported other filters.
func (p *Postgres) ImportOnce(ctx context.Context, specs iter.Seq2[filter.Spec, error], key string) (n int64, again bool, err error) {
	err = pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		// Of two concurrent imports, the second waits here until the first has ended.
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
		if n, err = p.copyFilters(ctx, tx, specs, request); err != nil {
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

// repeated compares specs with those imported with the key, and returns their number.
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

// imported returns the result of an import.
func (p *Postgres) imported(ctx context.Context, n int64, err error) (int64, error) {
	if err == nil && n >= analyzeFrom {
		// PostgreSQL does this by itself only after a minute or more. Until then it would
		// sort the whole table for each page of a list. An error does not fail the import.
		p.pool.Exec(ctx, `analyze filters`)
	}
	return n, fail("import filters", err)
}

// analyzeFrom is how many new filters make PostgreSQL's statistics too wrong.
const analyzeFrom = 1000

// copyFilters copies specs into the table, counts them, and copies their JSON to request.
func (p *Postgres) copyFilters(ctx context.Context, tx pgx.Tx, specs iter.Seq2[filter.Spec, error], request io.Writer) (int64, error) {
	next, stop := iter.Pull2(specs)
	defer stop()
	var flaw error // kept here, since CopyFrom would return it as PostgreSQL's error
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
		request.Write(spec) // a hash returns no error
		u := s.Use(len(spec))
		return []any{uuid.Must(uuid.NewV7()), s.SubscriberID, spec, int64(1), u.Values, u.Tried, u.Broad, u.Bytes}, nil
	}
	columns := []string{"id", "subscriber_id", "spec", "revision", "n_values", "n_tried", "n_broad", "n_bytes"}
	n, err := tx.CopyFrom(ctx, pgx.Identifier{"filters"}, columns, pgx.CopyFromFunc(row))
	if flaw != nil {
		return 0, refused{flaw}
	}
	if err != nil {
		return 0, err
	}
	return n, p.countImported(ctx, tx)
}

// DeleteAll deletes all filters of a subscriber, and returns how many.
func (p *Postgres) DeleteAll(ctx context.Context, subscriber string) (int64, error) {
	tag, err := p.pool.Exec(ctx, `
		with gone as (
			update filters
			set deleted_at = now(), revision = revision + 1, updated_at = now(), changed_in = pg_current_xact_id()
			where subscriber_id = $1 and deleted_at is null
			returning subscriber_id, n_values, n_tried, n_broad, n_bytes
		), freed as (`+giveRoom+`)
		select from gone`, subscriber)
	return tag.RowsAffected(), fail("delete filters of a subscriber", err)
}
