package topic

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Producer writes events to the topic. A record counts as written when all
// in-sync replicas have it, and isn't written twice by a retry.
type Producer struct {
	cl  *kgo.Client
	cfg Config
	m   *producerMetrics

	denied atomic.Pointer[denial] // the last one of a dead letter
}

// defaultBatch is what brokers take if nobody has said anything else.
const defaultBatch = 1_000_012

// NewProducer returns a Producer, which must be closed. It connects when there
// is something to produce. reg may be nil.
func NewProducer(cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Producer, error) {
	cfg = cfg.withDefaults()
	cl, err := cfg.client(cfg.reach(log),
		kgo.DefaultProduceTopic(cfg.Topic),
		kgo.ProducerLinger(cfg.Linger),
		kgo.RecordDeliveryTimeout(cfg.DeliveryTimeout),
		kgo.MaxBufferedRecords(50_000),
		kgo.MaxBufferedBytes(64<<20),
		kgo.ProducerBatchMaxBytes(int32(min(cmp.Or(cfg.BatchBytes, defaultBatch), maxRecord))),
	)
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
		if errors.Is(err, kerr.MessageTooLarge) {
			err = fmt.Errorf("the event has %d bytes, and topic %s takes records of %d (max.message.bytes): %w",
				len(r.Value), r.Topic, cmp.Or(p.cfg.BatchBytes, defaultBatch), err)
		}
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

// Close ends the Producer. Records that are not written yet fail.
func (p *Producer) Close() { p.cl.Close() }

// deadLetterVersion is the version of the headers that DeadLetter adds.
const deadLetterVersion = "1"

// DeadLetter writes a record that can't be processed to the dead letter topic,
// with headers that say where it was, which stage refused it and why. It returns
// when the record is written, and doesn't keep rec.
//
// A record that is too large with those headers is cut, since it would stop its
// partition for ever, and has the header dlq.truncated. It fails with ErrDenied where we
// may not write, or there is no such topic and we may not make it.
func (p *Producer) DeadLetter(ctx context.Context, rec *kgo.Record, stage string, cause error) error {
	if d := p.denied.Load(); d != nil && time.Since(d.at) < deniedFor {
		return d.err
	}
	facts := []kgo.RecordHeader{
		{Key: "dlq.topic", Value: []byte(rec.Topic)},
		{Key: "dlq.partition", Value: strconv.AppendInt(nil, int64(rec.Partition), 10)},
		{Key: "dlq.offset", Value: strconv.AppendInt(nil, rec.Offset, 10)},
		{Key: "dlq.timestamp", Value: strconv.AppendInt(nil, rec.Timestamp.UnixMilli(), 10)},
		{Key: "dlq.error", Value: []byte(cause.Error())},
		{Key: "dlq.stage", Value: []byte(stage)},
		{Key: "dlq.version", Value: []byte(deadLetterVersion)},
	}
	letter := &kgo.Record{
		Topic:   p.cfg.DLQ(),
		Key:     bytes.Clone(rec.Key),
		Value:   bytes.Clone(rec.Value),
		Headers: append(cloneHeaders(rec.Headers), facts...),
	}
	err := p.cl.ProduceSync(ctx, letter).FirstErr()
	if errors.Is(err, kerr.MessageTooLarge) {
		err = p.cl.ProduceSync(ctx, &kgo.Record{
			Topic:   letter.Topic,
			Value:   letter.Value[:min(len(letter.Value), truncatedValue)],
			Headers: append(facts, kgo.RecordHeader{Key: "dlq.truncated", Value: []byte("true")}),
		}).FirstErr()
	}
	if err == nil {
		p.m.deadLetters.Inc()
		return nil
	}
	p.m.failures.Inc()
	if errors.Is(err, kerr.UnknownTopicOrPartition) && p.mayNotMake(ctx, letter.Topic) || isDenial(err) {
		err = fmt.Errorf("write to topic %s: %w: %w", letter.Topic, ErrDenied, err)
		p.denied.Store(&denial{time.Now(), err})
		return err
	}
	return fmt.Errorf("write record %d-%d to %s: %w", rec.Partition, rec.Offset, letter.Topic, err)
}

// denial is an answer of Kafka's. It is believed for deniedFor: records that are no events
// may come by the thousand.
type denial struct {
	at  time.Time
	err error
}

const deniedFor = 10 * time.Second

// mayNotMake asks whether we lack the right to make a topic, without making it.
func (p *Producer) mayNotMake(ctx context.Context, name string) bool {
	if p.cfg.NoCreate {
		return false // somebody is to make it
	}
	answer, err := kadm.NewClient(p.cl).ValidateCreateTopics(ctx, 1, -1, nil, name)
	return isDenial(cmp.Or(err, answer[name].Err))
}

// truncatedValue is what is kept of the value of a record that is too large.
const truncatedValue = 256 << 10

func cloneHeaders(headers []kgo.RecordHeader) []kgo.RecordHeader {
	clones := make([]kgo.RecordHeader, len(headers), len(headers)+7)
	for i, h := range headers {
		clones[i] = kgo.RecordHeader{Key: h.Key, Value: bytes.Clone(h.Value)}
	}
	return clones
}
