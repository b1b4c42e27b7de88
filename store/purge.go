package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Purge says which rows are outdated.
type Purge struct {
	Deleted time.Duration // filters deleted so long ago; readers that have not seen the deletion get ErrMarkLost
	Acks    time.Duration // acknowledgements of subscribers silent for so long; 0 to keep them
}

// Purged is the result for one table.
type Purged struct {
	What string // the table
	Rows int64
	Err  error
}

const (
	purgeRows    = 10_000      // deleted by one statement
	purgeTimeout = time.Minute // of one statement
)

// Run deletes outdated rows, and expired idempotency keys and revocations. If one table
// fails, it continues with the others.
func (p Purge) Run(ctx context.Context, db *Postgres) []Purged {
	parts := []struct {
		what string
		age  time.Duration
		some func(context.Context, time.Duration) (int64, error)
	}{
		{"revocations", 0, db.older("revocations", "expires_at")},
		{"idempotency_keys", KeyLife, db.older("idempotency_keys", "created_at")},
		{"import_keys", KeyLife, db.older("import_keys", "created_at")},
		{"filters", p.Deleted, db.purgeFilters},
		{"filter_counts", 0, db.purgeCounts},
		{"acks", p.Acks, db.older("acks", "acked_at")},
	}
	var done []Purged
	for _, part := range parts {
		if part.what == "acks" && p.Acks == 0 {
			continue
		}
		d := Purged{What: part.what}
		for more := true; more && d.Err == nil; {
			c, cancel := context.WithTimeout(ctx, purgeTimeout)
			n, err := part.some(c, part.age)
			cancel()
			d.Rows, d.Err, more = d.Rows+n, fail("purge "+part.what, err), n == purgeRows
		}
		done = append(done, d)
	}
	return done
}

// older returns a function that deletes some rows whose time is at least age ago. It
// skips locked rows: they are being written and so not old, or will be deleted next time.
func (p *Postgres) older(table, column string) func(context.Context, time.Duration) (int64, error) {
	return func(ctx context.Context, age time.Duration) (int64, error) {
		tag, err := p.pool.Exec(ctx, `
			with old as (
				select ctid from `+table+` where `+column+` <= now() - $1::interval limit $2 for update skip locked
			)
			delete from `+table+` t using old where t.ctid = old.ctid`, age, purgeRows)
		return tag.RowsAffected(), err
	}
}

// purgeCounts deletes the counts of subscribers without filters.
func (p *Postgres) purgeCounts(ctx context.Context, _ time.Duration) (int64, error) {
	tag, err := p.pool.Exec(ctx, `
		with none as (select subscriber_id from filter_counts where filters = 0 limit $1 for update skip locked)
		delete from filter_counts c using none where c.subscriber_id = none.subscriber_id`, purgeRows)
	return tag.RowsAffected(), err
}

// purgeFilters removes some of the filters that were deleted longer ago than olderThan.
func (p *Postgres) purgeFilters(ctx context.Context, olderThan time.Duration) (n int64, err error) {
	err = p.pool.QueryRow(ctx, `
		with old as (
			select id from filters where deleted_at <= now() - $1::interval limit $2 for update skip locked
		), gone as (
			delete from filters f using old where f.id = old.id returning f.changed_in
		), told as (
			update filter_changes set purged = newest.changed_in
			from (select changed_in from gone order by changed_in desc limit 1) newest
			where purged < newest.changed_in
		)
		select count(*) from gone`, olderThan, purgeRows).Scan(&n)
	return n, err
}

// Purge removes the filters that were deleted longer ago than olderThan, and returns
// how many. Readers that have not yet seen their deletion get ErrMarkLost. It also
// removes expired idempotency keys and revocations.
func (p *Postgres) Purge(ctx context.Context, olderThan time.Duration) (n int64, err error) {
	for _, d := range (Purge{Deleted: olderThan}).Run(ctx, p) {
		if err = errors.Join(err, d.Err); d.What == "filters" {
			n = d.Rows
		}
	}
	return n, err
}

// TakePurge reports whether a purge is due: once per period for all callers together.
// If so, it is reserved for the caller until EndPurge, or for one period. last is when
// a purge last succeeded; zero if never.
func (p *Postgres) TakePurge(ctx context.Context, every time.Duration) (due bool, last time.Time, err error) {
	var ended *time.Time
	err = p.pool.QueryRow(ctx, `
		with due as (
			update purges set begun_at = now()
			where begun_at is null or begun_at <= now() - $1::interval or begun_at > now() + interval '1 minute'
			returning 1
		)
		select exists (select from due), done_at from purges`, every).Scan(&due, &ended)
	if ended != nil {
		last = *ended
	}
	return due, last, fail("look whether a purge is due", err)
}

// EndPurge records that the purge succeeded; or that it failed, and is due again when
// after has passed instead of every.
func (p *Postgres) EndPurge(ctx context.Context, well bool, every, after time.Duration) error {
	query, args := `update purges set done_at = now()`, []any(nil)
	if !well {
		query, args = `update purges set begun_at = now() - $1::interval`, []any{every - after}
	}
	_, err := p.pool.Exec(ctx, query, args...)
	return fail(fmt.Sprintf("note that a purge ended, well: %t", well), err)
}
