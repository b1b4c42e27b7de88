package conformance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"eventstream/client"
	"eventstream/internal/conformance"
)

// TestGoClient runs all cases of WebSockets with our own client.
func TestGoClient(t *testing.T) {
	t.Parallel()
	kit, err := conformance.New()
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(kit)
	srv.Config.ConnContext = conformance.ConnContext
	srv.Start()
	t.Cleanup(srv.Close)
	cases, err := conformance.Cases()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if c.Only == "sse" {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			base := srv.URL + "/" + c.Name + "/go"
			body, _ := json.Marshal(runGo(t, base, &c))
			answer, err := http.Post(base+"/result", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			var v conformance.Verdict
			if err := json.NewDecoder(answer.Body).Decode(&v); err != nil || !v.OK {
				t.Errorf("%s: %v %q", c.About, err, v.Problems)
			}
		})
	}
}

// runGo runs the Go client until it has what the case wants, or has ended.
func runGo(t *testing.T, base string, c *conformance.Case) conformance.Result {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	got := conformance.Result{Events: []string{}, Gaps: []string{}}
	enough := func() {
		if c.Want.Error == "" && len(got.Events) >= len(c.Want.Events) && len(got.Gaps) >= len(c.Want.Gaps) {
			cancel()
		}
	}
	cfg := client.Config{
		URL: strings.Replace(base, "http", "ws", 1) + "/ws", SubscriberID: "ann",
		Since: c.Client.Since, Durable: c.Client.Durable, AckEvery: -1,
		MinBackoff: 50 * time.Millisecond, Timeout: 2 * time.Second,
		OnState: func(s client.State) {
			if s.Status == client.Gap {
				mu.Lock()
				defer mu.Unlock()
				got.Gaps = append(got.Gaps, s.Reason)
				enough()
			}
		},
	}
	if c.Client.Ack == "auto" {
		cfg.AckEvery = 50 * time.Millisecond
	}
	if c.Client.Token {
		asked := 0
		cfg.Token = func(context.Context) (string, error) {
			asked++
			return fmt.Sprintf("token-%d", asked), nil
		}
	}
	cl, err := client.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = cl.Run(ctx, func(e client.Event) error {
		mu.Lock()
		defer mu.Unlock()
		got.Events = append(got.Events, e.ID.String())
		enough()
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	if err != nil {
		got.Error = nameOf(err)
	}
	return got
}

func nameOf(err error) string {
	names := map[int]string{400: "bad_request", 401: "unauthorized", 403: "forbidden", 4003: "not_allowed", 4004: "expired"}
	if refused, ok := errors.AsType[*client.HandshakeError](err); ok {
		return names[refused.Status]
	}
	if closed, ok := errors.AsType[*client.CloseError](err); ok {
		return names[closed.Code]
	}
	return err.Error()
}
