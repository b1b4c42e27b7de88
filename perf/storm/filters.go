package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
)

// filters gives every client a filter that matches all events of this storm.
func (s *storm) filters(ctx context.Context) error {
	const parallel = 64
	web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: parallel}}
	defer web.CloseIdleConnections()
	return s.each(parallel, func(i int) error {
		body := fmt.Appendf(nil, `{"subscriber_id":%q,"event_types":[%q]}`, s.subscriber(i), s.kind)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.cfg.api+"/filters", bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := web.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated {
			return fmt.Errorf("POST /filters: %s: %s", resp.Status, answer)
		}
		return nil
	})
}
