package store

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"eventstream/filter"
)

// Limit sets the quota of each subscriber. It must be called before the store is used.
func (p *Postgres) Limit(q filter.Quota) { p.quota = q }

// takeRoom adds the uses in more, one row per subscriber, to the counts. It returns a
// row if the quotas, $8 to $12, allow it. A use that does not grow is always allowed.
const takeRoom = `
	insert into filter_counts as c select * from more m (subscriber_id, filters, n_values, n_tried, n_broad, n_bytes)
	where (m.filters <= $8::bigint or m.filters <= 0) and (m.n_values <= $9::bigint or m.n_values <= 0)
		and (m.n_tried <= $10::bigint or m.n_tried <= 0) and (m.n_broad <= $11::bigint or m.n_broad <= 0)
		and (m.n_bytes <= $12::bigint or m.n_bytes <= 0)
	on conflict (subscriber_id) do update set filters = c.filters + excluded.filters,
		n_values = c.n_values + excluded.n_values, n_tried = c.n_tried + excluded.n_tried,
		n_broad = c.n_broad + excluded.n_broad, n_bytes = c.n_bytes + excluded.n_bytes
	where (c.filters + excluded.filters <= $8 or excluded.filters <= 0)
		and (c.n_values + excluded.n_values <= $9 or excluded.n_values <= 0)
		and (c.n_tried + excluded.n_tried <= $10 or excluded.n_tried <= 0)
		and (c.n_broad + excluded.n_broad <= $11 or excluded.n_broad <= 0)
		and (c.n_bytes + excluded.n_bytes <= $12 or excluded.n_bytes <= 0)
	returning 1`

// giveRoom subtracts the uses of gone, rows of filters, from the counts.
const giveRoom = `
	update filter_counts c set filters = c.filters - g.filters, n_values = c.n_values - g.n_values,
		n_tried = c.n_tried - g.n_tried, n_broad = c.n_broad - g.n_broad, n_bytes = c.n_bytes - g.n_bytes
	from (
		select subscriber_id, count(*) filters, sum(n_values) n_values, sum(n_tried) n_tried, sum(n_broad) n_broad, sum(n_bytes) n_bytes
		from gone where n_bytes is not null group by subscriber_id
	) g where c.subscriber_id = g.subscriber_id`

// args appends parameters $4 to $12 to the first three.
func (p *Postgres) args(first []any, u filter.Use) []any {
	return append(append(first, u.Values, u.Tried, u.Broad, u.Bytes), p.bounds()...)
}

// bounds returns the quotas for SQL, where 0 would not mean unlimited.
func (p *Postgres) bounds() []any {
	bound := func(n int64) int64 {
		if n == 0 {
			return math.MaxInt64
		}
		return n
	}
	q := p.quota
	return []any{bound(q.Filters), bound(q.Values), bound(q.Tried), bound(q.Broad), bound(q.Bytes)}
}

// noRoom reports that a quota prevented a write that would have used more.
type noRoom struct{ more filter.Use }

func (noRoom) Error() string { return "quota is used up" }

// within writes a subscriber's filter. If a quota prevents it, the error names the
// current use. If deletions have made room meanwhile, it tries again.
func (p *Postgres) within(ctx context.Context, subscriber string, write func() (filter.Filter, error)) (filter.Filter, error) {
	for range 3 {
		f, err := write()
		full, ok := errors.AsType[noRoom](err)
		if !ok {
			return f, err
		}
		used, err := p.used(ctx, subscriber)
		if err != nil {
			return filter.Filter{}, err
		}
		if err := p.quota.Check(subscriber, used, full.more); err != nil {
			return filter.Filter{}, err
		}
	}
	return filter.Filter{}, fmt.Errorf("write filter: %w: its subscriber's quota comes and goes", ErrUnavailable)
}

// used returns the use of a subscriber's filters.
func (p *Postgres) used(ctx context.Context, subscriber string) (u filter.Use, err error) {
	err = p.pool.QueryRow(ctx, `
		select filters, n_values, n_tried, n_broad, n_bytes from filter_counts where subscriber_id = $1`, subscriber).
		Scan(&u.Filters, &u.Values, &u.Tried, &u.Broad, &u.Bytes)
	if errors.Is(err, pgx.ErrNoRows) {
		return filter.Use{}, nil
	}
	return u, fail("read quotas", err)
}

// countImported adds the filters that tx has copied to the counts. The error is a
// *filter.QuotaError for the first subscriber over its quota.
func (p *Postgres) countImported(ctx context.Context, tx pgx.Tx) error {
	// PostgreSQL underestimates their number, and would sort them on disk.
	if _, err := tx.Exec(ctx, `set local work_mem = '64MB'`); err != nil {
		return err
	}
	// Sorted, or two imports could deadlock.
	rows, err := tx.Query(ctx, `
		with more as materialized (
			select subscriber_id collate "C" subscriber_id, count(*) filters, sum(n_values) n_values,
				sum(n_tried) n_tried, sum(n_broad) n_broad, sum(n_bytes) n_bytes
			from filters where changed_in = pg_current_xact_id() group by 1 order by 1
		), counted as (
			insert into filter_counts as c select * from more
			on conflict (subscriber_id) do update set filters = c.filters + excluded.filters,
				n_values = c.n_values + excluded.n_values, n_tried = c.n_tried + excluded.n_tried,
				n_broad = c.n_broad + excluded.n_broad, n_bytes = c.n_bytes + excluded.n_bytes
			returning *
		)
		select subscriber_id, c.filters, c.n_values, c.n_tried, c.n_broad, c.n_bytes, m.filters, m.n_values, m.n_tried, m.n_broad, m.n_bytes
		from counted c join more m using (subscriber_id)
		where c.filters > $1 or c.n_values > $2 and m.n_values > 0 or c.n_tried > $3 and m.n_tried > 0
			or c.n_broad > $4 and m.n_broad > 0 or c.n_bytes > $5
		order by subscriber_id limit 1`, p.bounds()...)
	if err != nil {
		return err
	}
	var subscriber string
	var now, more filter.Use
	_, err = pgx.ForEachRow(rows, []any{
		&subscriber, &now.Filters, &now.Values, &now.Tried, &now.Broad, &now.Bytes,
		&more.Filters, &more.Values, &more.Tried, &more.Broad, &more.Bytes,
	}, func() error { return refused{p.quota.Check(subscriber, now.Minus(more), more)} })
	return err
}

// CountOld adds filters that were stored by versions without quotas to the counts, and
// returns how many. Until then quotas ignore them. It may run in many processes at once.
func (p *Postgres) CountOld(ctx context.Context) (n int64, err error) {
	for {
		more, err := p.countSome(ctx)
		if n += more; more == 0 || err != nil {
			return n, fail("count old filters", err)
		}
	}
}

const countAtOnce = 1000

func (p *Postgres) countSome(ctx context.Context) (n int64, err error) {
	err = pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			select id, spec from filters where n_bytes is null and deleted_at is null
			order by id limit $1 for update skip locked`, countAtOnce)
		if err != nil {
			return err
		}
		var ids []uuid.UUID
		var use [4][]int64
		var id uuid.UUID
		var spec []byte
		_, err = pgx.ForEachRow(rows, []any{&id, &spec}, func() error {
			u := filter.Use{Filters: 1, Bytes: int64(len(spec))}
			// A newer version's filter can't be decoded here: only its bytes are counted.
			if s, err := decode(filter.ID(id.String()), spec); err == nil {
				again, err := encode(s)
				if err != nil {
					again = spec // was valid by older rules
				}
				u = s.Use(len(again))
			}
			ids = append(ids, id)
			for i, v := range []int64{u.Values, u.Tried, u.Broad, u.Bytes} {
				use[i] = append(use[i], v)
			}
			return nil
		})
		if err != nil {
			return err
		}
		// changed_in stays: readers need not look at these filters again.
		tag, err := tx.Exec(ctx, `
			with counted as (
				update filters f set n_values = u.v, n_tried = u.t, n_broad = u.b, n_bytes = u.n
				from unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::int[]) u (id, v, t, b, n)
				where f.id = u.id returning f.*
			), total as (
				insert into filter_counts as c
				select subscriber_id, count(*), sum(n_values), sum(n_tried), sum(n_broad), sum(n_bytes)
				from counted group by subscriber_id order by subscriber_id collate "C"
				on conflict (subscriber_id) do update set filters = c.filters + excluded.filters,
					n_values = c.n_values + excluded.n_values, n_tried = c.n_tried + excluded.n_tried,
					n_broad = c.n_broad + excluded.n_broad, n_bytes = c.n_bytes + excluded.n_bytes
			)
			select from counted`, ids, use[0], use[1], use[2], use[3])
		n = tag.RowsAffected()
		return err
	})
	return n, err
}
