package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/sync/errgroup"
)

const parallel = 64 // requests at the same time

// post creates filters by the API.
func post(ctx context.Context, api string, filters []Filter) error {
	web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: parallel}}
	defer web.CloseIdleConnections()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, f := range filters {
		g.Go(func() error { return postOne(ctx, web, api, f) })
	}
	return g.Wait()
}

func postOne(ctx context.Context, web *http.Client, api string, f Filter) error {
	spec := map[string]any{"subscriber_id": f.Subscriber}
	if f.Type != "" {
		spec["event_types"] = []string{f.Type}
	}
	if f.User != "" {
		spec["user_ids"] = []string{f.User}
	}
	body, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, api+"/filters", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := web.Do(req)
	if err != nil {
		return fmt.Errorf("filter API: %w", err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("POST /filters: %s: %s", resp.Status, answer)
	}
	return nil
}
