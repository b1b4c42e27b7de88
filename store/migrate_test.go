package store_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"eventstream/internal/testenv"
	"eventstream/store"
)

// migrating returns a store with our migrations and more, from 0002 on, that has not been
// migrated.
func migrating(t *testing.T, dsn string, more ...string) *store.Postgres {
	t.Helper()
	p, err := store.NewPostgres(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	ours, err := fs.ReadFile(os.DirFS("."), "migrations/0001_first.sql")
	if err != nil {
		t.Fatal(err)
	}
	dir := fstest.MapFS{"migrations/0001_first.sql": {Data: ours}}
	for i, sql := range more {
		dir[fmt.Sprintf("migrations/%04d_more.sql", i+2)] = &fstest.MapFile{Data: []byte(sql)}
	}
	if err := p.UseMigrations(dir); err != nil {
		t.Fatal(err)
	}
	return p
}

// states returns how far a schema has come, as text.
func states(t *testing.T, p *store.Postgres) string {
	t.Helper()
	s, err := p.Schema(t.Context())
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, m := range s {
		all = append(all, string(m.State))
	}
	return strings.Join(all, ", ")
}

func wantStates(t *testing.T, p *store.Postgres, want string) {
	t.Helper()
	if got := states(t, p); got != want {
		t.Errorf("migrations are %s; want %s", got, want)
	}
}

func there(t *testing.T, conn *pgx.Conn, name string) (there bool) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), `select to_regclass($1) is not null`, name).Scan(&there); err != nil {
		t.Fatal(err)
	}
	return there
}

// TestMigrateAtOnce has several processes migrate one schema, and others another one in the
// same database: each migration is applied once in each.
func TestMigrateAtOnce(t *testing.T) {
	dsn := testenv.Postgres(t)
	conn := connect(t, dsn)
	more := []string{"create table second (n int)", "create table third (n int); insert into third values (1)"}
	var wg sync.WaitGroup
	var mu sync.Mutex
	applied := map[string]int{}
	var stores []*store.Postgres
	for _, schema := range []string{"one", "two"} {
		if _, err := conn.Exec(t.Context(), "create schema "+schema); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			p := migrating(t, dsn+"&search_path="+schema, more...)
			stores = append(stores, p)
			wg.Go(func() {
				err := p.MigrateEach(t.Context(), func(m store.Migration) {
					mu.Lock()
					defer mu.Unlock()
					applied[schema+" "+m.Name]++
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for _, p := range stores {
		wantStates(t, p, "applied, applied, applied")
	}
	for _, schema := range []string{"one", "two"} {
		for _, m := range []string{"0001_first", "0002_more", "0003_more"} {
			if n := applied[schema+" "+m]; n != 1 {
				t.Errorf("%s was applied %d times in schema %s, want once", m, n, schema)
			}
		}
	}
}

// TestSchemasMigrateAlone: a schema is not held up by another one's migration.
func TestSchemasMigrateAlone(t *testing.T) {
	dsn := testenv.Postgres(t)
	conn := connect(t, dsn)
	for _, sql := range []string{
		`create schema one; create schema two; set search_path = one`,
		`begin; select pg_advisory_xact_lock(hashtextextended('eventstream schema ' || current_schema(), 0))`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	postgres(t, dsn+"&search_path=two")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	wantErr(t, "Migrate while another process does", migrating(t, dsn+"&search_path=one").Migrate(ctx), store.ErrUnavailable)
}

// TestSchemaByPsql applies schema.sql by hand: often, and from several places at once.
func TestSchemaByPsql(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not installed")
	}
	apply := func(dsn string) (string, error) {
		out, err := exec.CommandContext(t.Context(), psql, "-X", "-q", "-f", "../schema.sql", dsn).CombinedOutput()
		return string(out), err
	}
	dsn := testenv.Postgres(t)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 2 {
				// It is to be silent: errors and notices alike are news.
				if out, err := apply(dsn); err != nil || len(out) > 0 {
					t.Errorf("psql -f schema.sql: %v, output %q", err, out)
				}
			}
		})
	}
	wg.Wait()
	create(t, postgres(t, dsn), spec("ada", "purchase"))

	old := testenv.Postgres(t)
	runSQL(t, connect(t, old), "testdata/schema-2026-11.sql")
	if out, err := apply(old); err == nil || !strings.Contains(out, "eventstream migrate") {
		t.Errorf("psql -f schema.sql in an older schema: %v, output %q; want to be told of eventstream migrate", err, out)
	}
}

// TestMigrateWaitsForNobody: a service that starts while filters are written has no part in
// it, also where migrations have yet to be recorded.
func TestMigrateWaitsForNobody(t *testing.T) {
	for _, recorded := range []bool{true, false} {
		dsn := testenv.Postgres(t)
		conn := connect(t, dsn)
		runSQL(t, conn, "testdata/schema-2026-11.sql")
		s, want := migrating(t, dsn), "in place"
		if recorded {
			s, want = postgres(t, dsn), "applied"
		}
		if got := states(t, s); !strings.HasPrefix(got, want) {
			t.Errorf("recorded %t: migrations are %s; want %s", recorded, got, want)
		}
		if _, err := conn.Exec(t.Context(), `begin; lock table filters, filter_changes, acks in row exclusive mode`); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := s.Migrate(ctx); err != nil {
			t.Errorf("recorded %t: Migrate beside a writer = %v", recorded, err)
		}
		if got := states(t, s); !strings.HasPrefix(got, "applied") {
			t.Errorf("recorded %t: migrations are %s after Migrate", recorded, got)
		}
	}
}

// TestMigrateAddsWhatIsMissing: a database of a version that recorded no migrations, and had
// less, gets the rest.
func TestMigrateAddsWhatIsMissing(t *testing.T) {
	dsn := testenv.Postgres(t)
	s, conn := postgres(t, dsn), connect(t, dsn)
	for _, drop := range []string{"table acks", "index filters_deleted", "table filter_changes"} {
		if _, err := conn.Exec(t.Context(), "drop table eventstream_migrations; drop "+drop); err != nil {
			t.Fatal(err)
		}
		if err := s.Migrate(t.Context()); err != nil {
			t.Errorf("Migrate after drop %s = %v", drop, err)
		}
		if _, name, _ := strings.Cut(drop, " "); !there(t, conn, name) {
			t.Errorf("Migrate after drop %s: it is not there", drop)
		}
	}
}

// TestMigrateNewer: a database of a newer version is left as it is, and served.
func TestMigrateNewer(t *testing.T) {
	dsn := testenv.Postgres(t)
	newer := migrating(t, dsn, "alter table filters add column more int", "select 1")
	if err := newer.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	older := migrating(t, dsn)
	if err := older.Migrate(t.Context()); err != nil {
		t.Errorf("Migrate of a newer schema = %v", err)
	}
	wantStates(t, older, "applied, newer, newer")
	create(t, older, spec("ada", "purchase"))
	if r := load(t, older); len(r.all) != 1 {
		t.Errorf("%d filters, want 1", len(r.all))
	}
}

// TestMigrationFails: what failed has left nothing behind, what came before it stays, and it
// goes on from there.
func TestMigrationFails(t *testing.T) {
	dsn := testenv.Postgres(t)
	conn := connect(t, dsn)
	good := "create table second (n int)"
	for _, tt := range []struct{ bad, says string }{
		{"create table third (n int);\n\nselect 1 / 0;", "migration 0003_more: ERROR: division by zero"},
		{"create table third (n int);\n-- é\nselect nonsense from third;", `migration 0003_more, line 3: ERROR: column "nonsense" does not exist`},
		{"create table third (n int); insert into nowhere values (1)", `migration 0003_more, line 1: ERROR: relation "nowhere" does not exist`},
		{"create table third (n int);\ncreate tabel x", `migration 0003_more, line 2: ERROR: syntax error at or near "tabel"`},
	} {
		p := migrating(t, dsn, good, tt.bad, "create table fourth (n int)")
		err := p.Migrate(t.Context())
		failed, ok := errors.AsType[*store.MigrationError](err)
		if !ok || failed.Name != "0003_more" || !strings.Contains(err.Error(), tt.says) || !strings.HasSuffix(err.Error(), "; nothing of it was applied") || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Migrate = %v; want %q", err, tt.says)
		}
		wantStates(t, p, "applied, applied, pending, pending")
		if there(t, conn, "third") || there(t, conn, "fourth") || !there(t, conn, "second") {
			t.Errorf("%s: third is there: %t, fourth: %t, second: %t", tt.says, there(t, conn, "third"), there(t, conn, "fourth"), there(t, conn, "second"))
		}
	}
	mended := migrating(t, dsn, good, "create table third (n int)", "create table fourth (n int)")
	if err := mended.Migrate(t.Context()); err != nil {
		t.Errorf("Migrate after it was mended = %v", err)
	}
	wantStates(t, mended, "applied, applied, applied, applied")
}

// TestMigrationGivesWay: a migration that needs a table in use does not have others wait
// behind it for long. It is done when the table is free.
func TestMigrationGivesWay(t *testing.T) {
	dsn := testenv.Postgres(t)
	postgres(t, dsn)
	conn := connect(t, dsn)
	if _, err := conn.Exec(t.Context(), `begin; select from filters`); err != nil {
		t.Fatal(err)
	}
	p := migrating(t, dsn, "alter table filters add column more int")
	err := p.Migrate(t.Context())
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "0002_more") || !strings.Contains(err.Error(), "lock timeout") {
		t.Errorf("Migrate while a table is read = %v, want ErrUnavailable that names the migration and the lock", err)
	}
	if _, err := conn.Exec(t.Context(), `commit`); err != nil {
		t.Fatal(err)
	}
	if err := p.Migrate(t.Context()); err != nil {
		t.Errorf("Migrate when it is free = %v", err)
	}
}

// TestMigrateWithoutTheRight: a user that may not create anything is told who may. Where
// nothing is to be made it can go on.
func TestMigrateWithoutTheRight(t *testing.T) {
	dsn := testenv.Postgres(t)
	conn := connect(t, dsn)
	role := "reader_" + strings.ToLower(rand.Text()[:16])
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("create role " + role)
	t.Cleanup(func() {
		if _, err := conn.Exec(context.Background(), "drop owned by "+role+"; drop role "+role); err != nil {
			t.Error(err)
		}
	})
	exec("revoke create on schema public from public")
	dsn += "&options=-c%20role%3D" + role
	wantTold := func(what string, err error, says string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), says) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s = %v; want %q", what, err, says)
		}
	}
	wantTold("Migrate of an empty database", migrating(t, dsn).Migrate(t.Context()), "permission denied for schema public (SQLSTATE 42501); run `eventstream migrate` as the user that owns the tables")

	runSQL(t, conn, "testdata/schema-2026-11.sql")
	exec("grant all on all tables in schema public to " + role)
	if err := migrating(t, dsn).Migrate(t.Context()); err != nil {
		t.Errorf("Migrate where only the record is missing = %v", err)
	}
	if err := postgres(t, conn.Config().ConnString()).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := migrating(t, dsn).Schema(t.Context())
	wantTold("Schema without the right to read it", err, "its user needs the right to select from eventstream_migrations")
	exec("grant select on eventstream_migrations to " + role)
	if err := migrating(t, dsn).Migrate(t.Context()); err != nil {
		t.Errorf("Migrate with nothing to do = %v", err)
	}
	exec("grant create on schema public to " + role)
	wantTold("Migrate of another's table", migrating(t, dsn, "alter table acks add column more int").Migrate(t.Context()), "must be owner of table acks (SQLSTATE 42501); run `eventstream migrate`")

	wantTold("Migrate in a schema that is not there", migrating(t, conn.Config().ConnString()+"&search_path=nowhere").Migrate(t.Context()), "create the schema that search_path names")
}
