package cmd_test

import (
	"fmt"
	"math/big"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/topic/format/registrytest"
)

// raw sends records as they are.
func (p *pipeline) raw(records ...*kgo.Record) {
	p.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.topic.Brokers...), kgo.DefaultProduceTopic(p.topic.Topic))
	if err != nil {
		p.t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(p.t.Context(), records...).FirstErr(); err != nil {
		p.t.Fatal(err)
	}
}

// letterWhy returns the reasons of dead letters.
func (p *pipeline) letterWhy(n int) (why []string) {
	p.t.Helper()
	for _, l := range p.deadLetters(n) {
		for _, h := range l.Headers {
			if h.Key == "dlq.error" {
				why = append(why, string(h.Value))
			}
		}
	}
	return why
}

// data returns the events that a listener has.
func (l *listener) data() (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		all = append(all, string(e.Data))
	}
	return all
}

// TestAvroTopic: events in Avro are JSON for filters and clients, live and from the past.
// While the registry is down they wait. What can never be read is a dead letter.
func TestAvroTopic(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	registry, url := registrytest.Start(t)
	text := `{"type":"record","name":"Order","namespace":"shop","fields":[
		{"name":"kind","type":{"type":"enum","name":"Kind","symbols":["made","paid"]}},
		{"name":"customer","type":["null",{"type":"record","name":"Customer","fields":[{"name":"id","type":"long"}]}],"default":null},
		{"name":"total","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
		{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}]}`
	registry.Add(7, sr.Schema{Type: sr.TypeAvro, Schema: text})
	var down atomic.Bool
	down.Store(true)
	registry.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, _ := r.BasicAuth(); down.Load() || user != "ada" || password != "right" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	p.env = append(p.env, "EVENTSTREAM_REGISTRY="+url, "EVENTSTREAM_REGISTRY_USER=ada", "EVENTSTREAM_REGISTRY_PASSWORD=right", "EVENTSTREAM_CONFIG="+configFile(t, `
sources:
  - format: avro
    map:
      event_type: kind
      user_id: {path: customer.id, as: string}
      amount: total
      timestamp: at
`))
	filters := p.service("filter")
	p.service("api", "--filter-url", "http://"+filters.addr)
	gateway := p.service("gateway")
	p.addFilter(filter.Spec{SubscriberID: "ada", EventTypes: []string{"paid"}, UserIDs: []string{"9007199254740993"}, MinAmount: new(409.94),
		Where: filter.Where{"timestamp": {Gt: new(filter.Text("2026-09-21T14:13:19Z"))}}})
	l := p.listen(gateway, "ada")

	schema := avro.MustParse(text)
	order := func(kind string, customer, cents int64) *kgo.Record {
		body, err := avro.Marshal(schema, map[string]any{
			"kind": kind, "customer": map[string]any{"shop.Customer": map[string]any{"id": customer}},
			"total": big.NewRat(cents, 100), "at": time.UnixMilli(1790000000000),
		})
		if err != nil {
			t.Fatal(err)
		}
		return &kgo.Record{Value: registrytest.Framed(7, body)}
	}
	due := func(cents string) string {
		return `{"kind":"paid","customer":{"id":9007199254740993},"total":` + cents + `,"at":"2026-09-21T14:13:20Z"}`
	}
	p.raw(order("paid", 9007199254740993, 40994))
	testenv.Eventually(t, 30*time.Second, func() error {
		if asked := registry.Asked(); len(asked) < 3 {
			return fmt.Errorf("the registry was asked for %s, want it to be asked again and again", asked)
		}
		return nil
	})
	down.Store(false)
	l.wait(1, 30*time.Second)

	registry.Add(8, sr.Schema{Type: sr.TypeJSON, Schema: "{}"})
	p.raw(
		order("paid", 9007199254740992, 40994), // another user, although no float knows that
		order("made", 9007199254740993, 40994),
		&kgo.Record{Key: []byte("a tombstone")},
		&kgo.Record{Value: []byte(due("1"))},
		&kgo.Record{Value: registrytest.Framed(7, []byte("none"))},
		&kgo.Record{Value: registrytest.Framed(8, []byte("{}"))},
		order("paid", 9007199254740993, 123456),
	)
	l.wait(2, 30*time.Second)
	want := []string{due("409.94"), due("1234.56")}
	slices.Sort(want) // they may be in different partitions
	if got := slices.Sorted(slices.Values(l.data())); !slices.Equal(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	var past []string
	for _, e := range p.pull("ada", "since=1h") {
		past = append(past, string(e.Data))
	}
	if slices.Sort(past); !slices.Equal(past, want) {
		t.Errorf("from the past came %s, want %s", past, want)
	}
	sniffing := exec.Command(testenv.Binary(t), "sniff")
	sniffing.Env = p.env
	out, err := sniffing.Output()
	for _, want := range []string{"registry: ['" + url + "']", "format: avro", "event_type: {path: kind}", "amount: {path: total}", "record of a Schema Registry: avro", "it can't be read"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("sniff: %v, printed %s\nwant %q", err, out, want)
		}
	}
	why := strings.Join(p.letterWhy(3), "\n")
	for _, want := range []string{"it looks like JSON", "avro by schema id 7: an enum has no symbol 55", "schema id 8 is of type JSON, but the source's format is avro"} {
		if !strings.Contains(why, want) {
			t.Errorf("dead letters because of %s, want %q", why, want)
		}
	}
}
