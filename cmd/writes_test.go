package cmd_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestManyReadTheirWrites has 200 clients each create a filter and, as soon as that
// is answered, produce an event that only it matches. An import is followed by
// events for its first and its last filter. Every one of them is delivered.
func TestManyReadTheirWrites(t *testing.T) {
	const writers, subscribers = 200, 10
	p := newPipeline(t)
	p.service("api")
	p.service("filter")
	gateway := p.service("gateway")
	listeners := make([]*listener, subscribers)
	for i := range listeners {
		listeners[i] = p.listen(gateway, fmt.Sprint("reader_", i))
	}
	prod := p.producer()
	produce := func(mark string) {
		p.send(prod, source{user: mark, data: []byte(`{"event_type":"mark","mark":"` + mark + `"}`)})
	}
	line := func(subscriber int, mark string) string {
		return fmt.Sprintf(`{"subscriber_id":"reader_%d","where":{"mark":{"eq":"%s"}}}`, subscriber, mark)
	}
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			mark := fmt.Sprint("w", i)
			if p.post("/filters", line(i%subscribers, mark)) == http.StatusCreated {
				produce(mark)
			}
		})
	}
	all.Wait()
	var lines strings.Builder
	for i := range 5000 {
		lines.WriteString(line(i%subscribers, fmt.Sprint("i", i)) + "\n")
	}
	if p.post("/filters:import", lines.String()) == http.StatusOK {
		produce("i0")
		produce("i4999")
	}
	for i, l := range listeners {
		n := writers / subscribers
		if i == 0 || i == 4999%subscribers {
			n++
		}
		l.wait(n, 30*time.Second)
	}
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
