package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"eventstream/filter"
	"eventstream/internal/ops"
	"eventstream/internal/trouble"
	"eventstream/store"
)

// schema brings the schema of a service's database up to date or, with --migrate=false,
// waits until another process has done so.
type schema struct {
	store   *store.Postgres
	migrate bool
	log     *slog.Logger
	trouble *trouble.Trouble

	lacks atomic.Pointer[error] // why it is not up to date; stays nil once it was
	newer atomic.Int32          // the highest migration that this version does not know
}

var errNoSchema = errors.New("not looked at yet")

func newSchema(s *store.Postgres, p postgresFlags, log *slog.Logger) *schema {
	c := &schema{store: s, migrate: p.Migrate, log: log, trouble: trouble.New(log, "the schema is not up to date; retrying", "the schema is up to date")}
	c.lacks.Store(&errNoSchema)
	return c
}

// run tries until the schema is up to date, or ctx ends.
func (c *schema) run(ctx context.Context) error {
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := c.ensure(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			c.trouble.Worked()
			return nil
		}
		c.trouble.Failed(err, "in", wait)
		if !pause(ctx, wait) {
			return nil
		}
	}
}

// ensure tries once.
func (c *schema) ensure(ctx context.Context) error {
	err := c.bring(ctx)
	switch {
	case err == nil:
		c.lacks.Store(nil)
	case c.lacks.Load() != nil:
		c.lacks.Store(&err)
	}
	return err
}

func (c *schema) bring(ctx context.Context) error {
	if c.migrate {
		if err := c.store.MigrateEach(ctx, func(m store.Migration) { c.log.Info("migration applied", "migration", m.Name) }); err != nil {
			return err
		}
	}
	s, err := c.store.Schema(ctx)
	if err != nil {
		return err
	}
	if pending := s.Pending(); len(pending) > 0 {
		return fmt.Errorf("migration %s is pending; `eventstream migrate` applies it", pending[0].Name)
	}
	if newer := s.Newer(); len(newer) > 0 {
		if last := newer[len(newer)-1]; c.newer.Swap(int32(last.Number)) != int32(last.Number) {
			c.log.Warn("the schema is of a newer version; going on with what this one knows", "migration", last.Name)
		}
	}
	return nil
}

// check returns for /readyz why the schema is not up to date.
func (c *schema) check(context.Context) error {
	if err := c.lacks.Load(); err != nil {
		return *err
	}
	return nil
}

func (c *schema) ready() ops.Check { return ops.Check{Name: "schema", Do: c.check, Local: true} }

// migrated ensures the schema before filters are loaded: the filter service may start first.
type migrated struct {
	*store.Postgres
	schema *schema
}

func (m migrated) Load(ctx context.Context, each func(filter.Filter) error) (filter.Mark, error) {
	if err := m.schema.ensure(ctx); err != nil {
		return "", err
	}
	return m.Postgres.Load(ctx, each)
}
