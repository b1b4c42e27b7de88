package store_test

import (
	"context"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"eventstream/internal/testenv"
	"eventstream/store"
)

// sql runs statements in the database of dsn.
func sql(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, s := range statements {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// ask returns a number from the database of dsn.
func ask(t *testing.T, dsn, query string) (n int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// fullDisk has the tables refuse what a full disk refuses.
func fullDisk(tables ...string) (statements []string) {
	statements = append(statements, `
		create or replace function refuse_growth() returns trigger language plpgsql as $$
		begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$`)
	for _, table := range tables {
		statements = append(statements, `create trigger full_disk before insert on `+table+` execute function refuse_growth()`)
	}
	return statements
}

// Trials leave one row, and no more room taken up than at first.
func TestTrialsLeaveNothing(t *testing.T) {
	dsn := testenv.Postgres(t)
	p := postgres(t, dsn)
	try := func(n int) {
		t.Helper()
		for range n {
			if err := p.TryWrite(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	try(100)
	if rows := ask(t, dsn, `select count(*) from write_trials`); rows != 1 {
		t.Errorf("%d rows are left, want 1", rows)
	}
	const taken = `select pg_relation_size('write_trials') + pg_relation_size('write_trial_pages')`
	if size := ask(t, dsn, taken); size > 2*8192 {
		t.Errorf("%d bytes are left, want a page or two", size)
	}
	// Who reads everything for hours, as a backup does, holds up nobody.
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `begin isolation level repeatable read; lock table write_trials, write_trial_pages in access share mode; select from write_trials`); err != nil {
		t.Fatal(err)
	}
	try(100)
	if _, err := conn.Exec(t.Context(), `commit`); err != nil {
		t.Fatal(err)
	}
	try(1)
	if size := ask(t, dsn, taken); size > 3*8192 {
		t.Errorf("%d bytes are left after a backup, want a few pages", size)
	}
}

func TestTrialsBesideEachOther(t *testing.T) {
	p := postgres(t, testenv.Postgres(t))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := p.TryWrite(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// What can be read can't always be written.
func TestTrialsFail(t *testing.T) {
	dsn := testenv.Postgres(t)
	p := postgres(t, dsn)
	standby, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	standby.RawQuery = "default_transaction_read_only=on"
	r, err := store.NewPostgres(standby.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	wantErr(t, "TryWrite of a read-only server", r.TryWrite(t.Context()), store.ErrUnavailable)
	if err := r.Ping(t.Context()); err != nil {
		t.Errorf("Ping of a read-only server: %v", err)
	}

	sql(t, dsn, fullDisk("write_trial_pages")...)
	wantErr(t, "TryWrite on a full disk", p.TryWrite(t.Context()), store.ErrUnavailable)
	sql(t, dsn, `drop trigger full_disk on write_trial_pages`)

	// A commit that waits, as one does for a standby that is gone.
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := p.TryWrite(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `begin; select from write_trials for update`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	wantErr(t, "TryWrite that is not answered", p.TryWrite(ctx), store.ErrUnavailable)
	if _, err := conn.Exec(t.Context(), `rollback`); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 30*time.Second, func() error { return p.TryWrite(t.Context()) })
}
