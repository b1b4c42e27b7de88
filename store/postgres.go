package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"eventstream/filter"
)

// connectTimeout is for one attempt, unless the DSN sets connect_timeout.
const connectTimeout = 3 * time.Second

// Postgres keeps filters, acknowledgements, API keys and revocations in PostgreSQL.
//
// IDs are passed to pgx as plain strings: for a named string type pgx first fails and
// allocates an error, then tries the underlying type. JSON is passed as a string too: where
// pgx does not know the parameters' types, as in its simple protocol, bytes are a bytea.
type Postgres struct {
	pool       *breaker
	quota      filter.Quota
	migrations []Migration
}

// NewPostgres returns a store for a connection string or URL, which may set
// pool_max_conns. It connects on first use.
func NewPostgres(dsn string) (*Postgres, error) {
	migrations, err := parseMigrations(migrationFiles)
	if err != nil {
		return nil, err
	}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL address: %w", err)
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = connectTimeout
	}
	// Prepared statements belong to a server connection, and PgBouncer in
	// transaction mode may use another one for the next call. Cached descriptions
	// are valid on all connections.
	if !strings.Contains(dsn, "default_query_exec_mode") {
		cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	// Filters are written rarely, so a ping for each write costs less than one failed
	// write for each pooled connection after a restart of PostgreSQL.
	cfg.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true }
	cfg.PingTimeout = cmp.Or(cfg.PingTimeout, pingTimeout)
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL pool: %w", err)
	}
	return &Postgres{pool: newBreaker(pool), migrations: migrations}, nil
}

// Close waits for the calls under way and closes the connections.
func (p *Postgres) Close() { p.pool.Close() }

// Ping reports whether filters and acknowledgements can be read. TryWrite is for writing.
func (p *Postgres) Ping(ctx context.Context) error {
	_, err := p.pool.Exec(ctx, `select from filters, acks limit 0`)
	return fail("ping PostgreSQL", err)
}

// Create stores a new filter. The error may be a *filter.Invalid or a
// *filter.QuotaError.
func (p *Postgres) Create(ctx context.Context, s filter.Spec) (filter.Filter, error) {
	spec, err := encode(s)
	if err != nil {
		return filter.Filter{}, err
	}
	use := s.Use(len(spec))
	return p.within(ctx, s.SubscriberID, func() (filter.Filter, error) {
		f, err := scan(p.pool.QueryRow(ctx, `
			with more as (select $2::text, 1, $4::int, $5::int, $6::int, $7::int), room as (`+takeRoom+`)
			insert into filters (id, subscriber_id, spec, revision, n_values, n_tried, n_broad, n_bytes)
			select $1, $2, $3, 1, $4, $5, $6, $7 from room
			returning id, revision, spec`, p.args([]any{string(newID()), s.SubscriberID, string(spec)}, use)...))
		if errors.Is(err, pgx.ErrNoRows) {
			return filter.Filter{}, noRoom{use}
		}
		return f, fail("create filter", err)
	})
}

// Get returns a filter, or ErrNotFound.
func (p *Postgres) Get(ctx context.Context, id filter.ID) (filter.Filter, error) {
	id, err := canonical(id)
	if err != nil {
		return filter.Filter{}, err
	}
	f, err := scan(p.pool.QueryRow(ctx, `
		select id, revision, spec from filters where id = $1 and deleted_at is null`, string(id)))
	if errors.Is(err, pgx.ErrNoRows) {
		return filter.Filter{}, ErrNotFound
	}
	return f, fail("read filter", err)
}

// List returns at most limit filters after the given ID, sorted by ID: a subscriber's,
// or all if subscriber is "".
func (p *Postgres) List(ctx context.Context, subscriber string, after filter.ID, limit int) ([]filter.Filter, error) {
	if after == "" {
		after = "00000000-0000-0000-0000-000000000000"
	}
	after, err := canonical(after)
	if err != nil {
		return nil, err
	}
	query, args := `
		select id, revision, spec from filters
		where deleted_at is null and id > $1 order by id limit $2`, []any{string(after), limit}
	if subscriber != "" {
		query, args = `
		select id, revision, spec from filters
		where deleted_at is null and id > $1 and subscriber_id = $3 order by id limit $2`, append(args, subscriber)
	}
	rows, err := p.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, fail("list filters", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (filter.Filter, error) { return scan(row) })
	return list, fail("list filters", err)
}

// Update replaces a filter's Spec, if ifRevision is its revision or 0. Otherwise the
// error is ErrNotFound, ErrSubscriber, ErrConflict, a *filter.Invalid or a
// *filter.QuotaError.
func (p *Postgres) Update(ctx context.Context, id filter.ID, s filter.Spec, ifRevision int64) (filter.Filter, error) {
	id, err := canonical(id)
	if err != nil {
		return filter.Filter{}, err
	}
	spec, err := encode(s)
	if err != nil {
		return filter.Filter{}, err
	}
	use := s.Use(len(spec))
	return p.within(ctx, s.SubscriberID, func() (filter.Filter, error) {
		f, err := scan(p.pool.QueryRow(ctx, `
			with old as (
				select * from filters
				where id = $1 and subscriber_id = $2 and deleted_at is null and ($13::bigint = 0 or revision = $13)
				for update
			), more as (
				select subscriber_id, case when n_bytes is null then 1 else 0 end, $4::int - coalesce(n_values, 0),
					$5::int - coalesce(n_tried, 0), $6::int - coalesce(n_broad, 0), $7::int - coalesce(n_bytes, 0) from old
			), room as (`+takeRoom+`)
			update filters f
			set spec = $3, revision = f.revision + 1, updated_at = now(), changed_in = pg_current_xact_id(),
				n_values = $4, n_tried = $5, n_broad = $6, n_bytes = $7
			from old, room where f.id = old.id
			returning f.id, f.revision, f.spec`, append(p.args([]any{string(id), s.SubscriberID, string(spec)}, use), ifRevision)...))
		if errors.Is(err, pgx.ErrNoRows) {
			return filter.Filter{}, p.refusedUpdate(ctx, id, s.SubscriberID, ifRevision, use)
		}
		return f, fail("update filter", err)
	})
}

// Delete deletes a filter, if ifRevision is its revision or 0, and returns it with the
// revision of the deletion. Otherwise the error is ErrNotFound or ErrConflict.
func (p *Postgres) Delete(ctx context.Context, id filter.ID, ifRevision int64) (filter.Filter, error) {
	id, err := canonical(id)
	if err != nil {
		return filter.Filter{}, err
	}
	f, err := scan(p.pool.QueryRow(ctx, `
		with gone as (
			update filters
			set deleted_at = now(), revision = revision + 1, updated_at = now(), changed_in = pg_current_xact_id()
			where id = $1 and deleted_at is null and ($2::bigint = 0 or revision = $2)
			returning *
		), freed as (`+giveRoom+`)
		select id, revision, spec from gone`, string(id), ifRevision))
	if errors.Is(err, pgx.ErrNoRows) {
		return filter.Filter{}, p.refusal(ctx, id)
	}
	return f, fail("delete filter", err)
}

// refusal returns why a deletion found no row. Filters keep their subscriber and are
// never undeleted, so it may look afterwards.
func (p *Postgres) refusal(ctx context.Context, id filter.ID) error {
	if _, err := p.Get(ctx, id); err != nil {
		return err
	}
	return ErrConflict
}

// refusedUpdate returns why an update to a filter of this use changed no row.
func (p *Postgres) refusedUpdate(ctx context.Context, id filter.ID, subscriber string, ifRevision int64, use filter.Use) error {
	f, err := p.Get(ctx, id)
	switch {
	case err != nil:
		return err
	case f.SubscriberID != subscriber:
		return ErrSubscriber
	case ifRevision != 0 && ifRevision != f.Revision:
		return ErrConflict
	}
	old, err := encode(f.Spec)
	if err != nil {
		return err
	}
	return noRoom{use.Minus(f.Use(len(old)))}
}

// Estimate returns the approximate number of filters from PostgreSQL's statistics: 0 if
// there are none yet, or no schema.
func (p *Postgres) Estimate(ctx context.Context) (int, error) {
	var n int
	err := p.pool.QueryRow(ctx, `
		select coalesce(max(greatest(reltuples::bigint, pg_stat_get_live_tuples(oid), 0)), 0)
		from pg_class where oid = to_regclass('filters')`).Scan(&n)
	if err != nil {
		return 0, fail("estimate the number of filters", err)
	}
	return n, nil
}

// Load passes every filter to each, all as of one moment, and returns the Mark at which
// ChangesSince continues. An error of each ends it.
func (p *Postgres) Load(ctx context.Context, each func(filter.Filter) error) (Mark, error) {
	var m Mark
	err := p.snapshot(ctx, func(tx pgx.Tx, at place) error {
		m = at.mark()
		return every(ctx, tx, func(c Change) error { return each(c.Filter) }, allFilters)
	})
	if err != nil {
		return "", fail("load filters", err)
	}
	return m, nil
}

// ChangesSince passes to each every filter that was changed or deleted after m, at
// least once and in no order, and returns the next Mark. The error is ErrMarkLost if
// deletions after m have been purged, or if m may have been made in another database:
// see whichHistory. An error of each ends it.
func (p *Postgres) ChangesSince(ctx context.Context, m Mark, each func(Change) error) (Mark, error) {
	next := m
	err := p.snapshot(ctx, func(tx pgx.Tx, at place) error {
		seen, err := at.since(m)
		if err != nil {
			return err
		}
		next = at.mark()
		return every(ctx, tx, each, anyFilters+unseen, seen.args()...)
	})
	if err != nil {
		return m, fail("read changed filters", err)
	}
	return next, nil
}

func encode(s filter.Spec) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// scan scans id, revision and spec.
func scan(row pgx.Row) (filter.Filter, error) {
	var f filter.Filter
	var spec []byte
	err := row.Scan(&f.ID, &f.Revision, &spec)
	if err == nil {
		f.Spec, err = decode(f.ID, spec)
	}
	if err != nil {
		return filter.Filter{}, err
	}
	return f, nil
}
