package store

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Migration is one step of the schema, a file in migrations. Steps are numbered from 1
// without gaps, applied in that order, and never undone. A released file must not change.
type Migration struct {
	Number   int
	Name     string // of its file, without .sql
	Checksum string // SHA-256 of its SQL
	State    State
	Applied  time.Time // zero if unknown, or not applied

	sql string
}

// State is a migration's state in a database.
type State string

const (
	Applied State = "applied"
	Pending State = "pending"
	InPlace State = "in place" // applied by a version that recorded no migrations
	Newer   State = "newer"    // applied by a version that knows more migrations
)

// ErrSchema reports a database whose migrations differ from those that this version
// knows by the same numbers.
var ErrSchema = errors.New("the schema has another history")

// Schema is the state of a database's schema: all migrations in order.
type Schema []Migration

// Pending returns the migrations that are still to be applied.
func (s Schema) Pending() []Migration { return s.in(Pending) }

// Newer returns the migrations that this version does not know.
func (s Schema) Newer() []Migration { return s.in(Newer) }

func (s Schema) in(states ...State) []Migration {
	return slices.DeleteFunc(slices.Clone(s), func(m Migration) bool { return !slices.Contains(states, m.State) })
}

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrationName is the form of a file's name.
var migrationName = regexp.MustCompile(`^(\d{4})_[a-z0-9_]+\.sql$`)

// parseMigrations parses the files in dir.
func parseMigrations(dir fs.FS) ([]Migration, error) {
	files, err := fs.Glob(dir, "migrations/*")
	if err != nil {
		return nil, err
	}
	var list []Migration
	for i, file := range files { // sorted by name
		name := path.Base(file)
		m := migrationName.FindStringSubmatch(name)
		if m == nil {
			return nil, fmt.Errorf("migration %s: want a name such as 0002_what_it_does.sql", name)
		}
		if n, _ := strconv.Atoi(m[1]); n != i+1 {
			return nil, fmt.Errorf("migration %s: want number %04d", name, i+1)
		}
		sql, err := fs.ReadFile(dir, file)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(sql)
		list = append(list, Migration{
			Number: i + 1, Name: strings.TrimSuffix(name, ".sql"), Checksum: hex.EncodeToString(sum[:]), State: Pending, sql: string(sql),
		})
	}
	return list, nil
}

// Schema reads the schema's state. The error wraps ErrSchema if its history differs.
func (p *Postgres) Schema(ctx context.Context) (Schema, error) {
	s, err := p.readSchema(ctx, p.pool)
	if forbidden(err) {
		err = fmt.Errorf("%w; its user needs the right to select from eventstream_migrations", err)
	}
	return s, fail("read the schema's migrations", err)
}

// querier is a transaction or a pool of connections.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func (p *Postgres) readSchema(ctx context.Context, q querier) (Schema, error) {
	var recorded bool
	if err := q.QueryRow(ctx, `select to_regclass('eventstream_migrations') is not null`).Scan(&recorded); err != nil {
		return nil, err
	}
	var done []Migration
	if recorded {
		rows, err := q.Query(ctx, `select number, name, checksum, applied_at from eventstream_migrations order by number`)
		if err != nil {
			return nil, err
		}
		done, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Migration, err error) {
			err = row.Scan(&m.Number, &m.Name, &m.Checksum, &m.Applied)
			return m, err
		})
		if err != nil {
			return nil, err
		}
	}
	s, err := compareMigrations(p.migrations, done)
	if err == nil && len(done) == 0 {
		err = p.findBaseline(ctx, q, s)
	}
	return s, err
}

// compareMigrations returns ours, marked as applied or pending, and then those of
// done that are newer.
func compareMigrations(ours, done []Migration) (Schema, error) {
	s := Schema(slices.Clone(ours))
	for i, d := range done {
		if d.Number != i+1 {
			return nil, fmt.Errorf("%w: migration %d is not recorded, and %s is", ErrSchema, i+1, d.Name)
		}
		if i >= len(ours) {
			d.State = Newer
			s = append(s, d)
			continue
		}
		if d.Checksum != ours[i].Checksum {
			return nil, fmt.Errorf("%w: migration %d was %s with checksum %.12s when it was applied, and is %s with %.12s",
				ErrSchema, d.Number, d.Name, d.Checksum, ours[i].Name, ours[i].Checksum)
		}
		s[i].State, s[i].Applied = Applied, d.Applied
	}
	return s, nil
}

// creates finds the tables and indexes that a migration creates.
var creates = regexp.MustCompile(`create (?:table|index) if not exists (\w+)`)

// findBaseline finds out whether everything that the first migration creates exists already.
func (p *Postgres) findBaseline(ctx context.Context, q querier, s Schema) error {
	var names []string
	for _, m := range creates.FindAllStringSubmatch(s[0].sql, -1) {
		names = append(names, m[1])
	}
	var complete bool
	err := q.QueryRow(ctx, `
		select bool_and(to_regclass(name) is not null) from unnest($1::text[]) name`, names).Scan(&complete)
	if err == nil && complete {
		s[0].State = InPlace
	}
	return err
}
