package cmd_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/topic"
)

// TestPartitionWithoutLeader takes away the only broker of one of three partitions, and
// then restarts all services. The others flow, and new clients connect. When the broker is
// back, what comes to its partition reaches them, too.
func TestPartitionWithoutLeader(t *testing.T) {
	t.Parallel()
	kafka := testenv.KafkaServer(t)
	second := kafka.Second()
	kafka.Place("events", 1, 2, 1)
	kafka.Place("events.dlq", 1)
	p := newPipelineWith(t, testenv.Redis(t).Addr, topic.Config{Brokers: []string{kafka.Addr}, Topic: "events"})
	p.service("api")
	filters := []*process{p.service("filter"), p.service("filter")}
	p.addFilter(filter.Spec{SubscriberID: "all", MatchAll: true})
	p.addFilter(filter.Spec{SubscriberID: "new", MatchAll: true})
	gateway := p.service("gateway")
	l := p.listen(gateway, "all")
	cl, err := kgo.NewClient(kgo.SeedBrokers(kafka.Addr), kgo.DefaultProduceTopic("events"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	send := func(partitions ...int32) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, p := range partitions {
			r := &kgo.Record{Partition: p, Value: fmt.Appendf(nil, `{"event_type":"purchase","user_id":"u%d"}`, p)}
			if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(0, 1, 2)
	l.wait(3, time.Minute)
	second.Kill()
	for _, f := range filters {
		f.stop()
	}
	gateway.stop()
	for _, f := range filters {
		f.restart() // and is ready: that is degraded
		testenv.Eventually(t, time.Minute, func() error {
			if body := pageOf(t, f.addr, "/readyz"); !strings.Contains(body, `"status":"degraded"`) || !strings.Contains(body, "partitions [1]") {
				return fmt.Errorf("/readyz: %s, want degraded, partition 1", body)
			}
			return nil
		})
	}
	gateway.restart()
	send(0, 2)
	l.wait(5, time.Minute) // it has resumed
	fresh := p.listen(gateway, "new")
	send(0, 2)
	l.wait(7, time.Minute)
	fresh.wait(2, time.Minute)
	second.Restart()
	send(1, 1)
	l.wait(9, time.Minute)
	fresh.wait(4, time.Minute)
	for _, f := range filters {
		testenv.Eventually(t, time.Minute, func() error {
			if body := pageOf(t, f.addr, "/readyz"); !strings.Contains(body, `"status":"ok"`) {
				return fmt.Errorf("/readyz: %s", body)
			}
			return nil
		})
	}
	for _, got := range []*listener{l, fresh} {
		got.mu.Lock()
		ids := make(map[string]bool)
		for _, e := range got.events {
			ids[e.ID.String()] = true
		}
		if len(ids) != len(got.events) || len(got.gaps) > 0 || !ids["1-2"] {
			t.Errorf("%s: got %d events, %d ids, gaps %v; want no duplicate, no gap, and 1-2 among them", got.subscriber, len(got.events), len(ids), got.gaps)
		}
		got.mu.Unlock()
	}
}

// pageOf returns what a service answers, whatever the status.
func pageOf(t *testing.T, addr, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
