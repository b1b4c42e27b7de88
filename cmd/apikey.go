package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"eventstream/auth"
	"eventstream/store"
)

// apikeyTimeout is for the PostgreSQL queries of one of these commands.
const apikeyTimeout = 10 * time.Second

func (a *app) apikeyCommand() (*cobra.Command, error) {
	var postgres postgresFlags
	if err := a.fromEnv(&postgres); err != nil {
		return nil, err
	}
	c := &cobra.Command{
		Use:   "apikey",
		Short: "Make, list and revoke keys to the API",
		Long: "Makes, lists and revokes keys to the API, in PostgreSQL. Once there is one, the API asks\n" +
			"for one. Clients send it as Authorization: Bearer <key>. Scopes: read looks, write changes\n" +
			"filters, admin makes subscribers' tokens, too.",
		Example: "  eventstream apikey create --scope write --name shop\n  eventstream apikey list\n  eventstream apikey revoke 0123456789ab",
		Args:    noCommand,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	postgres.add(c.PersistentFlags())
	c.AddCommand(createKeyCommand(&postgres), listKeysCommand(&postgres), revokeKeyCommand(&postgres))
	return c, nil
}

// withStore calls do with a store whose schema is up to date.
func withStore(ctx context.Context, p *postgresFlags, do func(context.Context, *store.Postgres) error) error {
	s, err := p.open()
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, apikeyTimeout)
	defer cancel()
	if err := newSchema(s, *p, slog.New(slog.DiscardHandler)).ensure(ctx); err != nil {
		return err
	}
	return do(ctx, s)
}

func createKeyCommand(p *postgresFlags) *cobra.Command {
	var scope, name string
	c := &cobra.Command{
		Use: "create", Short: "Make a key and print it, once", Args: noArgs,
		Example: "  eventstream apikey create --scope read --name dashboards",
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := auth.ParseScope(scope)
			if err != nil {
				return usageError{fmt.Errorf("--scope: %w", err)}
			}
			k, text, err := auth.NewAPIKey(name, s)
			if err != nil {
				return usageError{fmt.Errorf("--name: %w", err)}
			}
			err = withStore(c.Context(), p, func(ctx context.Context, db *store.Postgres) error { return db.CreateAPIKey(ctx, k) })
			if err != nil {
				return err
			}
			fmt.Fprintf(c.ErrOrStderr(), "key %s, scope %s, counts within a second; it is not shown again:\n", k.ID, k.Scope)
			fmt.Fprintln(c.OutOrStdout(), text)
			return nil
		},
	}
	c.Flags().StringVar(&scope, "scope", "", "read, write or admin")
	c.Flags().StringVar(&name, "name", "", "what it is for")
	return c
}

func listKeysCommand(p *postgresFlags) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the keys", Args: noArgs,
		Example: "  eventstream apikey list",
		RunE: func(c *cobra.Command, _ []string) error {
			var keys []auth.APIKey
			err := withStore(c.Context(), p, func(ctx context.Context, db *store.Postgres) (err error) {
				keys, err = db.APIKeys(ctx)
				return err
			})
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tSCOPE\tCREATED\tREVOKED\tNAME")
			for _, k := range keys {
				revoked := "-"
				if !k.Revoked.IsZero() {
					revoked = k.Revoked.UTC().Format(time.RFC3339)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.Scope, k.Created.UTC().Format(time.RFC3339), revoked, k.Name)
			}
			return w.Flush()
		},
	}
}

func revokeKeyCommand(p *postgresFlags) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Take a key back, within two seconds",
		Example: "  eventstream apikey revoke 0123456789ab",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("want the ID of one key, got %q; eventstream apikey list shows them", args)}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			err := withStore(c.Context(), p, func(ctx context.Context, db *store.Postgres) error { return db.RevokeAPIKey(ctx, args[0]) })
			if errors.Is(err, store.ErrNotFound) {
				return usageError{fmt.Errorf("there is no key %.40q; eventstream apikey list shows them", args[0])}
			}
			if err == nil {
				fmt.Fprintf(c.OutOrStdout(), "revoked %s\n", args[0])
			}
			return err
		},
	}
}
