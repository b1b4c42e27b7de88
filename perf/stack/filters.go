package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// post creates filters by the API, all at once.
func post(ctx context.Context, api string, filters []Filter) error {
	var body bytes.Buffer
	lines := json.NewEncoder(&body)
	for _, f := range filters {
		spec := map[string]any{"subscriber_id": f.Subscriber}
		if f.Type != "" {
			spec["event_types"] = []string{f.Type}
		}
		if f.User != "" {
			spec["user_ids"] = []string{f.User}
		}
		if f.MinAmount != 0 {
			spec["min_amount"] = f.MinAmount
		}
		if err := lines.Encode(spec); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, api+"/filters:import", &body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("filter API: %w", err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		return fmt.Errorf("POST /filters:import: %s: %.1000s", resp.Status, answer)
	}
	return nil
}
