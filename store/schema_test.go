package store

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// migrations returns a folder of migrations with the given names.
func migrations(names ...string) fstest.MapFS {
	dir := fstest.MapFS{}
	for _, n := range names {
		dir["migrations/"+n] = &fstest.MapFile{Data: []byte("select '" + n + "'")}
	}
	return dir
}

func TestParseMigrations(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  string // of the error
	}{
		{[]string{"0001_first.sql", "0002_second_one.sql"}, ""},
		{[]string{"0001_first.sql", "0003_third.sql"}, "0003_third.sql: want number 0002"},
		{[]string{"0000_none.sql"}, "want number 0001"},
		{[]string{"0001_a.sql", "0001_b.sql"}, "0001_b.sql: want number 0002"},
		{[]string{"first.sql"}, "first.sql: want a name such as"},
		{[]string{"0001_first.sql", "README.md"}, "README.md: want a name such as"},
	} {
		list, err := parseMigrations(migrations(tt.names...))
		if tt.want == "" {
			if err != nil || len(list) != len(tt.names) || list[1].Name != "0002_second_one" || len(list[0].Checksum) != 64 || list[0].Checksum == list[1].Checksum {
				t.Errorf("%v: %+v, %v", tt.names, list, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: error %v, want %q", tt.names, err, tt.want)
		}
	}
}

// TestMigrationsAreOneTransaction: none has a statement that ends its transaction, or
// that can't be in one.
func TestMigrationsAreOneTransaction(t *testing.T) {
	list, err := parseMigrations(migrationFiles)
	if err != nil || len(list) == 0 {
		t.Fatalf("%d migrations, %v", len(list), err)
	}
	refused := regexp.MustCompile(`(?im)^\s*(begin|start transaction|commit|rollback|abort)\s*;|\bconcurrently\b`)
	for _, m := range list {
		if found := refused.FindString(m.sql); found != "" {
			t.Errorf("%s has %q", m.Name, found)
		}
	}
}

func TestCompareMigrations(t *testing.T) {
	ours, err := parseMigrations(migrations("0001_a.sql", "0002_b.sql"))
	if err != nil {
		t.Fatal(err)
	}
	a, b := ours[0], ours[1]
	a.Applied, b.Applied = time.Unix(1, 0), time.Unix(2, 0)
	other := b
	other.Checksum = a.Checksum
	c := Migration{Number: 3, Name: "0003_c", Applied: time.Unix(3, 0)}
	for _, tt := range []struct {
		done []Migration
		want string
	}{
		{nil, "0001_a pending, 0002_b pending"},
		{[]Migration{a}, "0001_a applied, 0002_b pending"},
		{[]Migration{a, b}, "0001_a applied, 0002_b applied"},
		{[]Migration{a, b, c}, "0001_a applied, 0002_b applied, 0003_c newer"},
		{[]Migration{a, c}, "the schema has another history: migration 2 is not recorded, and 0003_c is"},
		{[]Migration{b}, "the schema has another history: migration 1 is not recorded, and 0002_b is"},
		{[]Migration{a, other}, "the schema has another history: migration 2 was 0002_b with checksum " + a.Checksum[:12] +
			" when it was applied, and is 0002_b with " + b.Checksum[:12]},
	} {
		s, err := compareMigrations(ours, tt.done)
		var states []string
		for _, m := range s {
			if (m.State == Pending) != m.Applied.IsZero() {
				t.Errorf("%s is %s, applied at %v", m.Name, m.State, m.Applied)
			}
			states = append(states, fmt.Sprint(m.Name, " ", m.State))
		}
		got := strings.Join(states, ", ")
		if err != nil {
			got = err.Error()
		}
		if got != tt.want || err != nil && !errors.Is(err, ErrSchema) {
			t.Errorf("%v:\ngot  %s\nwant %s", tt.done, got, tt.want)
		}
	}
}
