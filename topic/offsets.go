package topic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrNoLeader reports that a partition has no leader that answers, so that Kafka can
// neither be asked about it nor take records for it. It says nothing of others.
var ErrNoLeader = errors.New("no leader of the partition answers")

// Offset is what Kafka says of one partition: an offset, or why it can't tell.
type Offset struct {
	At  int64
	Err error // mostly ErrNoLeader
}

// Offsets has each partition of a topic.
type Offsets map[int32]Offset

// Range is where the records of one partition are.
type Range struct {
	Oldest int64 // the first offset that Kafka has, or End
	Since  int64 // the first record of the time asked for, or later; or End
	End    int64 // the end of what can be read
	Top    int64 // the next offset that a record gets: what is below and not below End is of transactions that may be open
}

// Questions of ListOffsets beside a time in milliseconds. All but atTop are answered as if
// there were no more than a client can read, which may be what is committed.
const (
	atEnd   = -1
	atStart = -2
	atTop   = math.MinInt64 // the end of all records; Kafka knows it as -1, without regard for transactions
)

// Range asks for one partition alone: the others may have no leader. The end is asked
// for first, and what comes later is not beyond it. It works while Run runs.
func (c *Consumer) Range(ctx context.Context, partition int32, since time.Time) (r Range, err error) {
	rd, _ := c.running()
	if rd == nil {
		return Range{}, ErrNotRunning
	}
	ask := func(to *int64, question int64) {
		if err == nil {
			*to, err = offsetOf(ctx, rd.cl, c.cfg.Topic, partition, question)
		}
	}
	ask(&r.End, atEnd)
	ask(&r.Oldest, atStart)
	ask(&r.Since, max(since.UnixMilli(), 0))
	ask(&r.Top, atTop)
	r.Oldest, r.Since = min(r.Oldest, r.End), min(r.Since, r.End)
	return r, err
}

// Ends returns the end of what can be read of each partition of the topic. It works while
// Run runs.
func (c *Consumer) Ends(ctx context.Context) (Offsets, error) { return c.offsets(ctx, atEnd) }

// Tops returns the next offset that a record of each partition gets, which is beyond Ends
// while a transaction is open. It works while Run runs.
func (c *Consumer) Tops(ctx context.Context) (Offsets, error) { return c.offsets(ctx, atTop) }

// Starts returns the first offset that Kafka has of each partition, or the
// partition's end if it has no record. It works while Run runs.
func (c *Consumer) Starts(ctx context.Context) (Offsets, error) { return c.offsets(ctx, atStart) }

// OffsetsAt returns of each partition the first offset whose record is of t or
// later, or the partition's end if there is none. It works while Run runs.
func (c *Consumer) OffsetsAt(ctx context.Context, t time.Time) (Offsets, error) {
	return c.offsets(ctx, max(t.UnixMilli(), 0))
}

func (c *Consumer) offsets(ctx context.Context, question int64) (Offsets, error) {
	r, _ := c.running()
	if r == nil {
		return nil, ErrNotRunning
	}
	asked := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &c.cfg.Topic
	asked.Topics = append(asked.Topics, topic)
	md, err := r.cl.RequestCachedMetadata(ctx, asked, 0)
	if err != nil {
		return nil, fmt.Errorf("partitions of topic %s: %w", c.cfg.Topic, err)
	}
	var partitions []int32
	for _, t := range md.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return nil, fmt.Errorf("partitions of topic %s: %w", c.cfg.Topic, err)
		}
		for _, p := range t.Partitions {
			partitions = append(partitions, p.Partition)
		}
	}
	return listOffsets(ctx, r.cl, c.cfg.Topic, question, partitions)
}

// offsetOf is listOffsets for one partition.
func offsetOf(ctx context.Context, cl *kgo.Client, topic string, partition int32, question int64) (int64, error) {
	offsets, err := listOffsets(ctx, cl, topic, question, []int32{partition})
	if err != nil {
		return 0, err
	}
	if o := offsets[partition]; o.Err != nil {
		return 0, fmt.Errorf("offsets of partition %d: %w", partition, o.Err)
	}
	return offsets[partition].At, nil
}

// listOffsets asks the leader of each of some partitions. It fails only if nobody tells
// who they are; what fails of one partition stands there. Of a partition without a record of
// the time or later it tells the end that was there before: one that comes while it asks is
// of that time.
func listOffsets(ctx context.Context, cl *kgo.Client, topic string, question int64, partitions []int32) (Offsets, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if question < 0 {
		return askLeaders(ctx, cl, topic, question, partitions)
	}
	ends, err := askLeaders(ctx, cl, topic, atEnd, partitions)
	if err != nil {
		return nil, err
	}
	out, err := askLeaders(ctx, cl, topic, question, partitions)
	for p, o := range out {
		if o.Err == nil && o.At < 0 {
			out[p] = ends[p]
		}
	}
	return out, err
}

func askLeaders(ctx context.Context, cl *kgo.Client, topic string, question int64, partitions []int32) (Offsets, error) {
	out := make(Offsets, len(partitions))
	for _, p := range partitions {
		out[p] = Offset{Err: fmt.Errorf("the answer lacks it: %w", kerr.UnknownTopicOrPartition)}
	}
	for _, shard := range cl.RequestSharded(ctx, listRequest(topic, question, partitions, committedOnly(cl))) {
		if _, answer := errors.AsType[*kerr.Error](shard.Err); shard.Err != nil && shard.Meta.NodeID < 0 && !answer {
			return nil, fmt.Errorf("offsets of topic %s: %w", topic, shard.Err)
		}
		maps.Copy(out, answered(shard))
	}
	return out, nil
}

func listRequest(topic string, question int64, partitions []int32, committed bool) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	if question == atTop {
		question, committed = atEnd, false
	}
	if committed {
		req.IsolationLevel = 1
	}
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for _, id := range partitions {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = id, question
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}

// answered returns what one broker said, or why it did not.
func answered(shard kgo.ResponseShard) Offsets {
	out := make(Offsets)
	if shard.Err != nil {
		for _, t := range shard.Req.(*kmsg.ListOffsetsRequest).Topics {
			for _, p := range t.Partitions {
				out[p.Partition] = Offset{Err: leaderErr(shard.Err)}
			}
		}
		return out
	}
	for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
		for _, p := range t.Partitions {
			out[p.Partition] = Offset{At: p.Offset, Err: leaderErr(kerr.ErrorForCode(p.ErrorCode))}
		}
	}
	return out
}

// leaderErr tells a leader that is missing, or does not answer, from one that refuses, and
// from a partition that does not exist.
func leaderErr(err error) error {
	answer, ok := errors.AsType[*kerr.Error](err)
	if err == nil || ok && !answer.Retriable || errors.Is(err, kerr.UnknownTopicOrPartition) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNoLeader, err)
}
