package store

import (
	"context"
	_ "embed"
	"regexp"
)

// schema is what schema.sql at the root of the repository links to.
//
//go:embed schema.sql
var schema string

// creates finds what schema makes.
var creates = regexp.MustCompile(`create (?:table|index) if not exists (\w+)`)

// Migrate makes the tables that are missing. It may run in many processes at
// once, and where nothing is missing it waits for no lock: even to find out
// that an index is there, PostgreSQL would wait for writers of its table.
func (p *Postgres) Migrate(ctx context.Context) error {
	var names []string
	for _, m := range creates.FindAllStringSubmatch(schema, -1) {
		names = append(names, m[1])
	}
	var missing bool
	err := p.pool.QueryRow(ctx, `
		select bool_or(to_regclass(name) is null) from unnest($1::text[]) name`, names).Scan(&missing)
	if err == nil && missing {
		_, err = p.pool.Exec(ctx, schema)
	}
	return fail("apply schema.sql", err)
}
