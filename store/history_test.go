package store_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"eventstream/filter"
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

// TestReplicaPromoted: a standby is no place to go on at for who has read the primary. Once
// it is promoted, without what it had not got, it is another history, also for who has
// read it before.
func TestReplicaPromoted(t *testing.T) {
	server := testenv.PrivatePostgres(t)
	s := postgres(t, server.DSN)
	made := create(t, s, spec("ada", "kept"))
	replica := server.Standby()
	r, conn := postgres(t, replica.DSN), connect(t, replica.DSN)
	first := load(t, r).mark
	if _, err := s.Update(t.Context(), made.ID, spec("ada", "kept", "too"), 0); err != nil {
		t.Fatal(err)
	}
	var m store.Mark
	testenv.Eventually(t, time.Minute, func() error { // what follows is read of it, too
		var got map[filter.ID]int64
		if got, m = changesOf(t, r, first); got[made.ID] != 2 {
			return fmt.Errorf("the standby has %v, want revision 2", got)
		}
		return nil
	})
	if print, err := r.Fingerprint(t.Context(), nil); print != nil || err != nil {
		t.Errorf("Fingerprint of a standby = %v, %v; want none", print, err)
	}
	if _, err := conn.Exec(t.Context(), `alter system set primary_conninfo = ''`); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `select pg_reload_conf()`); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func() error {
		var n int
		if err := conn.QueryRow(t.Context(), `select count(*) from pg_stat_wal_receiver`).Scan(&n); err != nil || n > 0 {
			return fmt.Errorf("%d still receive, %v", n, err)
		}
		return nil
	})
	if _, err := s.Update(t.Context(), made.ID, spec("ada", "lost"), 0); err != nil {
		t.Fatal(err)
	}
	primary := load(t, s).mark
	none := func(store.Change) error { return nil }
	_, err := r.ChangesSince(t.Context(), primary, none)
	wantErr(t, "ChangesSince at a standby", err, store.ErrUnavailable)
	server.Kill()
	if _, err := conn.Exec(t.Context(), `select pg_promote()`); err != nil {
		t.Fatal(err)
	}
	for name, mark := range map[string]store.Mark{"the primary's": primary, "the standby's": m} {
		_, err := r.ChangesSince(t.Context(), mark, none)
		wantErr(t, "ChangesSince at the replica promoted, of "+name+" mark", err, store.ErrMarkLost)
	}
	got := load(t, r)
	if f := got.all[made.ID]; f.Revision != 2 {
		t.Errorf("loaded %+v, want revision 2", f)
	}
	if print, err := r.Fingerprint(t.Context(), nil); print == nil || err != nil {
		t.Errorf("Fingerprint of the new primary = %v, %v", print, err)
	}
}
