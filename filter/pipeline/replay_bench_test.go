package pipeline

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/topic"
)

// BenchmarkReplay is an hour's worth of events for a thousand subscribers who
// come back at once: in passes that they share, and, of some of them, one by one.
// Kafka's own CPU time is not in it.
func BenchmarkReplay(b *testing.B) {
	const events, partitions = 200_000, 12
	w := benchWorld(b, partitions)
	produceHour(b, w, events, partitions)
	for i := range 1000 {
		w.want(filter.Spec{SubscriberID: fmt.Sprintf("user_%d", i), UserIDs: []string{fmt.Sprintf("user_%d", i)}})
	}
	s := w.startQuietly(b)
	serves(b, s.client(b))
	for _, bench := range []struct {
		name    string
		askers  int
		atOnce  int
		perUser int
	}{{"askers=1000/shared", 1000, 1000, events / 1000}, {"askers=20/one-by-one", 20, 1, events / 1000}} {
		b.Run(fmt.Sprintf("events=%d/%s", events, bench.name), func(b *testing.B) {
			before, scanned := cpu(b), counterValue(b, s.metrics.replayRecords)
			for b.Loop() {
				benchReplays(b, s.Service, bench.askers, bench.atOnce, bench.perUser)
			}
			spent := (cpu(b) - before).Seconds()
			b.ReportMetric(spent/float64(b.N), "cpu-s/op")
			b.ReportMetric((counterValue(b, s.metrics.replayRecords)-scanned)/float64(b.N*events), "scans/op")
			b.ReportMetric(1000*spent/float64(b.N*bench.askers), "cpu-ms/asker")
		})
	}
}

// benchReplays asks for everything, for each of n subscribers.
func benchReplays(b *testing.B, s *Service, n, atOnce, want int) {
	before := counterValue(b, s.metrics.replayEvents)
	serve := replay.Handler(s.Replay, nil, testenv.Log(b))
	places := make(chan struct{}, atOnce)
	var asking sync.WaitGroup
	for i := range n {
		places <- struct{}{}
		asking.Go(func() {
			defer func() { <-places }()
			body := fmt.Sprintf(`{"subscriber":"user_%d","from":[0]}`, i) // by offset, as gateways do: of all partitions
			out := &sink{header: make(http.Header)}
			serve.ServeHTTP(out, httptest.NewRequest("POST", "/replay", strings.NewReader(body)))
			if out.status != 0 || out.bytes < 100*want {
				b.Errorf("user_%d got %d bytes, status %d", i, out.bytes, out.status)
			}
		})
	}
	asking.Wait()
	if got := counterValue(b, s.metrics.replayEvents) - before; got != float64(n*want) {
		b.Errorf("%v events were replayed, want %d", got, n*want)
	}
}

// sink is an asker that reads at once.
type sink struct {
	header http.Header
	status int
	bytes  int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { s.bytes += len(p); return len(p), nil }
func (s *sink) Flush()                      {}

func counterValue(b testing.TB, c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		b.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func produceHour(b *testing.B, w *world, events, partitions int) {
	begin := time.Now().Add(-time.Hour)
	recs := make([]*kgo.Record, 0, 2000)
	for i := range events {
		recs = append(recs, &kgo.Record{
			Partition: int32(i / 1000 % partitions), Timestamp: begin.Add(time.Duration(i) * time.Hour / time.Duration(events)),
			Value: fmt.Appendf(nil, `{"event_id":"%08d","event_type":"purchase","user_id":"user_%d","user_tier":"premium","amount":%d.5,"timestamp":"2026-01-02T03:04:05Z","sku":"%d","country":"United Kingdom","quantity":%d}`,
				i, i%1000, i%300, i%5000, i%12),
		})
		if len(recs) == cap(recs) || i == events-1 {
			w.write(recs...)
			recs = recs[:0]
		}
	}
}

// benchWorld has its topic on the real Kafka, whose CPU time is not ours.
func benchWorld(b *testing.B, partitions int32) *world {
	kcfg := topic.Config{Brokers: testenv.Kafka(b), Topic: testenv.Topic(b), Partitions: partitions}
	kcfg.Group = kcfg.Topic
	return worldOf(b, kcfg, lane.NewMemory())
}

// startQuietly runs a service whose workers go past what is there.
func (w *world) startQuietly(b *testing.B) *running {
	s := w.start()
	testenv.Eventually(b, time.Minute, func() error {
		ends, err := s.kafka.Ends(context.Background())
		if err != nil {
			return err
		}
		for p, end := range ends {
			if _, pos := w.lane(p); pos.Next < end.At {
				return fmt.Errorf("partition %d is at %d of %d", p, pos.Next, end.At)
			}
		}
		return nil
	})
	return s
}
