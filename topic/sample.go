package topic

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Sample reads about the last n records of a topic, as many of each partition. It makes
// nothing, and joins no group. It ends when it has them, or when ctx does.
func Sample(ctx context.Context, cfg Config, n int, log *slog.Logger) ([]*kgo.Record, error) {
	cfg = cfg.withDefaults()
	reach := cfg.reach(log)
	asking, err := cfg.client(reach)
	if err != nil {
		return nil, err
	}
	defer asking.Close()
	admin := kadm.NewClient(asking)
	topics, err := admin.ListTopics(ctx, cfg.Topic)
	if err == nil {
		err = topics[cfg.Topic].Err
	}
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", cfg.Topic, err)
	}
	starts, err := admin.ListStartOffsets(ctx, cfg.Topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", cfg.Topic, err)
	}
	ends, err := admin.ListEndOffsets(ctx, cfg.Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", cfg.Topic, err)
	}
	from := make(map[int32]kgo.Offset)
	left := make(map[int32]int64) // ends of partitions that are still to be read
	each := int64(max(1, n/max(1, len(ends[cfg.Topic]))))
	for p, end := range ends[cfg.Topic] {
		if start := starts[cfg.Topic][p].Offset; start < end.Offset {
			from[p], left[p] = kgo.NewOffset().At(max(start, end.Offset-each)), end.Offset
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	cl, err := cfg.client(reach, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{cfg.Topic: from}), kgo.KeepControlRecords(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var records []*kgo.Record
	for len(left) > 0 && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			if end, ok := left[r.Partition]; ok && r.Offset < end && !IsMark(r) {
				records = append(records, r)
			}
			if r.Offset >= left[r.Partition]-1 {
				delete(left, r.Partition)
			}
		})
	}
	return records, nil
}
