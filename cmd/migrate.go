package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"eventstream/store"
)

// errPending reports that migrations are pending. It has been printed.
var errPending = errors.New("migrations are pending")

func (a *app) migrateCommand() (*cobra.Command, error) {
	var postgres postgresFlags
	if err := a.fromEnv(&postgres); err != nil {
		return nil, err
	}
	status, timeout := false, time.Minute
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the schema in PostgreSQL up to date",
		Long: "Applies the migrations of the schema that are pending, each in a transaction of its own,\n" +
			"and exits. Services do so at their start unless they have --migrate=false. It may run while\n" +
			"they do, and several times at once. With --status it changes nothing, and prints what is\n" +
			"applied and what is pending.\n\n" +
			"Exit codes: 0 all are applied, 1 failed, also if the schema is of a newer version, 2 wrong\n" +
			"usage, 4 with --status only: some are pending.",
		Example: "  eventstream migrate --postgres postgres://owner:secret@db/eventstream\n  eventstream migrate --status",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if timeout < 0 {
				return usageError{fmt.Errorf("--timeout %v: want 0 or more", timeout)}
			}
			s, err := postgres.open()
			if err != nil {
				return err
			}
			defer s.Close()
			do := func(ctx context.Context) error { return migrateNow(ctx, s, c.OutOrStdout()) }
			if status {
				do = func(ctx context.Context) error { return migrationStatus(ctx, s, c.OutOrStdout()) }
			}
			return a.patiently(c.Context(), timeout, do)
		},
	}
	postgres.addAddress(c.Flags())
	c.Flags().BoolVar(&status, "status", status, "change nothing; print what is applied and what is pending")
	c.Flags().DurationVar(&timeout, "timeout", timeout, "go on trying for so long while PostgreSQL is away, or a table is in use; what has begun is not cut off")
	return c, nil
}

// patiently retries do while PostgreSQL is unavailable, until patience is over.
func (a *app) patiently(ctx context.Context, patience time.Duration, do func(context.Context) error) error {
	for until := time.Now().Add(patience); ; {
		err := do(ctx)
		if !errors.Is(err, store.ErrUnavailable) || time.Until(until) <= 0 {
			return err
		}
		a.log.Warn("can't migrate yet; retrying", "err", err)
		if !pause(ctx, min(time.Second, time.Until(until))) {
			return err
		}
	}
}

func migrateNow(ctx context.Context, s *store.Postgres, out io.Writer) error {
	err := s.MigrateEach(ctx, func(m store.Migration) { fmt.Fprintf(out, "applied %s\n", m.Name) })
	if err != nil {
		return err
	}
	at, err := s.Schema(ctx)
	if err == nil {
		err = known(at)
	}
	if err == nil {
		fmt.Fprintf(out, "the schema is up to date, at %s\n", at[len(at)-1].Name)
	}
	return err
}

func migrationStatus(ctx context.Context, s *store.Postgres, out io.Writer) error {
	at, err := s.Schema(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MIGRATION\tSTATE\tWHEN")
	for _, m := range at {
		when := "-"
		if !m.Applied.IsZero() {
			when = m.Applied.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", m.Name, m.State, when)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(at.Pending()) > 0 {
		return errPending
	}
	return known(at)
}

// known returns an error if the schema is of a newer version.
func known(s store.Schema) error {
	newer := s.Newer()
	if len(newer) == 0 {
		return nil
	}
	return fmt.Errorf("the schema is of a newer version, at %s, and this one knows %d migrations: use the newer version's `eventstream migrate`",
		newer[len(newer)-1].Name, len(s)-len(newer))
}
