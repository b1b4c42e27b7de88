package store

import (
	"context"
	_ "embed"
)

// schema is what schema.sql at the root of the repository links to.
//
//go:embed schema.sql
var schema string

// Migrate makes the tables that are missing. It may run in many processes at once.
func (p *Postgres) Migrate(ctx context.Context) error {
	_, err := p.pool.Exec(ctx, schema)
	return fail("apply schema.sql", err)
}
