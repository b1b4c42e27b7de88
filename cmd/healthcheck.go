package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"eventstream/internal/redact"
)

func (a *app) healthcheckCommand() (*cobra.Command, error) {
	return &cobra.Command{
		Use:     "healthcheck URL",
		Short:   "Exit 0 if a GET of the URL answers 2xx",
		Long:    "For containers without a shell: exit 0 if a GET of the URL answers 2xx within 3 seconds, else 1.",
		Example: "  eventstream healthcheck http://127.0.0.1:8002/readyz",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("want one URL; see %s --help", c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return checkHealth(c.Context(), args[0]) },
	}, nil
}

// checkHealth returns nil if a GET of the URL answers 2xx.
func checkHealth(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return usageError{errors.New("want a URL such as http://127.0.0.1:8003/readyz")}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return redact.Error(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return nil
}
