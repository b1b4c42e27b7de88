package topic

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkConsume reads the same records again and again, from the embedded
// broker in the same process, with all that a worker does but the work.
func BenchmarkConsume(b *testing.B) {
	const partitions, perPartition = 4, 50_000
	log := slog.New(slog.DiscardHandler)
	broker, err := StartBroker(EmbeddedConfig{Dir: b.TempDir(), Topic: "events", Partitions: partitions, RetentionBytes: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.DefaultProduceTopic("events"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		b.Fatal(err)
	}
	value := bytes.Repeat([]byte("0123456789"), 24)
	for p := range int32(partitions) {
		for range perPartition {
			cl.Produce(b.Context(), &kgo.Record{Partition: p, Value: value}, nil)
		}
	}
	cl.Flush(b.Context())
	cl.Close()

	c, err := NewConsumer(Config{Brokers: []string{broker.Addr()}}, nil, log)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	rounds, done := make(chan struct{}), make(chan struct{})
	go func() {
		ended <- c.Run(ctx, func(ctx context.Context, p *Partition) error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-rounds:
				}
				p.SeekTo(0)
				for next := int64(0); next < perPartition; {
					recs, err := p.Next(ctx, time.Second)
					if err != nil {
						return nil
					}
					if len(recs) > 0 {
						next = recs[len(recs)-1].Offset + 1
					}
				}
				done <- struct{}{}
			}
		})
	}()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for range partitions {
			rounds <- struct{}{}
		}
		for range partitions {
			<-done
		}
		n += partitions * perPartition
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	cancel()
	<-ended
}
