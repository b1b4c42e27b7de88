package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"eventstream/lane"
	"eventstream/topic"
)

func (a *app) skipLostCommand() (*cobra.Command, error) {
	var kafka kafkaFlags
	var redis redisFlags
	if err := a.fromEnvAll(&kafka, &redis); err != nil {
		return nil, err
	}
	var yes bool
	c := &cobra.Command{
		Use:   "skip-lost",
		Short: "Go on at once after Kafka has lost its newest records",
		Long: "When Kafka has lost its newest records it gives their offsets, which are the ids of events, a\n" +
			"second time. New events with such ids are not delivered. This writes records without a value\n" +
			"to the partitions concerned until they are past the ids given before: events that come then\n" +
			"are delivered. Those that came before are named in the gap that clients are told of.\n" +
			"Without --yes it says what it would write. Whoever else reads the topic gets these records, too.",
		Example: "  eventstream skip-lost\n  eventstream skip-lost --yes",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := kafka.open(&a.reloads, a.log)
			if err != nil {
				return err
			}
			lanes, err := redis.open(&a.reloads, a.log)
			if err != nil {
				return err
			}
			defer lanes.Close()
			return a.skipLost(c.Context(), cfg, lanes, yes, c.OutOrStdout())
		},
	}
	fs := c.Flags()
	kafka.add(fs)
	redis.add(fs)
	fs.BoolVar(&yes, "yes", yes, "write the records")
	return c, nil
}

// skipTimeout bounds how long servers that are down are waited for.
const skipTimeout = 30 * time.Second

func (a *app) skipLost(ctx context.Context, cfg topic.Config, lanes *lane.Redis, yes bool, out io.Writer) error {
	asking, cancel := context.WithTimeout(ctx, skipTimeout)
	defer cancel()
	t, err := lanes.Topic(asking)
	if err != nil {
		return err
	}
	info, ends, err := topic.Ends(asking, cfg, a.log)
	if err != nil {
		return err
	}
	if info.ID != t.ID {
		return fmt.Errorf("topic %s in Kafka is another one than that of the lanes in Redis: it was made anew, and has lost nothing", cfg.Topic)
	}
	reached, err := reachedBy(asking, lanes, t)
	if err != nil {
		return err
	}
	found, failed := false, error(nil)
	for p, next := range reached {
		end, ok := ends[int32(p)]
		switch {
		case !ok || end.Err != nil:
			failed = errors.Join(failed, fmt.Errorf("partition %d: where does it end? %w", p, end.Err))
			continue
		case next < 0 && end.At == 0:
			fmt.Fprintf(out, "partition %d is empty, and nobody has begun to read it\n", p)
			continue
		case next < 0:
			failed = errors.Join(failed, fmt.Errorf("partition %d ends at %d in Kafka; Redis has no lane of it, so how far it was is not known: wait until a filter service has begun one", p, end.At))
			continue
		case end.At >= next:
			fmt.Fprintf(out, "partition %d ends at %d in Kafka, and its lane is at %d\n", p, end.At, next)
			continue
		}
		found = true
		// One more than was lost: what comes then is past all that was given before.
		fmt.Fprintf(out, "partition %d ends at %d in Kafka, and was at %d: %d records are to be written\n", p, end.At, next, next+1-end.At)
		if !yes {
			continue
		}
		n, err := topic.Fill(ctx, cfg, int32(p), next+1, a.log)
		fmt.Fprintf(out, "partition %d: wrote %d\n", p, n)
		failed = errors.Join(failed, err)
	}
	switch {
	case !found && failed == nil:
		fmt.Fprintln(out, "nothing to do: each partition is at least where its lane is")
	case found && !yes:
		fmt.Fprintln(out, "nothing was written; --yes does it")
	}
	return failed
}

// reachedBy returns how far the lanes of all shards have come, by partition: -1 if one of
// them has none.
func reachedBy(ctx context.Context, lanes *lane.Redis, t lane.Topic) ([]int64, error) {
	reached := make([]int64, t.Partitions)
	for i := range max(t.Shards, 1) {
		positions, err := lanes.Positions(ctx, lane.Shard{Index: i, Of: max(t.Shards, 1)}, t.Partitions)
		if err != nil {
			return nil, err
		}
		for _, p := range positions {
			if to := &reached[p.Partition]; p.Next < 0 || *to < 0 {
				*to = -1
			} else {
				*to = max(*to, p.Next)
			}
		}
	}
	return reached, nil
}
