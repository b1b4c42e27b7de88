package store_test

import (
	"context"
	"net/url"
	"testing"

	"eventstream/internal/testenv"
	"eventstream/store"
)

// TestDumpRestored: a table that is made anew, or emptied, or one in a database that took
// the place of another by its name, is none that a mark is good for, whatever its
// transactions' numbers.
func TestDumpRestored(t *testing.T) {
	dsn := testenv.Postgres(t)
	s, conn := postgres(t, dsn), connect(t, dsn)
	create(t, s, spec("ada", "purchase"))
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	m := load(t, s).mark
	for _, restore := range []struct{ name, sql string }{
		{"emptied and filled", `begin; create temp table old as table filters; truncate filters; insert into filters select * from old; drop table old; commit`},
		{"made anew", `begin; create table anew (like filters including all); insert into anew select * from filters; drop table filters; alter table anew rename to filters; commit`},
		{"in another schema", `begin; create schema old; alter table filters set schema old; create table filters (like old.filters including all);
			insert into filters select * from old.filters; commit`},
	} {
		exec(restore.sql)
		_, err := s.ChangesSince(t.Context(), m, func(store.Change) error { return nil })
		wantErr(t, "ChangesSince with a table that was "+restore.name, err, store.ErrMarkLost)
		m = load(t, s).mark
	}
	if got, _ := changesOf(t, s, m); len(got) != 0 {
		t.Errorf("a look after that found %v", got)
	}

	// A copy takes the place of the database, with all that it holds of identifiers.
	u, _ := url.Parse(dsn)
	name := u.Path[1:]
	u.Path = "/postgres"
	server := connect(t, u.String())
	conn.Close(context.Background())
	for _, sql := range []string{
		`select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '` + name + `'`,
		`create database ` + name + `_b template ` + name,
		`alter database ` + name + ` rename to ` + name + `_a`,
		`alter database ` + name + `_b rename to ` + name,
	} {
		if _, err := server.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { server.Exec(context.Background(), `drop database `+name+`_a with (force)`) })
	_, err := s.ChangesSince(t.Context(), m, func(store.Change) error { return nil })
	wantErr(t, "ChangesSince with another database of the name", err, store.ErrMarkLost)
}

// TestBackupRestored puts a base backup in place, and lets its transactions' numbers catch
// up before anybody looks. A restart that loses nothing costs as much as one that did.
func TestBackupRestored(t *testing.T) {
	server := testenv.PrivatePostgres(t)
	s := postgres(t, server.DSN)
	kept := create(t, s, spec("ada", "kept"))
	restore := server.Backup()
	for range 4 {
		if _, err := s.Update(t.Context(), kept.ID, spec("ada", "lost"), 0); err != nil {
			t.Fatal(err)
		}
	}
	lost := create(t, s, spec("ada", "lost"))
	r := load(t, s)
	server.Kill()
	restore()
	server.Restart()
	for range 40 {
		create(t, s, spec("bob", "new"))
	}
	var m store.Mark
	_, err := s.ChangesSince(t.Context(), r.mark, func(store.Change) error { return nil })
	wantErr(t, "ChangesSince with a backup in place", err, store.ErrMarkLost)
	r = load(t, s)
	if got := r.all[kept.ID]; got.Revision != 1 || got.EventTypes[0] != "kept" {
		t.Errorf("loaded %+v, want revision 1", got)
	}
	if _, ok := r.all[lost.ID]; ok || len(r.all) != 41 {
		t.Errorf("loaded %d filters, the lost one among them: %t; want 41 without", len(r.all), ok)
	}
	if _, m = changesOf(t, s, r.mark); m == r.mark {
		t.Log("nothing happened between two looks") // others may use the server
	}
	server.Stop()
	server.Restart()
	_, err = s.ChangesSince(t.Context(), m, func(store.Change) error { return nil })
	wantErr(t, "ChangesSince after a restart", err, store.ErrMarkLost)
}
