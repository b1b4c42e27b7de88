package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"eventstream/event"
)

// Past is what ReadAt read.
type Past struct {
	Records []*kgo.Record // in order of their offsets; may be empty
	Next    int64         // where to go on: what is below was read, or is gone
	First   int64         // the oldest offset that Kafka has: what is below is gone
	Holes   Holes         // what compaction took between the offset asked for, or First, and Next; zero if nothing
}

// ReadAt reads some of a partition from an offset on, which must be below the
// partition's end. It has nothing to do with the group: any partition can be
// read, beside what the workers read, and by several at once. It works while Run
// runs. While Kafka can't be reached it tries again, until ctx ends.
func (c *Consumer) ReadAt(ctx context.Context, partition int32, from int64) (Past, error) {
	c.mu.Lock()
	p := c.past
	c.mu.Unlock()
	if p == nil {
		return Past{}, ErrNotRunning
	}
	return p.read(ctx, partition, from)
}

// pastIdle is how long the client of a past stays connected when nobody reads.
const pastIdle = 30 * time.Second

// past reads by single fetches, each for one position: nobody waits for another
// one's records. It has a Kafka client of its own, while somebody reads.
type past struct {
	open func() (*kgo.Client, error)
	cfg  Config
	log  *slog.Logger
	m    *consumerMetrics
	idle time.Duration

	compacts *atomic.Bool // whether the topic is compacted

	mu      sync.Mutex
	cl      *kgo.Client // nil while nobody reads
	readers int
	closing *time.Timer
	stopped bool
	topic   event.TopicID
	leaders map[int32]int32 // nil if they are to be asked for
}

// use returns the client, and what is to be called after it was used.
func (p *past) use() (*kgo.Client, func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil, nil, ErrNotRunning
	}
	if p.cl == nil {
		cl, err := p.open()
		if err != nil {
			return nil, nil, fmt.Errorf("kafka client: %w", err)
		}
		p.cl = cl
	}
	if p.closing != nil {
		p.closing.Stop()
	}
	p.readers++
	return p.cl, p.used, nil
}

func (p *past) used() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readers--; p.readers == 0 && !p.stopped {
		p.closing = time.AfterFunc(p.idle, func() { p.close(false) })
	}
}

// close closes the client: for good, or unless somebody reads again.
func (p *past) close(stop bool) {
	p.mu.Lock()
	p.stopped = p.stopped || stop
	if p.cl == nil || p.readers > 0 && !stop {
		p.mu.Unlock()
		return
	}
	cl := p.cl
	p.cl, p.leaders = nil, nil
	if p.closing != nil {
		p.closing.Stop()
	}
	p.mu.Unlock()
	cl.Close()
}

// pastEmpties is how often Kafka has to say that there is no record before the
// partition's end, until that is believed.
const pastEmpties = 3

func (p *past) read(ctx context.Context, partition int32, from int64) (Past, error) {
	cl, used, err := p.use()
	if err != nil {
		return Past{}, err
	}
	defer used()
	failures, empties := 0, 0
	for {
		got, end, err := p.fetch(ctx, cl, partition, from)
		switch {
		case err == nil && got.Next > from:
			p.m.pastRecords.Add(float64(len(got.Records)))
			return got, nil
		case err == nil && end > from:
			if empties++; empties == pastEmpties { // the records are deleted, or marks of transactions
				got.Next = end
				return got, nil
			}
			continue
		case err == nil:
			err = fmt.Errorf("it ends at %d", end)
		case errors.Is(err, ErrTopicGone):
			return Past{}, err
		}
		if p.undecodable(err) {
			if failures++; failures >= undecodableTries {
				return p.corrupt(got, partition, from, err)
			}
		}
		p.forgetLeaders()
		pause(ctx, backoff(1))
		if ctx.Err() != nil {
			return Past{}, fmt.Errorf("read partition %d at %d: %w (%w)", partition, from, context.Cause(ctx), err)
		}
	}
}

// errBatch reports a batch that can't be decoded.
type errBatch struct{ error }

func (e errBatch) Unwrap() error { return e.error }

func (p *past) undecodable(err error) bool { return errors.As(err, new(errBatch)) }

// corrupt is what the reader does with a batch that can't be decoded.
func (p *past) corrupt(got Past, partition int32, from int64, err error) (Past, error) {
	if !p.cfg.SkipCorrupt {
		return Past{}, fmt.Errorf("read partition %d at %d: a corrupt batch, which can be skipped with SkipCorrupt: %w", partition, from, err)
	}
	p.log.Error("skipping a corrupt batch: its events are lost", "partition", partition, "pos", from, "next", got.Next, "err", err)
	return got, nil
}

// fetch makes one fetch. end is the partition's. If a batch can't be decoded,
// got says where it ends.
func (p *past) fetch(ctx context.Context, cl *kgo.Client, partition int32, from int64) (got Past, end int64, err error) {
	leader, id, err := p.leader(ctx, cl, partition)
	if err != nil {
		return Past{}, 0, err
	}
	resp, err := fetchOne(ctx, cl, leader, p.cfg.Topic, id, partition, from)
	if err != nil {
		return Past{}, 0, err
	}
	level := kgo.ReadUncommitted()
	if committedOnly(cl) {
		level = kgo.ReadCommitted()
	}
	fp, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, IsolationLevel: level, Topic: p.cfg.Topic, Partition: partition,
	}, resp, cl.OptValue(kgo.WithDecompressor).(kgo.Decompressor), nil)
	end = fp.HighWatermark
	if committedOnly(cl) {
		end = fp.LastStableOffset
	}
	_, answer := errors.AsType[*kerr.Error](fp.Err)
	switch {
	case fp.Err == nil || len(fp.Records) > 0:
		got = Past{Records: fp.Records, Next: next, First: max(fp.LogStartOffset, 0)}
		if p.compacts.Load() && next > from {
			got.Holes = p.holes(resp, cl.OptValue(kgo.WithDecompressor).(kgo.Decompressor), max(from, got.First), next)
		}
		return got, end, nil
	case errors.Is(fp.Err, kerr.OffsetOutOfRange):
		return p.outOfRange(ctx, cl, partition, from)
	case errors.Is(fp.Err, kerr.UnknownTopicID):
		return Past{}, 0, fmt.Errorf("read topic %s: %w: %w", p.cfg.Topic, ErrTopicGone, fp.Err)
	case answer:
		return Past{}, 0, fp.Err
	}
	after := afterBatch(resp.RecordBatches, from)
	if large, ok := errors.AsType[*kgo.ErrDecompressTooLarge](fp.Err); ok && large.NextOffset > from {
		after = large.NextOffset
	}
	return Past{Next: after, First: max(fp.LogStartOffset, 0)}, end, errBatch{fp.Err}
}

// outOfRange finds where the log begins.
func (p *past) outOfRange(ctx context.Context, cl *kgo.Client, partition int32, from int64) (Past, int64, error) {
	first, err := offsetOf(ctx, cl, p.cfg.Topic, partition, atStart)
	if err != nil {
		return Past{}, 0, err
	}
	if first <= from {
		return Past{}, 0, fmt.Errorf("it begins at %d, and ends before: %w", first, kerr.OffsetOutOfRange)
	}
	return Past{Next: first, First: first}, 0, nil
}

// leader returns the broker that leads a partition, and the topic's identity.
func (p *past) leader(ctx context.Context, cl *kgo.Client, partition int32) (broker int32, id event.TopicID, err error) {
	p.mu.Lock()
	broker, ok := p.leaders[partition]
	id = p.topic
	p.mu.Unlock()
	if ok {
		return broker, id, nil
	}
	md, err := kadm.NewClient(cl).Metadata(ctx, p.cfg.Topic)
	if err == nil {
		err = md.Topics[p.cfg.Topic].Err
	}
	if err != nil {
		return 0, id, fmt.Errorf("metadata of topic %s: %w", p.cfg.Topic, err)
	}
	t := md.Topics[p.cfg.Topic]
	if id != (event.TopicID{}) && id != event.TopicID(t.ID) {
		return 0, id, fmt.Errorf("read topic %s: %w", p.cfg.Topic, ErrTopicGone)
	}
	leaders := make(map[int32]int32)
	for n, part := range t.Partitions {
		if part.Err == nil && part.Leader >= 0 {
			leaders[n] = part.Leader
		}
	}
	p.mu.Lock()
	p.leaders, p.topic = leaders, event.TopicID(t.ID)
	p.mu.Unlock()
	if broker, ok = leaders[partition]; !ok {
		return 0, id, fmt.Errorf("partition %d: %w", partition, ErrNoLeader)
	}
	return broker, event.TopicID(t.ID), nil
}

func (p *past) forgetLeaders() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaders = nil
}

// committedOnly reports whether the workers' clients are told to read only what was
// committed. What is read once more must be the same.
func committedOnly(cl *kgo.Client) bool {
	level, _ := cl.OptValue(kgo.FetchIsolationLevel).(int8)
	return level == 1
}

// fetchOne returns what a broker answers to a fetch of one partition.
func fetchOne(ctx context.Context, cl *kgo.Client, broker int32, name string, id event.TopicID, partition int32, from int64) (*kmsg.FetchResponseTopicPartition, error) {
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = partition, from, 1<<20
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = name, id
	topic.Partitions = append(topic.Partitions, part)
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(fetchMaxWait.Milliseconds()), 1, 1<<20
	if committedOnly(cl) {
		req.IsolationLevel = 1
	}
	req.Topics = append(req.Topics, topic)
	answer, err := cl.Broker(int(broker)).RetriableRequest(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	resp := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if got := &resp.Topics[i].Partitions[j]; got.Partition == partition {
				return got, nil
			}
		}
	}
	return nil, fmt.Errorf("fetch: the answer lacks the partition: %w", kerr.UnknownTopicOrPartition)
}
