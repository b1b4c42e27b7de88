package cmd

import (
	"errors"

	"github.com/spf13/cobra"
)

// checkCommand tells the user that the checker is a program of its own, so that code
// that breaks services is not part of them.
func (a *app) checkCommand() (*cobra.Command, error) {
	return &cobra.Command{
		Use: "check", Short: "Say how to get eventstream-check, which proves by faults that nothing is lost",
		DisableFlagParsing: true, // flags are the checker's
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("check is a program of its own: in the sources, `go build -o ./ . ./cmd/eventstream-check` builds it beside eventstream, and ./eventstream-check --help says more")}
		},
	}, nil
}
