package store_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"eventstream/internal/testenv"
)

// catalog describes everything in a schema of a database, one line for each thing. What
// depends on how it was made, as the numbers of dropped columns do, is left out.
const catalog = `
with here as (select oid from pg_namespace where nspname = current_schema()),
rel as (select c.* from pg_class c, here where c.relnamespace = here.oid),
lines as (
	select format('relation %s kind %s persistence %s options %s comment %s', relname, relkind, relpersistence, reloptions, obj_description(oid, 'pg_class')) line from rel
	union all
	select format('column %s.%s number %s type %s not null %s default %s collation %s storage %s identity %s generated %s comment %s',
		c.relname, a.attname, row_number() over (partition by c.oid order by a.attnum), format_type(a.atttypid, a.atttypmod), a.attnotnull,
		pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation, a.attstorage, a.attidentity, a.attgenerated, col_description(c.oid, a.attnum))
	from rel c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
		left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
	where c.relkind in ('r', 'p', 'v', 'm', 'f')
	union all
	select format('index %s valid %s', pg_get_indexdef(i.indexrelid), i.indisvalid) from pg_index i join rel on rel.oid = i.indrelid
	union all
	select format('constraint %s on %s: %s validated %s comment %s', k.conname, k.conrelid::regclass, pg_get_constraintdef(k.oid), k.convalidated, obj_description(k.oid, 'pg_constraint'))
	from pg_constraint k, here where k.connamespace = here.oid
	union all
	select format('function %s comment %s', pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc')) from pg_proc p, here where p.pronamespace = here.oid and p.prokind <> 'a'
	union all
	select format('trigger %s enabled %s', pg_get_triggerdef(t.oid), t.tgenabled) from pg_trigger t join rel on rel.oid = t.tgrelid where not t.tgisinternal
	union all
	select format('view %s: %s', relname, pg_get_viewdef(oid)) from rel where relkind in ('v', 'm')
	union all
	select format('type %s kind %s labels %s', t.typname, t.typtype, (select array_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid))
	from pg_type t, here where t.typnamespace = here.oid
	union all
	select format('sequence %s', s::text) from pg_sequences s where schemaname = current_schema()
	union all
	select format('table %s rows %s', relname, (xpath('/row/n/text()', query_to_xml(format('select count(*) n from %I', relname), false, true, '')))[1]) from rel where relkind = 'r'
)
select line from lines order by line`

func readCatalog(t *testing.T, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), catalog)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// differences returns what one catalog has and the other has not.
func differences(a, b []string) (all []string) {
	for _, l := range a {
		if !slices.Contains(b, l) {
			all = append(all, "- "+l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			all = append(all, "+ "+l)
		}
	}
	return all
}

// runSQL runs the statements of a file.
func runSQL(t *testing.T, conn *pgx.Conn, file string) {
	t.Helper()
	sql, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), strings.ReplaceAll(string(sql), `\set ON_ERROR_STOP on`, "")) // that is for psql
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// TestSchemaIsAllMigrations: schema.sql, the migrations in an empty database, and those in
// a database from before them make the same.
func TestSchemaIsAllMigrations(t *testing.T) {
	whole := testenv.Postgres(t)
	conn := connect(t, whole)
	runSQL(t, conn, "../schema.sql")
	want := readCatalog(t, conn)

	for _, name := range []string{"an empty database", "testdata/schema-2026-11.sql"} {
		dsn := testenv.Postgres(t)
		conn := connect(t, dsn)
		if strings.HasSuffix(name, ".sql") {
			runSQL(t, conn, name)
		}
		postgres(t, dsn)
		for _, d := range differences(want, readCatalog(t, conn)) {
			t.Errorf("%s, migrated, is not as schema.sql (-) has it: %s", name, d)
		}
	}

	s, err := postgres(t, whole).Schema(t.Context())
	if err != nil || len(s.Pending()) > 0 || s[0].Applied.IsZero() {
		t.Errorf("Schema of schema.sql = %+v, %v; every migration has to be in its list, with its checksum, and a released one must not change", s, err)
	}

	// Each of these shows.
	for _, change := range []string{
		"alter table acks add column more int", "alter table acks alter column next drop not null", "alter table purges alter column one_row set default false",
		"alter table acks alter column gateway type numeric", "alter table acks reset (fillfactor)", "alter table write_trial_pages alter column pad set storage extended",
		"drop index filters_changed", "create index on acks (seat)", "alter table filters drop constraint filters_revision_check",
		"create function f() returns int language sql as 'select 1'", "create type mood as enum ('well')",
		"create trigger t before update on acks for each row execute function suppress_redundant_updates_trigger()",
		"comment on table acks is 'x'", "comment on column acks.seat is 'x'", "delete from purges", "create view v as select 1", "create sequence s",
		"alter table import_keys alter column key type text collate \"POSIX\"",
	} {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), change); err != nil {
			t.Errorf("%s: %v", change, err)
		} else if len(differences(want, readCatalog(t, tx))) == 0 {
			t.Errorf("%s: the comparison does not see it", change)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
