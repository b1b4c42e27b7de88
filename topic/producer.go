package topic

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
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

// deadLetterVersion is the version of the headers that DeadLetters adds.
const deadLetterVersion = "1"

// Letter is a record that can't be processed.
type Letter struct {
	Record *kgo.Record
	Stage  string // of processing
	Cause  error
	Err    error // why it was not written: set by DeadLetters
}

// ErrNoDeadLetters reports that none are written, by Config.NoDeadLetters.
var ErrNoDeadLetters = errors.New("dead letters are off")

// DeadLetters writes letters to the dead letter topic, unchanged, with headers that say where
// they come from and what is wrong with them. It waits for all of them at once, and sets the
// Err of each. That is ErrDenied if we have no right to write there.
//
// A record that is too large with those headers is cut, since it would stop its
// partition for ever, and has the header dlq.truncated.
func (p *Producer) DeadLetters(ctx context.Context, letters []Letter) {
	if p.cfg.NoDeadLetters {
		for i := range letters {
			letters[i].Err = ErrNoDeadLetters
		}
		return
	}
	if d := p.denied.Load(); d != nil && time.Since(d.at) < deniedFor {
		for i := range letters {
			letters[i].Err = d.err
		}
		return
	}
	var under sync.WaitGroup
	for i := range letters {
		l := &letters[i]
		rec := l.Record
		under.Add(1)
		p.cl.Produce(ctx, &kgo.Record{
			Topic:   p.cfg.DLQ(),
			Key:     bytes.Clone(rec.Key),
			Value:   bytes.Clone(rec.Value),
			Headers: append(cloneHeaders(rec.Headers), l.facts()...),
		}, func(_ *kgo.Record, err error) {
			l.Err = err
			under.Done()
		})
	}
	under.Wait()
	for i := range letters {
		letters[i].Err = p.lettered(ctx, &letters[i])
	}
}

// lettered returns what became of a letter. One that was too large is written again, cut.
func (p *Producer) lettered(ctx context.Context, l *Letter) error {
	err := l.Err
	if errors.Is(err, kerr.MessageTooLarge) {
		err = p.cl.ProduceSync(ctx, &kgo.Record{
			Topic:   p.cfg.DLQ(),
			Value:   bytes.Clone(l.Record.Value[:min(len(l.Record.Value), truncatedValue)]),
			Headers: append(l.facts(), kgo.RecordHeader{Key: "dlq.truncated", Value: []byte("true")}),
		}).FirstErr()
	}
	if err == nil {
		p.m.deadLetters.Inc()
		return nil
	}
	p.m.failures.Inc()
	if errors.Is(err, kerr.UnknownTopicOrPartition) && p.mayNotMake(ctx, p.cfg.DLQ()) || isDenial(err) {
		err = fmt.Errorf("write to topic %s: %w: %w", p.cfg.DLQ(), ErrDenied, err)
		p.denied.Store(&denial{time.Now(), err})
		return err
	}
	return fmt.Errorf("write record %d-%d to %s: %w", l.Record.Partition, l.Record.Offset, p.cfg.DLQ(), err)
}

// facts are the headers that say what a letter is.
func (l *Letter) facts() []kgo.RecordHeader {
	return []kgo.RecordHeader{
		{Key: "dlq.topic", Value: []byte(l.Record.Topic)},
		{Key: "dlq.partition", Value: strconv.AppendInt(nil, int64(l.Record.Partition), 10)},
		{Key: "dlq.offset", Value: strconv.AppendInt(nil, l.Record.Offset, 10)},
		{Key: "dlq.timestamp", Value: strconv.AppendInt(nil, l.Record.Timestamp.UnixMilli(), 10)},
		{Key: "dlq.error", Value: []byte(l.Cause.Error())},
		{Key: "dlq.stage", Value: []byte(l.Stage)},
		{Key: "dlq.version", Value: []byte(deadLetterVersion)},
	}
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
