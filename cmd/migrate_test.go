package cmd_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"eventstream/internal/check/cluster"
	"eventstream/internal/testenv"
)

// database returns an environment with an empty database, and a connection to it.
func database(t *testing.T) (p *pipeline, dsn string, conn *pgx.Conn) {
	t.Helper()
	dsn = testenv.Postgres(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return &pipeline{t: t, env: append(os.Environ(), "EVENTSTREAM_POSTGRES="+dsn)}, dsn, conn
}

// newer has the database look as if a newer version had migrated it.
func newer(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	_, err := conn.Exec(t.Context(), `
		insert into eventstream_migrations (number, name, checksum) select max(number) + 1, 'later', 'x' from eventstream_migrations`)
	if err != nil {
		t.Fatal(err)
	}
}

func TestMigrateCommand(t *testing.T) {
	t.Parallel()
	p, dsn, conn := database(t)
	run := func(code int, wantOut, wantErr string, args ...string) {
		t.Helper()
		out, errs := p.output(code, append([]string{"migrate"}, args...)...)
		if !strings.Contains(out, wantOut) || !strings.Contains(errs, wantErr) || wantErr == "" && errs != "" {
			t.Errorf("migrate %v printed %q and %q; want %q and %q", args, out, errs, wantOut, wantErr)
		}
	}
	run(4, "0001_first  pending  -\n", "", "--status")
	run(0, "applied 0001_first\n", "")
	run(0, "the schema is up to date, at 0001_first\n", "")
	run(0, "0001_first  applied  20", "", "--status")

	newer(t, conn)
	run(1, "later       newer    20", "eventstream: the schema is of a newer version, at later, and this one knows 1 migrations", "--status")
	run(1, "", "use the newer version's `eventstream migrate`")
	if _, err := conn.Exec(t.Context(), `update eventstream_migrations set checksum = 'other' where number = 1`); err != nil {
		t.Fatal(err)
	}
	run(1, "", "the schema has another history: migration 1 was 0001_first with checksum other when it was applied")

	run(2, "", "--timeout -1s: want 0 or more", "--timeout", "-1s")
	run(2, "", "PostgreSQL address", "--postgres", "nonsense://")
	away := "postgres://u@" + testenv.Addr(t) + "/db"
	run(1, "", "failed to connect", "--timeout", "0s", "--postgres", away)

	// One that is away is waited for.
	if _, err := conn.Exec(t.Context(), `drop table eventstream_migrations`); err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := cluster.NewProxy(at.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	if err := proxy.Refuse(); err != nil {
		t.Fatal(err)
	}
	at.Host = proxy.Addr()
	early := p.start("migrate", "--timeout", "2m", "--postgres", at.String())
	early.says("can't migrate yet", 30*time.Second)
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	if code := early.wait(60 * time.Second); code != 0 {
		t.Errorf("migrate before PostgreSQL is there: exit code %d", code)
	}
}

// TestServicesWaitForMigrate: with --migrate=false services make no tables. They are not
// ready until eventstream migrate has done it.
func TestServicesWaitForMigrate(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.env = append(p.env, "EVENTSTREAM_MIGRATE=false")
	services := []*process{p.start("api", "--listen", testenv.Addr(t)), p.start("filter", "--listen", testenv.Addr(t))}
	for _, pr := range services {
		pr.addr = pr.args[2]
		testenv.Eventually(t, 60*time.Second, func() error {
			const want = "migration 0001_first is pending; `eventstream migrate` applies it"
			got, err := body("http://" + pr.addr + "/readyz")
			if err != nil || !strings.Contains(got, `"schema":"`+want+`"`) || !strings.Contains(got, `"status":"unavailable"`) {
				return fmt.Errorf("%s: /readyz: %s, %v; want %s", pr.name, got, err, want)
			}
			return nil
		})
	}
	if _, errs := p.output(1, "apikey", "list"); !strings.Contains(errs, "`eventstream migrate`") {
		t.Errorf("apikey list said %q", errs)
	}
	p.output(4, "migrate", "--status")
	p.output(0, "migrate")
	for _, pr := range services {
		pr.ready()
	}
	p.output(0, "apikey", "list")
}

// TestServicesOfAnOlderVersion serve a database that a newer one has migrated, and say so.
func TestServicesOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	db, dsn, conn := database(t)
	db.output(0, "migrate")
	newer(t, conn)
	p.env = append(p.env, "EVENTSTREAM_POSTGRES="+dsn)
	for _, name := range []string{"api", "filter"} {
		p.service(name).says("the schema is of a newer version", 30*time.Second)
	}
}
