package cmd_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/replay"
)

// What filter services have in memory is told beside what PostgreSQL has: by each of the
// subscriber's shard, with their secret, and clearly where there is none that answers.
func TestExplainLive(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	secret := "EVENTSTREAM_REPLAY_SECRET=" + strings.Repeat("s", 40)
	p.env = append(p.env, secret)
	filters := []*process{p.service("filter", "--shard", "0/2"), p.service("filter", "--shard", "1/2")}
	urls := "http://" + filters[0].addr + ",http://" + filters[1].addr
	api := p.service("api", "--filter-url", urls)
	gateway := p.service("gateway")
	p.addFilter(filter.Spec{SubscriberID: "ada", EventTypes: []string{"purchase"}})
	p.addFilter(filter.Spec{SubscriberID: "ada", EventTypes: []string{"login"}})
	p.listen(gateway, "ada")

	type answer struct {
		Filters []replay.LiveFilter
		Live    []replay.Live
		Type    string
		Detail  string
	}
	ask := func(addr string) (a answer, status int) {
		t.Helper()
		resp, err := http.Get("http://" + addr + "/subscribers/ada/explain?live=true&event=" + url.QueryEscape(`{"event_type":"purchase"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
			t.Fatal(err)
		}
		return a, resp.StatusCode
	}
	var of string
	testenv.Eventually(t, 30*time.Second, func() error {
		a, status := ask(api.addr)
		if status != 200 || len(a.Live) != 1 || a.Live[0].Seats != 1 || !a.Live[0].Addressed || a.Live[0].Error != "" {
			return fmt.Errorf("%d %+v, want one service with a seat that is addressed", status, a)
		}
		if got, want := fmt.Sprint(a.Live[0].Filters), fmt.Sprint(a.Filters); got != want || len(a.Filters) != 2 || a.Filters[0].Matches == a.Filters[1].Matches {
			return fmt.Errorf("in memory are %s, stored are %s", got, want)
		}
		of = a.Live[0].Service
		return nil
	})

	for _, pr := range filters {
		if pr.addr == of {
			pr.kill()
		}
	}
	a, status := ask(api.addr)
	if status != 503 || a.Type != "urn:eventstream:problem:live-unavailable" {
		t.Errorf("without the shard's service: %d %+v", status, a)
	}
	other := p.start("api", "--listen", testenv.Addr(t), "--filter-url", "http://"+testenv.Addr(t))
	other.addr = other.args[2]
	other.ready()
	if a, status := ask(other.addr); status != 503 || !strings.Contains(a.Detail, "--filter-url") {
		t.Errorf("of an API that knows none: %d %+v", status, a)
	}
	p.env = append(p.env, "EVENTSTREAM_REPLAY_SECRET="+strings.Repeat("x", 40))
	stranger := p.service("api", "--filter-url", urls)
	if a, status := ask(stranger.addr); status != 503 || a.Type != "urn:eventstream:problem:live-unavailable" {
		t.Errorf("with another secret: %d %+v", status, a)
	}
	stranger.says("the replay secret is missing or wrong", 10*time.Second)
}
