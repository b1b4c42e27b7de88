package topic

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
)

// fillBatch is how many records are written between two looks at the partition's end.
const fillBatch = 10_000

// Ends tells what the topic is, and where its partitions end, without a Consumer. It
// makes nothing.
func Ends(ctx context.Context, cfg Config, log *slog.Logger) (Info, Offsets, error) {
	info, _, ends, err := Bounds(ctx, cfg, log)
	return info, ends, err
}

// Bounds is Ends, and tells where the partitions begin, too.
func Bounds(ctx context.Context, cfg Config, log *slog.Logger) (info Info, starts, ends Offsets, err error) {
	cfg = cfg.withDefaults()
	cl, err := cfg.client(cfg.reach(log))
	if err != nil {
		return Info{}, nil, nil, err
	}
	defer cl.Close()
	md, err := kadm.NewClient(cl).Metadata(ctx, cfg.Topic)
	if err == nil {
		err = md.Topics[cfg.Topic].Err
	}
	if err != nil {
		return Info{}, nil, nil, fmt.Errorf("metadata of topic %s: %w", cfg.Topic, err)
	}
	t := md.Topics[cfg.Topic]
	info = Info{Name: cfg.Topic, ID: event.TopicID(t.ID), Partitions: int32(len(t.Partitions))}
	if starts, err = listOffsets(ctx, cl, cfg.Topic, atStart, t.Partitions.Numbers()); err == nil {
		ends, err = listOffsets(ctx, cl, cfg.Topic, atEnd, t.Partitions.Numbers())
	}
	return info, starts, ends, err
}

// Fill writes records without a value to a partition until its end is at least upTo,
// so that what comes then has an offset that was never given before. It returns how many
// it wrote: fewer than that are missing, if others write as well.
func Fill(ctx context.Context, cfg Config, partition int32, upTo int64, log *slog.Logger) (written int64, err error) {
	cfg = cfg.withDefaults()
	cl, err := cfg.client(cfg.reach(log),
		kgo.DefaultProduceTopic(cfg.Topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(cfg.DeliveryTimeout),
		kgo.MaxBufferedRecords(fillBatch),
	)
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	for {
		end, err := offsetOf(ctx, cl, cfg.Topic, partition, atEnd)
		if err != nil || end >= upTo {
			return written, err
		}
		records := make([]*kgo.Record, min(upTo-end, fillBatch))
		for i := range records {
			// A topic that is compacted takes no record without a key.
			records[i] = &kgo.Record{Partition: partition, Key: []byte("eventstream-lost")}
		}
		if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return written, fmt.Errorf("write to partition %d: %w", partition, err)
		}
		written += int64(len(records))
	}
}
