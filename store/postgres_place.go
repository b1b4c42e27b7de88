package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// place is where a reading transaction stands: in which history, and at
// which snapshot of it.
type place struct {
	history string // see whichHistory
	standby bool   // it replicates another server, and may be behind
	purged  uint64 // the latest transaction that changed a purged row
	sees    snapshot
}

// whichHistory identifies the server's history of changes. A Mark of one history is
// meaningless in another: there, filters may have lower revisions, or be undeleted.
//
// A backup restored into the data folder keeps all of PostgreSQL's identifiers, and its
// transaction numbers catch up in time. But it takes a restart, and a failover means
// another server, or the end of its recovery. A dump is restored without a restart, but
// recreates or empties the table, or uses another database. Changes that these signs
// don't show (rows written by hand) are found by comparing fingerprints.
const whichHistory = `
	select concat_ws('/', case when pg_is_in_recovery() then 'standby' else 'primary' end,
		extract(epoch from pg_postmaster_start_time()),
		(select oid from pg_database where datname = current_database()),
		to_regclass('filters')::oid, pg_relation_filenode(to_regclass('filters')), database),
		pg_is_in_recovery(), purged, pg_current_snapshot()::text
	from filter_changes`

// snapshot is a pg_snapshot: it sees all transactions before max except those in running.
//
// Transactions commit in another order than they get their numbers: when the change of
// 7 is visible, that of 5 may still be to come. So a reader continues with the running
// transactions, and all from max on. Continuing from the oldest running one would be
// right, too. But one transaction that stays open, in any database of the server, would
// make each look read all changes since then again.
type snapshot struct {
	max     uint64
	running []uint64
}

// parseSnapshot parses a pg_snapshot, xmin:xmax:xip,xip.
func parseSnapshot(text string) (s snapshot, min uint64, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, 0, fmt.Errorf("snapshot %.40q has not three parts", text)
	}
	if min, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return s, 0, err
	}
	if s.max, err = strconv.ParseUint(parts[1], 10, 64); err != nil || parts[2] == "" {
		return s, min, err
	}
	for x := range strings.SplitSeq(parts[2], ",") {
		xid, err := strconv.ParseUint(x, 10, 64)
		if err != nil {
			return s, min, err
		}
		s.running = append(s.running, xid)
	}
	return s, min, nil
}

func (s snapshot) String() string {
	return "0:" + strconv.FormatUint(s.max, 10) + ":" + strings.Join(s.runningText(), ",")
}

func (s snapshot) runningText() []string {
	out := make([]string, len(s.running)) // not nil, which would be null in SQL
	for i, x := range s.running {
		out[i] = strconv.FormatUint(x, 10)
	}
	return out
}

// unseen is true for rows that a snapshot, whose args are $1 and $2, does not see.
const unseen = `(changed_in >= $1 or changed_in = any($2::text[]::xid8[]))`

func (s snapshot) args() []any { return []any{s.max, s.runningText()} }

func (at place) mark() Mark { return Mark(at.history + " " + at.sees.String()) }

var errStandby = fmt.Errorf("%w: the server is a standby, which may be behind what was read before; waiting until it is the primary", ErrUnavailable)

// since returns the snapshot of m. The error is ErrMarkLost if the reader must start anew.
func (at place) since(m Mark) (snapshot, error) {
	if m == "" {
		return snapshot{}, nil
	}
	history, text, _ := strings.Cut(string(m), " ")
	seen, _, err := parseSnapshot(text)
	switch {
	case at.standby && strings.HasPrefix(history, "primary"): // a failover is under way
		return snapshot{}, errStandby
	case err != nil || history != at.history || seen.max > at.sees.max || seen.max <= at.purged:
		return snapshot{}, ErrMarkLost
	}
	for _, x := range seen.running {
		// If it has ended meanwhile, it may have deleted filters that are purged already.
		if x <= at.purged && !slices.Contains(at.sees.running, x) {
			return snapshot{}, ErrMarkLost
		}
	}
	return seen, nil
}

// snapshot calls f in a transaction that sees the database at one place.
func (p *Postgres) snapshot(ctx context.Context, f func(pgx.Tx, place) error) error {
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, p.pool, opts, func(tx pgx.Tx) error {
		var at place
		var text string
		err := tx.QueryRow(ctx, whichHistory).Scan(&at.history, &at.standby, &at.purged, &text)
		if err != nil {
			return err
		}
		var min uint64
		if at.sees, min, err = parseSnapshot(text); err != nil {
			return err
		}
		if at.standby { // a standby does not list running transactions
			at.sees = snapshot{max: min}
		}
		return f(tx, at)
	})
}
