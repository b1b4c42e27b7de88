package store

import (
	"context"
	"time"
)

// Ahead returns how far the server's clock is ahead of ours, at least; negative if it is
// behind.
func (p *Postgres) Ahead(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	var clock time.Time
	if err := p.pool.QueryRow(ctx, `select clock_timestamp()`).Scan(&clock); err != nil {
		return 0, fail("read PostgreSQL's clock", err)
	}
	// The clock was read at some time during the call: return the smallest
	// possible difference.
	ahead := clock.Sub(began)
	if ahead > 0 {
		ahead = max(ahead-time.Since(began), 0)
	}
	return ahead, nil
}
