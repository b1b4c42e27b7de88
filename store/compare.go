package store

import (
	"context"
	"fmt"
	"math/big"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"eventstream/filter"
)

// Fingerprint returns the fingerprint of all filters at one moment, or, if holds is not
// nil, of the subscribers for which it returns true. It is nil if the server is a
// standby, which may be behind what its reader knows.
//
// PostgreSQL computes the fingerprint of all filters itself: a million take about a
// second, with little network traffic. It can't call holds: then it sends IDs,
// revisions and subscribers, some 60 bytes for each filter.
func (p *Postgres) Fingerprint(ctx context.Context, holds func(subscriber string) bool) (print *filter.Fingerprint, err error) {
	err = p.snapshot(ctx, func(tx pgx.Tx, at place) error {
		if at.standby {
			return nil
		}
		same, err := sameHash(ctx, tx)
		if err != nil {
			return err
		}
		print = new(filter.Fingerprint)
		if same && holds == nil {
			return sumThere(ctx, tx, print)
		}
		return sumHere(ctx, tx, holds, print)
	})
	if err != nil {
		return nil, fail("compare filters", err)
	}
	return print, nil
}

// sameHash reports whether PostgreSQL hashes a UUID as we do. On a big-endian
// machine it does not.
func sameHash(ctx context.Context, tx pgx.Tx) (same bool, err error) {
	id := uuid.MustParse("01a2092d-00d2-7c8d-adb7-41d088fd9c80")
	err = tx.QueryRow(ctx, `select uuid_hash($1::uuid) = $2::int and uuid_hash_extended($1::uuid, 7) = $3::bigint`,
		id.String(), int32(filter.HashID(id, 0)), int64(filter.HashID(id, 7))).Scan(&same)
	return same, err
}

// sumThere makes PostgreSQL compute a Fingerprint.
func sumThere(ctx context.Context, tx pgx.Tx, print *filter.Fingerprint) error {
	rows, err := tx.Query(ctx, `
		select uuid_hash(id) & $1, sum(uuid_hash_extended(id, revision))::text
		from filters where deleted_at is null group by 1`, filter.Ranges-1)
	if err != nil {
		return err
	}
	var which int32
	var text string
	_, err = pgx.ForEachRow(rows, []any{&which, &text}, func() error {
		sum, ok := new(big.Int).SetString(text, 10)
		if !ok {
			return fmt.Errorf("sum %.40q is no number", text)
		}
		wrap := new(big.Int).Lsh(big.NewInt(1), 64)
		print[which] = sum.Mod(sum, wrap).Uint64() // the sum modulo 2^64, not negative
		return nil
	})
	return err
}

// sumHere computes a Fingerprint from rows that PostgreSQL sends.
func sumHere(ctx context.Context, tx pgx.Tx, holds func(string) bool, print *filter.Fingerprint) error {
	rows, err := tx.Query(ctx, `select id, revision, subscriber_id from filters where deleted_at is null`)
	if err != nil {
		return err
	}
	var id pgtype.UUID
	var revision int64
	var subscriber string
	_, err = pgx.ForEachRow(rows, []any{&id, &revision, &subscriber}, func() error {
		if holds == nil || holds(subscriber) {
			print.Add(id.Bytes, revision)
		}
		return nil
	})
	return err
}

// LoadRanges is ChangesSince followed by Load of the filters in some ranges of a
// Fingerprint, both at the same moment. Its reader's next ChangesSince starts at m again.
func (p *Postgres) LoadRanges(ctx context.Context, m Mark, ranges []int32, changed func(Change) error, each func(filter.Filter) error) error {
	err := p.snapshot(ctx, func(tx pgx.Tx, at place) error {
		seen, err := at.since(m)
		if err != nil {
			return err
		}
		if err := every(ctx, tx, changed, anyFilters+unseen, seen.args()...); err != nil {
			return err
		}
		same, err := sameHash(ctx, tx)
		if err != nil {
			return err
		}
		return every(ctx, tx, func(c Change) error {
			if !slices.Contains(ranges, filter.RangeOf(uuid.MustParse(string(c.ID)))) {
				return nil
			}
			return each(c.Filter)
		}, allFilters+` and (not $1 or uuid_hash(id) & $2 = any($3))`, same, filter.Ranges-1, ranges)
	})
	return fail("load filters that differ", err)
}
