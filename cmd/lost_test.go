package cmd_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/topic"
	"eventstream/wire"
)

// TestKafkaLosesRecords puts back an older copy of Kafka's data while clients are
// connected. They are told a gap, and get what comes after the operator's command.
func TestKafkaLosesRecords(t *testing.T) {
	t.Parallel()
	kafka := testenv.KafkaServer(t)
	redis := testenv.Redis(t)
	p := newPipelineWith(t, redis.Addr, topic.Config{Brokers: []string{kafka.Addr}, Topic: "events", DeliveryTimeout: 2 * time.Minute})
	p.service("api")
	f := p.service("filter")
	p.addFilter(filter.Spec{SubscriberID: "all", MatchAll: true})
	l := p.listen(p.service("gateway"), "all")
	cl, err := kgo.NewClient(kgo.SeedBrokers(kafka.Addr), kgo.DefaultProduceTopic("events"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	sent := 0
	send := func(n int) (offset int64) {
		t.Helper()
		for range n {
			sent++
			r := &kgo.Record{Value: fmt.Appendf(nil, `{"event_id":"e%d","event_type":"purchase","user_id":"u"}`, sent)}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
			cancel()
			offset = r.Offset
		}
		return offset
	}
	send(10)
	l.wait(10, time.Minute)
	restore := kafka.Save()
	f.ready()
	send(20)
	l.wait(30, time.Minute)
	restore()
	testenv.Eventually(t, time.Minute, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, g := range l.gaps {
			if g.Reason == wire.GapLost && len(g.Missing) == 1 && g.Missing[0] == (wire.Missing{Partition: 0, From: 10, To: 30}) {
				return nil
			}
		}
		return fmt.Errorf("gaps %+v, want one of 0-10 to 0-29", l.gaps)
	})
	if at := send(5); at != 14 {
		t.Errorf("an event after the loss is at %d, want 14", at)
	}
	for _, tt := range []struct {
		flags []string
		says  string
	}{
		{nil, "partition 0 ends at 15 in Kafka, and was at 30: 16 records"},
		{[]string{"--yes"}, "partition 0: wrote 16"},
		{[]string{"--yes"}, "nothing to do"},
	} {
		skip := p.start(append([]string{"skip-lost"}, tt.flags...)...)
		if code := skip.wait(time.Minute); code != 0 || !strings.Contains(skip.out.tail(10), tt.says) {
			t.Errorf("skip-lost %v exited with %d, and printed:\n%s\nwant: %s", tt.flags, code, skip.out.tail(10), tt.says)
		}
	}
	if at := send(5); at != 35 {
		t.Errorf("an event after that is at %d, want 35", at)
	}
	l.wait(35, time.Minute)
	f.ready()
	f.stop()
	redis.Do("DEL", "es:{0}:pos")
	skip := p.start("skip-lost", "--yes")
	if code := skip.wait(time.Minute); code != 1 || !strings.Contains(skip.out.tail(10), "partition 0 ends at 36 in Kafka; Redis has no lane of it") {
		t.Errorf("skip-lost without a lane exited with %d, and printed:\n%s", code, skip.out.tail(10))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := make(map[string]bool)
	for _, e := range l.events {
		if seen[e.ID.String()] {
			t.Errorf("id %v came twice", e.ID)
		}
		seen[e.ID.String()] = true
	}
	if len(l.events) != 35 || !seen["0-31"] || seen["0-30"] {
		t.Errorf("got %d events, want 30 from before, and 5 from 0-31 on", len(l.events))
	}
}
