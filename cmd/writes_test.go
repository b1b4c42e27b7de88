package cmd_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"eventstream/filter"
)

// TestManyReadTheirWrites has 200 clients each create a filter and, as soon as that
// is answered, produce an event that only it matches. Every one of them is delivered,
// and nothing else.
func TestManyReadTheirWrites(t *testing.T) {
	t.Parallel()
	const writers, subscribers = 200, 10
	p := newPipeline(t)
	p.service("api")
	p.service("filter")
	gateway := p.service("gateway")
	listeners := make([]*listener, subscribers)
	marks := make([][]source, subscribers)
	for i := range listeners {
		listeners[i] = p.listen(gateway, fmt.Sprint("reader_", i))
	}
	for i := range writers {
		to := i % subscribers
		marks[to] = append(marks[to], markEvent(t, fmt.Sprint("w", i)))
	}
	prod := p.producer()
	var all sync.WaitGroup
	for to, l := range listeners {
		for _, m := range marks[to] {
			all.Go(func() {
				if p.post("/filters", markFilter(l.subscriber, m)) == http.StatusCreated {
					p.send(prod, m)
				}
			})
		}
	}
	all.Wait()
	for to, l := range listeners {
		l.wait(len(marks[to]), 30*time.Second)
		l.expect(l.subscriber, marks[to])
	}
}

// TestImportWhileEventsFlow imports 10,000 filters. What the first and the last of them
// asks for is delivered from the answer on, and nobody else misses anything meanwhile.
func TestImportWhileEventsFlow(t *testing.T) {
	const lines = 10_000
	p := newPipeline(t)
	noMarks := filter.Where{"event_type": {NotIn: []filter.Scalar{filter.Text("mark")}}}
	f := p.flow(1, []filter.Spec{{SubscriberID: "purchases", EventTypes: []string{"purchase"}}, {SubscriberID: "all", MatchAll: true, Where: noMarks}})
	imported := p.listen(f.gateways[0], "imported")
	f.continues("the start")
	first, last := markEvent(t, "first"), markEvent(t, "last")
	var body strings.Builder
	body.WriteString(markFilter("imported", first))
	for i := range lines - 2 {
		fmt.Fprintf(&body, `{"subscriber_id":"user_%d","event_types":["purchase"],"where":{"sku":{"eq":"p-%d"}}}`+"\n", i/10, i)
	}
	body.WriteString(markFilter("imported", last))
	began := time.Now()
	p.post("/filters:import", body.String())
	t.Logf("%d filters in %v", lines, time.Since(began).Round(time.Millisecond))
	prod := p.producer()
	p.send(prod, first)
	p.send(prod, last)
	imported.wait(2, 30*time.Second)
	imported.expect("imported", []source{first, last})
	f.continues("the import")
	f.paused("the import")
	f.finish()
}

// markEvent is an event that only the filter of markFilter matches.
func markEvent(t *testing.T, mark string) source {
	return parseSource(t, []byte(`{"event_id":"`+mark+`","event_type":"mark","user_id":"`+mark+`","mark":"`+mark+`"}`))
}

// markFilter is a line of an import, or the body of POST /filters.
func markFilter(subscriber string, m source) string {
	return fmt.Sprintf(`{"subscriber_id":%q,"where":{"mark":{"eq":%q}}}`+"\n", subscriber, m.id)
}

// post sends JSON to the API, and returns the status of what must be a success.
func (p *pipeline) post(path, body string) int {
	resp, err := http.Post("http://"+p.api+path, "application/json", strings.NewReader(body))
	if err != nil {
		p.t.Errorf("POST %s: %v", path, err)
		return 0
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
		p.t.Errorf("POST %s: %s", path, resp.Status)
	}
	return resp.StatusCode
}
