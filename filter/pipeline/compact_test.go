package pipeline

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/topic"
	"eventstream/wire"
)

// What compaction took is told as a gap, from the first to the last offset that is gone, by
// a replay that passes over it, and by no other.
func TestReplayOfCompacted(t *testing.T) {
	t.Parallel()
	kcfg := topic.Config{Brokers: testenv.Kafka(t), Topic: testenv.Topic(t), Partitions: 1}
	kcfg.Group = kcfg.Topic
	w := worldOf(t, kcfg, lane.NewMemory())
	w.admin(func(ctx context.Context, adm *kadm.Client) error {
		var configs []kadm.AlterConfig
		for name, value := range map[string]string{"cleanup.policy": "compact", "segment.ms": "1000", "min.cleanable.dirty.ratio": "0"} {
			configs = append(configs, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
		}
		_, err := adm.AlterTopicConfigs(ctx, configs, kcfg.Topic)
		return err
	})
	s := w.start()
	c := s.client(t)
	serves(t, c)
	w.want(filter.Spec{SubscriberID: "ann", MatchAll: true})
	begin := time.Now().Add(-time.Hour)
	for i, key := range []string{"x", "a", "y", "a", "a", "b", "b", "z"} { // each a segment
		w.write(&kgo.Record{Timestamp: begin.Add(time.Duration(i) * time.Minute), Key: []byte(key), Value: []byte(`{"event_type":"a"}`)})
	}
	left := []int64{0, 2, 4, 6, 7}
	testenv.Eventually(t, 2*patience, func() error {
		got, err := ask(t.Context(), c, replay.Request{Subscriber: "ann", From: []int64{0}})
		if err == nil && !slices.Equal(got.offsets[0], left) {
			err = fmt.Errorf("got %v, want %v when it is compacted", got.offsets[0], left)
		}
		return err
	})
	gone := func(from, to int64) []replay.Lost {
		return []replay.Lost{{From: from, To: to, Reason: wire.GapCompacted}}
	}
	for _, tt := range []struct {
		from, to int64
		want     []int64
		lost     []replay.Lost
	}{
		{0, 8, left, gone(1, 6)},
		{2, 8, left[1:], gone(3, 6)},
		{1, 2, nil, gone(1, 2)},
		{0, 1, left[:1], nil},
		{6, 8, left[3:], nil},
	} {
		got := mustAsk(t, c, replay.Request{Subscriber: "ann", From: []int64{tt.from}, To: []int64{tt.to}})
		if !slices.Equal(got.offsets[0], tt.want) || !slices.Equal(got.lost, tt.lost) {
			t.Errorf("from %d to %d: got %v, lost %+v; want %v, lost %+v", tt.from, tt.to, got.offsets[0], got.lost, tt.want, tt.lost)
		}
	}
}
