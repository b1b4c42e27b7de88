package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"eventstream/lane"
	"eventstream/topic"
)

// errShards reports that other processes serve the same subscribers, divided in
// another number of shards. Gateways follow one division only.
var errShards = errors.New("lanes are served with another number of shards")

func (s *Service) topicOf(info topic.Info) *lane.Topic {
	return &lane.Topic{Name: info.Name, ID: info.ID, Partitions: info.Partitions, Shards: max(s.cfg.Shard.Of, 1)}
}

// find finds the topic and tells the gateways of it. It is made only if no filter
// service ever told of one of its name: if there was one, somebody has deleted it.
func (s *Service) find(ctx context.Context) error {
	var known lane.Topic
	s.retry(ctx, "look for the topic in Redis", func() (err error) {
		if known, err = s.lanes.Topic(ctx); errors.Is(err, lane.ErrNoTopic) {
			err = nil
		}
		return err
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	make := known.Name != s.kafka.Name()
	if !make {
		why := fmt.Errorf("waiting for topic %s, which was there before; if it was deleted, make it anew", s.kafka.Name())
		s.delay.Store(&why)
	}
	info, err := s.kafka.Ensure(ctx, make)
	if err != nil {
		return err
	}
	s.topic.Store(s.topicOf(info))
	s.mu.Lock()
	if s.topics = append(s.topics, info.ID); !make {
		s.topics = append(s.topics, known.ID)
	}
	s.mu.Unlock()
	before := info.Partitions
	if known.ID == info.ID {
		before = min(before, known.Partitions)
	}
	s.fresh.begin(before)
	s.retry(ctx, "announce the topic", func() error { return s.announce(ctx, 0) })
	return ctx.Err()
}

// fresh is which partitions were added to the topic lately. What was written to them
// before they were noticed is for all who are connected, whatever its time: their lanes
// begin where Kafka does.
type fresh struct {
	mu    sync.Mutex
	known int32 // partitions that are not
	since map[int32]time.Time
}

func (f *fresh) begin(partitions int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known, f.since = partitions, make(map[int32]time.Time)
}

// is reports whether a partition was added, and first seen here less than keep ago.
func (f *fresh) is(partition int32, keep time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if partition < f.known {
		return false
	}
	first, ok := f.since[partition]
	if !ok {
		first = time.Now()
		f.since[partition] = first
	}
	return time.Since(first) < keep
}

// askTimeout bounds a question to Kafka what the topic is now.
const askTimeout = 3 * time.Second

// ask returns what Kafka says of the topic now. It is not made.
func (s *Service) ask(ctx context.Context) (topic.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return s.kafka.Ensure(ctx, false)
}

// gone asks Kafka whether our topic is there no more: a partition of which nothing could
// ever be fetched does not tell.
func (s *Service) gone(ctx context.Context) bool {
	info, err := s.ask(ctx)
	return errors.Is(err, kerr.UnknownTopicOrPartition) || err == nil && info.ID != s.topic.Load().ID
}

// announce tells the gateways of the topic, unless they know. It is called for
// each partition before that is taken up, since a store that was wiped has to be told
// again, and partitions may have been added.
func (s *Service) announce(ctx context.Context, partition int32) error {
	ours := s.topic.Load()
	if partition >= ours.Partitions {
		info, err := s.ask(ctx)
		switch {
		case err != nil:
			return err
		case info.ID != ours.ID:
			return fmt.Errorf("partition %d: %w", partition, topic.ErrTopicGone)
		case partition >= info.Partitions:
			return fmt.Errorf("partition %d is not one of the topic's %d", partition, info.Partitions)
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
	case known.ID != ours.ID:
		return s.replace(ctx, known)
	case known.Shards != ours.Shards:
		return s.takeOver(ctx, known)
	case known.Partitions >= ours.Partitions && known.Name == ours.Name:
		// Another process may know of more partitions: only the first word and
		// more of them count.
		return nil
	}
	return s.lanes.SetTopic(ctx, *ours)
}

// replace tells of our topic in the place of another, if ours is the one that Kafka has
// now: another process may have been faster to notice that it was made anew. The lanes
// of the other one go before anybody can take their positions for ours.
func (s *Service) replace(ctx context.Context, old lane.Topic) error {
	ours := s.topic.Load()
	info, err := s.ask(ctx)
	if err != nil {
		return err
	}
	if info.ID != ours.ID {
		return fmt.Errorf("there is another one now: %w", topic.ErrTopicGone)
	}
	s.log.Warn("another topic takes the place of the one that was; its lanes go", "topic", ours.Name, "partitions", ours.Partitions, "before", old.Partitions)
	for i := range old.Shards {
		if err := s.lanes.Retire(ctx, lane.Shard{Index: i, Of: old.Shards}, old.ID, old.Partitions, 0); err != nil {
			return err
		}
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
		if err := s.lanes.Retire(ctx, lane.Shard{Index: i, Of: old.Shards}, old.ID, old.Partitions, s.cfg.Retention); err != nil {
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
