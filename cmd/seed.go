package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"eventstream/filter"
	"eventstream/internal/redact"
)

func (a *app) seedCommand() (*cobra.Command, error) {
	own := struct {
		API   string `env:"API" envDefault:"http://127.0.0.1:8001"`
		Key   string `env:"API_KEY"` // not a flag: other users of the machine can see flags
		Count int    `env:"SEED_COUNT" envDefault:"100"`
	}{}
	if err := a.fromEnv(&own); err != nil {
		return nil, err
	}
	prefix := "user_"
	c := &cobra.Command{
		Use:   "seed",
		Short: "Create test subscribers with filters",
		Long: "Creates filters for the subscribers user_1 to user_N over the API: a mix by event type,\n" +
			"tier and amount. A subscriber that has a filter is left as it is, so it can be run again.\n" +
			"Where the API asks for a key: EVENTSTREAM_API_KEY.",
		Example: "  eventstream seed --count 1000\n  eventstream listen user_1",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if own.Count < 1 {
				return usageError{fmt.Errorf("--count %d: want at least 1", own.Count)}
			}
			s := seeder{api: strings.TrimSuffix(own.API, "/"), key: own.Key, http: &http.Client{Timeout: 10 * time.Second}}
			made := 0
			for n := 1; n <= own.Count; n++ {
				created, err := s.ensure(c.Context(), seedSpec(prefix, n))
				if err != nil {
					return err
				}
				if created {
					made++
				}
			}
			fmt.Fprintf(c.OutOrStdout(), "%d filters created, %d subscribers had one\n", made, own.Count-made)
			return nil
		},
	}
	fs := c.Flags()
	fs.StringVar(&own.API, "api", own.API, "URL of the filter API")
	fs.IntVar(&own.Count, "count", own.Count, "subscribers")
	fs.StringVar(&prefix, "prefix", prefix, "subscriber ids are this and a number")
	return c, nil
}

// seedSpec returns the filter of the n-th test subscriber.
func seedSpec(prefix string, n int) filter.Spec {
	types := []string{"purchase", "page_view", "login", "add_to_cart", "refund"}
	tiers := []string{"free", "premium", "enterprise"}
	s := filter.Spec{SubscriberID: fmt.Sprint(prefix, n), EventTypes: []string{types[n%len(types)]}}
	if n%2 == 0 {
		s.UserTiers = []string{tiers[n%len(tiers)]}
	}
	if n%3 == 0 {
		amount := float64(n % 10 * 50)
		s.MinAmount = &amount
		s.EventTypes = []string{"purchase"} // only purchases have an amount
	}
	return s
}

// seeder is a client of the filter API.
type seeder struct {
	api  string
	key  string // may be empty
	http *http.Client
}

// ensure creates the filter unless its subscriber has one.
func (s seeder) ensure(ctx context.Context, spec filter.Spec) (created bool, err error) {
	var page struct{ Filters []json.RawMessage }
	list := "/filters?limit=1&subscriber_id=" + url.QueryEscape(spec.SubscriberID)
	if err := s.do(ctx, http.MethodGet, list, nil, &page); err != nil {
		return false, err
	}
	if len(page.Filters) > 0 {
		return false, nil
	}
	return true, s.do(ctx, http.MethodPost, "/filters", spec, nil)
}

// do makes a request, and repeats it while the API is not available yet.
func (s seeder) do(ctx context.Context, method, path string, body, result any) error {
	payload, err := json.Marshal(body)
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		retry, err := s.once(ctx, method, path, payload, result)
		if err == nil || !retry || attempt == 20 {
			return err
		}
		if !pause(ctx, 500*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func (s seeder) once(ctx context.Context, method, path string, payload []byte, result any) (retry bool, err error) {
	req, err := http.NewRequestWithContext(ctx, method, s.api+path, bytes.NewReader(payload))
	if err != nil {
		return false, usageError{errors.New("--api: want a URL such as http://127.0.0.1:8001")}
	}
	req.Header.Set("Content-Type", "application/json")
	if s.key != "" {
		req.Header.Set("Authorization", "Bearer "+s.key)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return true, fmt.Errorf("filter API: %w", redact.Error(err))
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return true, fmt.Errorf("filter API: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return resp.StatusCode >= 500, fmt.Errorf("filter API: %s %s: %s: %s", method, path, resp.Status, answer)
	}
	if result == nil {
		return false, nil
	}
	return false, json.Unmarshal(answer, result)
}
