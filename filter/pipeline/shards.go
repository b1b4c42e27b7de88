package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"eventstream/lane"
	"eventstream/topic"
)

// errShards reports that other processes serve the same subscribers, divided in
// another number of shards. Gateways follow one division only.
var errShards = errors.New("lanes are served with another number of shards")

func (s *Service) topicOf(info topic.Info) *lane.Topic {
	return &lane.Topic{ID: info.ID, Partitions: info.Partitions, Shards: max(s.cfg.Shard.Of, 1)}
}

// announce tells the gateways of the topic, unless they know. It is called for
// each partition that is taken up, since a store that was wiped has to be told
// again, and partitions may have been added.
func (s *Service) announce(ctx context.Context, partition int32) error {
	ours := s.topic.Load()
	if partition >= ours.Partitions {
		info, err := s.kafka.Ensure(ctx)
		if err != nil {
			return err
		}
		if info.ID != ours.ID || partition >= info.Partitions {
			return fmt.Errorf("partition %d is not one of the topic that this process started with", partition)
		}
		ours = s.topicOf(info)
		s.log.Warn("topic has more partitions than before", "partitions", ours.Partitions)
		s.topic.Store(ours)
	}
	known, err := s.lanes.Topic(ctx)
	switch {
	case errors.Is(err, lane.ErrNoTopic):
		return s.lanes.SetTopic(ctx, *ours)
	case err != nil:
		return err
	case known.ID == ours.ID && known.Shards != ours.Shards:
		return s.takeOver(ctx, known)
	case known.ID == ours.ID && known.Partitions >= ours.Partitions:
		// Another process may know of more partitions: only the first word and
		// more of them count.
		return nil
	}
	return s.lanes.SetTopic(ctx, *ours)
}

// takeOver makes our number of shards the one that counts, if nobody works on the
// lanes of the old one any more: those would have beaten within cfg.Silence, as
// also an idle partition is verified all the time.
func (s *Service) takeOver(ctx context.Context, old lane.Topic) error {
	before, err := s.allBeats(ctx, old)
	if err != nil {
		return err
	}
	if err := sleep(ctx, s.cfg.Silence); err != nil {
		return err
	}
	after, err := s.allBeats(ctx, old)
	if err != nil {
		return err
	}
	ours := s.topic.Load()
	if !slices.Equal(before, after) {
		return fmt.Errorf("%w: %d, and this process is for shard %s; stop those first", errShards, old.Shards, s.cfg.Shard)
	}
	s.log.Warn("number of shards changes; the lanes of the old ones are abandoned", "from", old.Shards, "to", ours.Shards)
	if err := s.lanes.SetTopic(ctx, *ours); err != nil {
		return err
	}
	for i := range old.Shards {
		if err := s.lanes.Retire(ctx, lane.Shard{Index: i, Of: old.Shards}, old.Partitions, s.cfg.Retention); err != nil {
			s.log.Warn("lanes of the old shards stay in the store", "shard", i, "err", err)
		}
	}
	return nil
}

// allBeats returns the beat of each lane of a division into shards.
func (s *Service) allBeats(ctx context.Context, t lane.Topic) ([]int64, error) {
	var out []int64
	for i := range t.Shards {
		positions, err := s.lanes.Positions(ctx, lane.Shard{Index: i, Of: t.Shards}, t.Partitions)
		if err != nil {
			return nil, err
		}
		for _, p := range positions {
			out = append(out, p.Beat)
		}
	}
	return out, nil
}
