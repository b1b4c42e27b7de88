package cmd_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter"
)

// TestMappedTopic: events of a topic that exists, whose type is in a header and whose
// amount is a string, are matched as they are: live, from the past, and when asked about.
func TestMappedTopic(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.env = append(p.env, "EVENTSTREAM_CONFIG="+configFile(t, `
sources:
  - map:
      event_type: {header: kind}
      user_id: {path: customer.id, as: string}
      amount: {path: total_price, as: number}
      timestamp: {path: created, as: unix}
`))
	filters := p.service("filter")
	api := p.service("api", "--filter-url", "http://"+filters.addr)
	gateway := p.service("gateway", "--filter-url", "http://"+filters.addr)
	p.addFilter(filter.Spec{SubscriberID: "ada", EventTypes: []string{"orders/create"}, UserIDs: []string{"207119551"}, MinAmount: new(100.0)})
	p.addFilter(filter.Spec{SubscriberID: "new", Where: filter.Where{"timestamp": {Gt: new(filter.Text("2026-09-21T14:13:19Z"))}}})
	ada, fresh := p.listen(gateway, "ada"), p.listen(gateway, "new")

	cl, err := kgo.NewClient(kgo.SeedBrokers(p.topic.Brokers...), kgo.DefaultProduceTopic(p.topic.Topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	send := func(kind, value string) {
		t.Helper()
		r := &kgo.Record{Value: []byte(value)}
		if kind != "" {
			r.Headers = []kgo.RecordHeader{{Key: "kind", Value: []byte(kind)}}
		}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	due := `{"total_price":"409.94","customer":{"id":207119551},"created":1790000000}`
	send("orders/create", `{"total_price":"99.94","customer":{"id":207119551},"created":1}`)      // too little
	send("orders/paid", `{"total_price":"409.94","customer":{"id":207119551},"created":1}`)       // another type
	send("", `{"event_type":"orders/create","total_price":"409.94","customer":{"id":207119551}}`) // no type: a dead letter
	send("orders/create", due)
	for _, l := range []*listener{ada, fresh} {
		l.wait(1, 30*time.Second)
		l.mu.Lock()
		var got []string
		for _, e := range l.events {
			got = append(got, string(e.Data))
		}
		l.mu.Unlock()
		if !slices.Equal(got, []string{due}) {
			t.Errorf("%s got %s, want %s", l.subscriber, got, due)
		}
	}
	var past []string
	for _, e := range p.pull("ada", "since=1h") {
		past = append(past, string(e.Data))
	}
	if !slices.Equal(past, []string{due}) {
		t.Errorf("from the past came %s, want %s", past, due)
	}

	// Without a record, what is in a header is a member.
	asked := `{"event_type":"orders/create","total_price":"409.94","customer":{"id":207119551},"created":1790000000}`
	resp, err := http.Get("http://" + api.addr + "/subscribers/ada/explain?live=true&event=" + url.QueryEscape(asked))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	var answer struct {
		Filters []struct{ Matches bool }
		Live    []struct{ Addressed bool }
	}
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Filters) != 1 || !answer.Filters[0].Matches || len(answer.Live) != 1 || !answer.Live[0].Addressed {
		t.Errorf("explain: %s; want it to match, stored and live", body)
	}
	letter := p.deadLetters(1)[0]
	why := slices.IndexFunc(letter.Headers, func(h kgo.RecordHeader) bool { return h.Key == "dlq.error" })
	if why < 0 || !strings.Contains(string(letter.Headers[why].Value), "in the header kind") {
		t.Errorf("headers of the dead letter: %s, want one that says where the type is to be", letter.Headers)
	}
}
