package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"eventstream/event"
	"eventstream/lane"
)

// Lanes read how far matching has come, and send orders to the gateways.
type Lanes interface {
	Topic(context.Context) (lane.Topic, error)
	Positions(ctx context.Context, sh lane.Shard, n int32) ([]lane.Position, error)
	Tell(context.Context, lane.Order) error
	Ask(ctx context.Context, o lane.Order, wait time.Duration) (answers []lane.Answer, silent []event.Gateway, err error)
}

// lagTimeout bounds the time of one request's lane reads.
const lagTimeout = 2 * time.Second

// lag is the distance between an acknowledged position and how far matching has come.
// It counts all offsets in Kafka, not only events that match.
type lag struct {
	Offsets    int64            `json:"offsets"`
	Partitions map[string]int64 `json:"partitions,omitempty"`
}

// matched is how far matching has come, as it is read for one request.
type matched struct {
	ctx    context.Context
	lanes  Lanes
	redis  *dependency // records the results
	topic  lane.Topic
	err    error // why nothing is known; shown to clients
	shards map[int32]*shardMatched
}

// shardMatched is how far a shard has come, or why that is unknown.
type shardMatched struct {
	next []int64
	err  error
}

var (
	errNoMatching  = errors.New("no filter service has started yet")
	errNoLanes     = errors.New("the lanes can't be read now; the log tells why")
	errOtherTopic  = errors.New("it was acknowledged in a topic that was deleted and made again")
	errNoPartition = errors.New("has no position in the lanes yet")
)

// matched starts reading how far matching has come. ctx bounds all its reads.
func (s *Server) matched(ctx context.Context) *matched {
	m := &matched{ctx: ctx, lanes: s.lanes, redis: s.health.redis, shards: make(map[int32]*shardMatched)}
	var err error
	m.topic, err = s.lanes.Topic(ctx)
	if errors.Is(err, lane.ErrNoTopic) {
		m.err, err = errNoMatching, nil
	}
	if m.redis.saw(err); err != nil {
		m.err = errNoLanes
	}
	return m
}

// lagOf returns how far a subscriber is behind. The error is shown to clients.
func (m *matched) lagOf(a event.Ack) (*lag, error) {
	if m.err != nil {
		return nil, m.err
	}
	if a.Cursor.Topic != m.topic.ID {
		return nil, errOtherTopic
	}
	next, err := m.next(lane.ShardOf(a.Subscriber, m.topic.Shards))
	if err != nil {
		return nil, err
	}
	l := &lag{Partitions: make(map[string]int64)}
	for p, n := range a.Cursor.Behind(next) {
		l.Offsets += n
		l.Partitions[strconv.Itoa(p)] = n
	}
	return l, nil
}

// next returns how far a shard has come in every partition.
func (m *matched) next(shard int32) ([]int64, error) {
	sm := m.shards[shard]
	if sm == nil {
		sm = &shardMatched{}
		sm.next, sm.err = m.read(shard)
		m.shards[shard] = sm
	}
	if sm.err != nil {
		return nil, sm.err
	}
	for p, n := range sm.next {
		if n < 0 {
			return nil, fmt.Errorf("partition %d %w", p, errNoPartition)
		}
	}
	return sm.next, nil
}

func (m *matched) read(shard int32) ([]int64, error) {
	positions, err := m.lanes.Positions(m.ctx, lane.Shard{Index: shard, Of: m.topic.Shards}, m.topic.Partitions)
	if m.redis.saw(err); err != nil {
		return nil, errNoLanes
	}
	next := make([]int64, len(positions))
	for p := range positions {
		next[p] = positions[p].Next
	}
	return next, nil
}

// furthest returns how far the furthest shard has come in each partition.
func (m *matched) furthest() ([]int64, error) {
	if m.err != nil {
		return nil, m.err
	}
	next := make([]int64, m.topic.Partitions)
	for shard := range max(m.topic.Shards, 1) {
		of, err := m.next(shard)
		if err != nil {
			return nil, err
		}
		for p, n := range of {
			next[p] = max(next[p], n)
		}
	}
	return next, nil
}
