package cmd_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"eventstream/client"
	"eventstream/event"
	"eventstream/wire"
)

// TestPull produces events while nobody is connected, and pulls those of each
// subscriber from Kafka, over the API: from two filter services, and, when one is
// killed, from the other.
func TestPull(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	file := eventFile(t)
	events := readSources(t, file)
	filters := []*process{p.service("filter"), p.service("filter")}
	p.service("api", "--filter-url", "http://"+filters[0].addr+",http://"+filters[1].addr)
	prod := p.start("producer", "--file", file)
	if code := prod.wait(2 * time.Minute); code != 0 {
		t.Fatalf("producer exited with %d:\n%s", code, prod.out.tail(20))
	}
	for _, s := range specs {
		p.addFilter(s)
	}
	for i, s := range specs {
		if i == len(specs)/2 {
			filters[0].kill()
		}
		l := &listener{t: t, events: p.pull(s.SubscriberID, "since=1h")}
		l.expect(s.SubscriberID, selected(events, s))
	}
	if got := p.pull("all", "since=2h&until=1h"); len(got) != 0 {
		t.Errorf("got %d events from before they were produced", len(got))
	}
	filters[1].kill()
	resp, err := http.Get("http://" + p.api + "/subscribers/all/events?since=1h")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("without a filter service: got %s, Retry-After %q, %s", resp.Status, resp.Header.Get("Retry-After"), body)
	}
}

// pull reads a subscriber's events of the past.
func (p *pipeline) pull(subscriber, query string) (events []client.Event) {
	p.t.Helper()
	resp, err := http.Get("http://" + p.api + "/subscribers/" + subscriber + "/events?" + query)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		p.t.Fatalf("pull %s: %s: %s", subscriber, resp.Status, body)
	}
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return events
		}
		if err != nil {
			p.t.Fatalf("pull %s: after %d events: %v", subscriber, len(events), err)
		}
		if strings.HasPrefix(string(line), `{"gap"`) {
			p.t.Fatalf("pull %s: %s", subscriber, line)
		}
		var e wire.Event
		if err := json.Unmarshal(line, &e); err != nil {
			p.t.Fatalf("pull %s: %s: %v", subscriber, line, err)
		}
		id, err := event.ParseID(e.ID)
		if err != nil {
			p.t.Fatal(err)
		}
		events = append(events, client.Event{ID: id, Time: time.UnixMilli(e.TS), Data: e.Data})
	}
}
