package cmd_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/filter"
	"eventstream/internal/check/cluster"
	"eventstream/internal/testenv"
)

// TestPostgresAway takes PostgreSQL away while 50 clients create filters and events
// flow: connections are refused, and then nothing answers. Each request is answered
// in time, with 201 or 503; what was answered 201 is there afterwards; and matching
// goes on all the time.
func TestPostgresAway(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	dsn, err := url.Parse(testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := cluster.NewProxy(dsn.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	dsn.Host = proxy.Addr()
	p.env = append(p.env, "EVENTSTREAM_POSTGRES="+dsn.String())
	f := p.flow(1, []filter.Spec{{SubscriberID: "purchases", EventTypes: []string{"purchase"}}, everything("all")})
	w := p.write(50)
	for _, fault := range []struct {
		name string
		harm func() error
	}{{"refused", proxy.Refuse}, {"silent", proxy.Hang}} {
		w.sees("before it is "+fault.name, &w.created)
		if err := fault.harm(); err != nil {
			t.Fatal(err)
		}
		w.sees(fault.name, &w.refused)
		testenv.Eventually(t, 10*time.Second, func() error {
			if get("http://"+p.api+"/readyz") == nil {
				return errors.New("/readyz is green without PostgreSQL")
			}
			return nil
		})
		f.continues("PostgreSQL is " + fault.name)
		if err := proxy.Heal(); err != nil {
			t.Fatal(err)
		}
		f.api.ready()
	}
	w.sees("in the end", &w.created)
	w.finish()
	f.finish()
}

// writers create filters, one after the other each.
type writers struct {
	p                *pipeline
	stop             chan struct{}
	wait             sync.WaitGroup
	created, refused atomic.Int64

	mu      sync.Mutex
	ids     map[string]bool // of what was created
	slowest time.Duration
}

func (p *pipeline) write(n int) *writers {
	w := &writers{p: p, stop: make(chan struct{}), ids: make(map[string]bool)}
	// The API allows the store 5 s, and itself 2 s to tell the filter service.
	http := &http.Client{Timeout: 15 * time.Second}
	for i := range n {
		w.wait.Go(func() {
			for {
				select {
				case <-w.stop:
					return
				case <-time.After(20 * time.Millisecond):
					w.create(http, fmt.Sprint("writer_", i))
				}
			}
		})
	}
	return w
}

func (w *writers) create(client *http.Client, subscriber string) {
	began := time.Now()
	resp, err := client.Post("http://"+w.p.api+"/filters", "application/json",
		strings.NewReader(`{"subscriber_id":"`+subscriber+`","event_types":["none"]}`))
	if err != nil {
		w.p.t.Errorf("a request without PostgreSQL: %v", err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slowest = max(w.slowest, time.Since(began))
	switch {
	case resp.StatusCode == http.StatusCreated:
		w.ids[strings.TrimPrefix(resp.Header.Get("Location"), "/filters/")] = true
		w.created.Add(1)
	case resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "" && strings.Contains(string(body), ":store-unavailable"):
		w.refused.Add(1)
	default:
		w.p.t.Errorf("answered %s, Retry-After %q: %s", resp.Status, resp.Header.Get("Retry-After"), body)
	}
}

// sees waits until some more requests were answered so.
func (w *writers) sees(when string, answers *atomic.Int64) {
	w.p.t.Helper()
	enough := answers.Load() + 20
	testenv.Eventually(w.p.t, 30*time.Second, func() error {
		if n := answers.Load(); n < enough {
			return fmt.Errorf("%s: %d answers, want %d", when, n, enough)
		}
		return nil
	})
}

// finish stops the writers, and checks that what was created is there.
func (w *writers) finish() {
	w.p.t.Helper()
	close(w.stop)
	w.wait.Wait()
	resp, err := http.Get("http://" + w.p.api + "/filters:export")
	if err != nil {
		w.p.t.Fatal(err)
	}
	defer resp.Body.Close()
	for in := json.NewDecoder(resp.Body); ; {
		var f filter.Filter
		if err := in.Decode(&f); err == io.EOF {
			break
		} else if err != nil {
			w.p.t.Fatal(err)
		}
		delete(w.ids, string(f.ID))
	}
	for id := range w.ids {
		w.p.t.Errorf("filter %s was answered 201, and is not there", id)
	}
	w.p.t.Logf("%d created, %d refused, the slowest answer after %v", w.created.Load(), w.refused.Load(), w.slowest.Round(time.Millisecond))
}
