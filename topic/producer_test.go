package topic

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/internal/testenv"
)

func producer(t *testing.T, cfg Config) *Producer {
	t.Helper()
	p, err := NewProducer(cfg, prometheus.NewRegistry(), testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// readAll returns the first n records of a topic.
func readAll(t *testing.T, cfg Config, topic string, n int) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var recs []*kgo.Record
	for len(recs) < n {
		fetches := cl.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		recs = append(recs, fetches.Records()...)
	}
	return recs
}

func TestProduce(t *testing.T) {
	onBoth(t, 3, func(t *testing.T, cfg Config) {
		p := producer(t, cfg)
		const n = 300
		acks := make(chan error, n)
		for i := range n {
			key := []byte("user_" + strconv.Itoa(i%10))
			p.Produce(t.Context(), key, []byte(strconv.Itoa(i)), headers("a: b"), func(r *kgo.Record, err error) { acks <- err })
		}
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range n {
			if err := within(t, acks, "ack"); err != nil {
				t.Fatal(err)
			}
		}
		last := make(map[string]int)
		partition := make(map[string]int32)
		for _, r := range readAll(t, cfg, cfg.Topic, n) {
			key := string(r.Key)
			i, _ := strconv.Atoi(string(r.Value))
			if prev, ok := last[key]; ok && (i <= prev || partition[key] != r.Partition) {
				t.Errorf("key %s: got %d in partition %d after %d in partition %d", key, i, r.Partition, prev, partition[key])
			}
			last[key], partition[key] = i, r.Partition
			if len(r.Headers) != 1 || r.Headers[0].Key != "a" {
				t.Errorf("got headers %v, want a: b", r.Headers)
			}
		}
		if got := value(t, p.m.records); got != n {
			t.Errorf("records metric: got %v, want %d", got, n)
		}
	})
}

func TestProduceFailsWhenNobodyAnswers(t *testing.T) {
	t.Parallel()
	cfg := Config{Brokers: []string{testenv.Addr(t)}, DeliveryTimeout: time.Second}
	p := producer(t, cfg)
	acks := make(chan error, 1)
	p.Produce(t.Context(), nil, []byte("x"), nil, func(r *kgo.Record, err error) { acks <- err })
	if err := within(t, acks, "answer"); err == nil {
		t.Error("got no error")
	}
	if got := value(t, p.m.failures); got != 1 {
		t.Errorf("failures metric: got %v, want 1", got)
	}
}

// deadLetter writes one.
func deadLetter(ctx context.Context, p *Producer, rec *kgo.Record) error {
	letters := []Letter{{Record: rec, Stage: "decode", Cause: errors.New("not valid JSON")}}
	p.DeadLetters(ctx, letters)
	return letters[0].Err
}

func TestDeadLetter(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		p := producer(t, cfg)
		rec := &kgo.Record{
			Topic: cfg.Topic, Partition: 3, Offset: 41, Timestamp: time.UnixMilli(1_700_000_000_123),
			Key: []byte("user_1"), Value: []byte("{"), Headers: headers("traceparent: 00-1"),
		}
		if err := deadLetter(t.Context(), p, rec); err != nil {
			t.Fatal(err)
		}
		copy(rec.Value, "x")
		got := readAll(t, cfg, cfg.DLQ(), 1)[0]
		if string(got.Key) != "user_1" || string(got.Value) != "{" {
			t.Errorf("got %q: %q, want them unchanged", got.Key, got.Value)
		}
		want := headers("traceparent: 00-1", "dlq.topic: "+cfg.Topic, "dlq.partition: 3", "dlq.offset: 41",
			"dlq.timestamp: 1700000000123", "dlq.error: not valid JSON", "dlq.stage: decode", "dlq.version: 1")
		if len(got.Headers) != len(want) {
			t.Fatalf("got headers %v, want %v", got.Headers, want)
		}
		for i, h := range got.Headers {
			if h.Key != want[i].Key || string(h.Value) != string(want[i].Value) {
				t.Errorf("header %d: got %s: %s, want %s: %s", i, h.Key, h.Value, want[i].Key, want[i].Value)
			}
		}
	})
}

// An event of the largest size passes a topic that we made. Of one that takes less, the
// producer says so.
func TestLargestEvent(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		value := bytes.Repeat([]byte("x"), event.MaxBytes)
		small := producer(t, cfg)
		failed := make(chan error, 1)
		small.Produce(t.Context(), []byte("user_1"), value, nil, func(_ *kgo.Record, err error) { failed <- err })
		if err := <-failed; err == nil || !strings.Contains(err.Error(), "max.message.bytes") || !strings.Contains(err.Error(), strconv.Itoa(len(value))) {
			t.Errorf("a producer of small batches: %v, want both sizes", err)
		}
		if cfg.BatchBytes = MaxMessage(t.Context(), cfg, testenv.Log(t)); cfg.BatchBytes < event.MaxBytes {
			t.Fatalf("the topic takes %d bytes", cfg.BatchBytes)
		}
		large := producer(t, cfg)
		large.Produce(t.Context(), []byte("user_1"), value, nil, func(_ *kgo.Record, err error) { failed <- err })
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, cfg, cfg.Topic, 1)[0]; len(got.Value) != len(value) {
			t.Errorf("got %d bytes, want %d", len(got.Value), len(value))
		}
	})
}

// A record may be as large as Kafka allows, and then has no room for headers.
func TestDeadLetterOfALargeRecord(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		p := producer(t, cfg)
		rec := &kgo.Record{Topic: cfg.Topic, Key: []byte("user_1"), Value: bytes.Repeat([]byte("x"), 1<<20)}
		if err := deadLetter(t.Context(), p, rec); err != nil {
			t.Fatal(err)
		}
		got := readAll(t, cfg, cfg.DLQ(), 1)[0]
		if last := got.Headers[len(got.Headers)-1]; len(got.Value) != truncatedValue || last.Key != "dlq.truncated" {
			t.Errorf("got %d bytes, last header %s, want %d, dlq.truncated", len(got.Value), last.Key, truncatedValue)
		}
	})
}
