package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Purge is what is no longer needed after a time.
type Purge struct {
	Deleted time.Duration // filters that were deleted so long ago; readers that have not seen that get ErrMarkLost
	Acks    time.Duration // acknowledgements of subscribers who are silent for so long; 0 to keep them
}

// Purged is what became of a part of a Purge.
type Purged struct {
	What string // the table
	Rows int64
	Err  error
}

const (
	purgeRows    = 10_000      // deleted by one statement
	purgeTimeout = time.Minute // for it
)

// Run deletes what p names, and the idempotency keys and revocations that have expired.
// What fails of it does not keep the rest from being done.
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

// older deletes some rows of a table in which a time is at least so long ago. It waits for
// nobody: what somebody is writing is not old, or there is a next time.
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

// purgeCounts forgets the counts of subscribers who have no filter.
func (p *Postgres) purgeCounts(ctx context.Context, _ time.Duration) (int64, error) {
	tag, err := p.pool.Exec(ctx, `
		with none as (select subscriber_id from filter_counts where filters = 0 limit $1 for update skip locked)
		delete from filter_counts c using none where c.subscriber_id = none.subscriber_id`, purgeRows)
	return tag.RowsAffected(), err
}

// purgeFilters forgets some of the filters that were deleted longer ago than olderThan.
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

// Purge forgets the filters that were deleted longer ago than olderThan, and returns how
// many. Readers that have not yet seen their deletion get ErrMarkLost. It also forgets
// idempotency keys and revocations that have expired.
func (p *Postgres) Purge(ctx context.Context, olderThan time.Duration) (n int64, err error) {
	for _, d := range (Purge{Deleted: olderThan}).Run(ctx, p) {
		if err = errors.Join(err, d.Err); d.What == "filters" {
			n = d.Rows
		}
	}
	return n, err
}

// TakePurge reports whether a purge is due, which is so once every so often for all who
// ask: then it is the caller's, until EndPurge or for that time. last is when one last
// ended well, zero if none did.
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

// EndPurge says that the purge has ended well; or that it failed, and is due again when
// after has passed of the time between two.
func (p *Postgres) EndPurge(ctx context.Context, well bool, every, after time.Duration) error {
	query, args := `update purges set done_at = now()`, []any(nil)
	if !well {
		query, args = `update purges set begun_at = now() - $1::interval`, []any{every - after}
	}
	_, err := p.pool.Exec(ctx, query, args...)
	return fail(fmt.Sprintf("note that a purge ended, well: %t", well), err)
}
