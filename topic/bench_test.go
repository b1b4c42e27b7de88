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
	b.Run("partitions=4", func(b *testing.B) { benchmarkConsume(b, 4, 4) })
	b.Run("partitions=4/busy=1", func(b *testing.B) { benchmarkConsume(b, 4, 1) })
}

func benchmarkConsume(b *testing.B, partitions, busy int) {
	const perPartition = 50_000
	log := slog.New(slog.DiscardHandler)
	broker, err := StartBroker(EmbeddedConfig{Dir: b.TempDir(), Topic: "events", Partitions: int32(partitions), RetentionBytes: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.DefaultProduceTopic("events"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		b.Fatal(err)
	}
	value := bytes.Repeat([]byte("0123456789"), 24)
	for p := range int32(busy) {
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
			if int(p.ID) >= busy {
				p.SeekTo(0)
				p.Next(ctx, time.Hour)
				return nil
			}
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
		for range busy {
			rounds <- struct{}{}
		}
		for range busy {
			<-done
		}
		n += busy * perPartition
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	cancel()
	<-ended
}
