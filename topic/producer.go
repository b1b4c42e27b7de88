package topic

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Producer writes events to the topic. A record counts as written when all
// in-sync replicas have it, and isn't written twice by a retry.
type Producer struct {
	cl  *kgo.Client
	cfg Config
	m   *producerMetrics
}

// NewProducer returns a Producer, which must be closed. It connects when there
// is something to produce. reg may be nil.
func NewProducer(cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Producer, error) {
	cfg = cfg.withDefaults()
	cl, err := kgo.NewClient(cfg.clientOptions(&reachability{log: log, brokers: cfg.Brokers},
		kgo.DefaultProduceTopic(cfg.Topic),
		kgo.ProducerLinger(cfg.Linger),
		kgo.RecordDeliveryTimeout(cfg.DeliveryTimeout),
		kgo.MaxBufferedRecords(50_000),
		kgo.MaxBufferedBytes(64<<20),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka producer: %w", err)
	}
	return &Producer{cl: cl, cfg: cfg, m: newProducerMetrics(reg, func() float64 {
		return float64(cl.BufferedProduceRecords())
	})}, nil
}

// Produce hands over one event. Events with the same key, which is the user,
// keep their order. It blocks while the buffer is full. done, which may be nil,
// is called exactly once, from another goroutine, with the record as written or
// the reason why it wasn't; it must not block. The byte slices belong to the
// Producer until then.
func (p *Producer) Produce(ctx context.Context, key, value []byte, headers []kgo.RecordHeader, done func(*kgo.Record, error)) {
	p.cl.Produce(ctx, &kgo.Record{Key: key, Value: value, Headers: headers}, func(r *kgo.Record, err error) {
		if err != nil {
			p.m.failures.Inc()
		} else {
			p.m.records.Inc()
		}
		if done != nil {
			done(r, err)
		}
	})
}

// Flush waits until all records handed over are written or have failed.
func (p *Producer) Flush(ctx context.Context) error {
	if err := p.cl.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// Ping asks a broker whether it is there.
func (p *Producer) Ping(ctx context.Context) error {
	if err := p.cl.Ping(ctx); err != nil {
		return fmt.Errorf("ping Kafka: %w", err)
	}
	return nil
}

// Close ends the Producer. Records that are not written yet fail.
func (p *Producer) Close() { p.cl.Close() }

// deadLetterVersion is the version of the headers that DeadLetter adds.
const deadLetterVersion = "1"

// DeadLetter writes a record that can't be processed to the dead letter topic,
// with headers that say where it was, which stage refused it and why. It returns
// when the record is written, and doesn't keep rec.
func (p *Producer) DeadLetter(ctx context.Context, rec *kgo.Record, stage string, cause error) error {
	letter := &kgo.Record{
		Topic:   p.cfg.DLQ(),
		Key:     bytes.Clone(rec.Key),
		Value:   bytes.Clone(rec.Value),
		Headers: slices.Grow([]kgo.RecordHeader(nil), len(rec.Headers)+7),
	}
	for _, h := range rec.Headers {
		letter.Headers = append(letter.Headers, kgo.RecordHeader{Key: h.Key, Value: bytes.Clone(h.Value)})
	}
	for _, h := range [][2]string{
		{"dlq.topic", rec.Topic},
		{"dlq.partition", strconv.Itoa(int(rec.Partition))},
		{"dlq.offset", strconv.FormatInt(rec.Offset, 10)},
		{"dlq.timestamp", strconv.FormatInt(rec.Timestamp.UnixMilli(), 10)},
		{"dlq.error", cause.Error()},
		{"dlq.stage", stage},
		{"dlq.version", deadLetterVersion},
	} {
		letter.Headers = append(letter.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	if err := p.cl.ProduceSync(ctx, letter).FirstErr(); err != nil {
		p.m.failures.Inc()
		return fmt.Errorf("write record %d-%d to %s: %w", rec.Partition, rec.Offset, letter.Topic, err)
	}
	p.m.deadLetters.Inc()
	return nil
}
