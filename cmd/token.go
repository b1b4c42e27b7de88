package cmd

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"eventstream/auth"
	"eventstream/filter"
)

func (a *app) tokenCommand() (*cobra.Command, error) {
	var tokens tokenFlags
	if err := a.fromEnvAll(&tokens); err != nil {
		return nil, err
	}
	var lifetime time.Duration
	c := &cobra.Command{
		Use:   "token <subscriber>",
		Short: "Make a subscriber's token, without asking any service",
		Long: "Makes a token with which a subscriber can connect to a gateway that knows the key. The first\n" +
			"key that can sign does: of EVENTSTREAM_TOKEN_SECRET, then of --token-keys (private keys).",
		Example: "  EVENTSTREAM_TOKEN_SECRET=$(openssl rand -hex 32) eventstream token user_1\n" +
			"  eventstream token --token-keys private.pem --token-audience events --lifetime 15m user_1",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("token takes one subscriber, got %q; see %s --help", args, c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := filter.CheckSubscriberID(args[0]); err != nil {
				return usageError{fmt.Errorf("subscriber: %w", err)}
			}
			s, err := tokens.signer()
			if err != nil {
				return err
			}
			if s == nil {
				return usageError{errors.New("no key to sign with: set EVENTSTREAM_TOKEN_SECRET, or --token-keys to a file with a private key")}
			}
			token, _, err := s.Sign(args[0], lifetime)
			if err != nil {
				return usageError{fmt.Errorf("--lifetime: %w", err)}
			}
			fmt.Fprintln(c.OutOrStdout(), token)
			return nil
		},
	}
	tokens.addKeys(c.Flags())
	c.Flags().DurationVar(&lifetime, "lifetime", time.Hour, fmt.Sprintf("how long the token counts, at most %v", auth.MaxLifetime))
	return c, nil
}
