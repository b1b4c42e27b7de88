package cmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/topic"
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

// TestDeadLettersElsewhere: they go to a topic of another name, or nowhere; events go on.
func TestDeadLettersElsewhere(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.service("api")
	p.addFilter(everything("ada"))
	named := p.service("filter", "--dead-letters", p.topic.Topic+".bad")
	l := p.listen(p.service("gateway"), "ada")
	prod := p.producer()
	send := func(name string) {
		p.send(prod, source{user: "u", data: []byte("no event")})
		p.send(prod, parseSource(t, fmt.Appendf(nil, `{"event_type":"a","event_id":"%s","user_id":"u"}`, name)))
	}
	send("one")
	l.wait(1, 30*time.Second)
	elsewhere := *p
	elsewhere.topic.DeadLetters = p.topic.Topic + ".bad"
	if got := elsewhere.deadLetters(1); string(got[0].Value) != "no event" {
		t.Errorf("dead letter %q", got[0].Value)
	}
	named.stop()
	off := p.service("filter", "--dead-letters", "off")
	send("two")
	l.wait(2, 30*time.Second)
	testenv.Eventually(t, 30*time.Second, func() error {
		resp, err := http.Get("http://" + off.addr + "/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if text, _ := io.ReadAll(resp.Body); !strings.Contains(string(text), "\neventstream_filter_dead_letters_off_total 1\n") {
			return errors.New("it is not counted")
		}
		return nil
	})
	p.admin(func(ctx context.Context, admin *kadm.Client) error {
		topics, err := admin.ListTopics(ctx)
		if topics.Has(p.topic.Topic + ".dlq") {
			t.Errorf("%s.dlq was made", p.topic.Topic)
		}
		return err
	})
}

// TestSniff: what it prints is a file that services take, and that finds the types.
func TestSniff(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	exe := testenv.Binary(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.topic.Brokers...), kgo.DefaultProduceTopic(p.topic.Topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	sniffed := func() (string, error) {
		c := exec.Command(exe, "sniff")
		c.Env = p.env
		var stderr bytes.Buffer
		c.Stderr = &stderr
		out, err := c.Output()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, stderr.Bytes())
		}
		return string(out), err
	}
	if _, err := sniffed(); err == nil || !strings.Contains(err.Error(), p.topic.Topic) {
		t.Errorf("of a topic that does not exist: %v, want an error that names it", err)
	}
	if _, err := topic.Ensure(t.Context(), p.topic, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		r := &kgo.Record{Value: fmt.Appendf(nil, `{"type":"order.%s","customer":{"id":%d},"total":"%d.50","created":1790000000}`, []string{"made", "paid"}[i%2], i, i)}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := sniffed()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"30 records", `50 %  "order.paid"`, "event_type: {path: type}", "user_id: {path: customer.id, as: string}", "amount: {path: total, as: number}", "timestamp: {path: created, as: unix}"} {
		if !strings.Contains(text, want) {
			t.Errorf("printed %s\nwant %s", text, want)
		}
	}
	c := exec.Command(exe, "config", "check", "--config", configFile(t, text))
	c.Env = bareEnv()
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s: the file is\n%s", err, out, text)
	}
}
