package pipeline

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/internal/testenv"
	"eventstream/lane"
)

// A topic that is deleted is not made again, but waited for. The one that takes its
// place is taken up, and of the lanes of the other one nothing is left.
func TestTopicMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.kafka.Options = []kgo.Opt{kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(200 * time.Millisecond)}
	w.seat(1, 1, "s")
	s, other := w.start(), w.start()
	for p := range int32(3) {
		w.produce(p, values("a", 5)...)
		w.reaches(p, 5)
	}
	w.ready(s)
	w.deleteTopic()
	w.waits(s)
	w.waits(other)
	if w.exists() {
		t.Fatal("the topic was made again")
	}
	w.admin(func(ctx context.Context, adm *kadm.Client) error {
		_, err := adm.CreateTopic(ctx, 2, 1, nil, w.kafka.Topic)
		return err
	})
	w.client.PurgeTopicsFromClient(w.kafka.Topic)
	testenv.Eventually(t, patience, func() error {
		return w.client.ProduceSync(t.Context(), &kgo.Record{Topic: w.kafka.Topic, Partition: 1, Value: []byte(`{"event_type":"a"}`)}).FirstErr()
	})
	memory := w.store.backend.(*lane.Memory)
	testenv.Eventually(t, patience, func() error {
		got, err := memory.Topic(t.Context())
		if err != nil || got.Partitions != 2 || got.ID == w.topic.ID {
			return fmt.Errorf("topic is %+v, %v, want another one with 2 partitions", got, err)
		}
		return nil
	})
	w.reaches(1, 1)
	w.holds(1, 0, 1, one)
	w.ready(s)
	w.ready(other)
	if _, pos := w.lane(2); pos.Next != -1 {
		t.Errorf("the lane of a partition that is gone is at %d", pos.Next)
	}

	w.deleteTopic()
	w.waits(s)
	w.waits(other)
	w.waits(w.start())
	if w.exists() {
		t.Error("the topic was made by a process that started after it was deleted")
	}
}

// waits waits until a service says that its topic is gone.
func (w *world) waits(s *running) {
	w.t.Helper()
	testenv.Eventually(w.t, patience, func() error {
		ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Second)
		defer cancel()
		if err := s.Ready(ctx); err == nil || !strings.Contains(err.Error(), "make it anew") {
			return fmt.Errorf("want it to wait for a topic; ready: %w", err)
		}
		return nil
	})
}

func (w *world) deleteTopic() {
	w.t.Helper()
	w.admin(func(ctx context.Context, adm *kadm.Client) error {
		_, err := adm.DeleteTopic(ctx, w.kafka.Topic)
		return err
	})
}

func (w *world) exists() (there bool) {
	w.t.Helper()
	w.admin(func(ctx context.Context, adm *kadm.Client) error {
		topics, err := adm.ListTopics(ctx, w.kafka.Topic)
		there = topics.Has(w.kafka.Topic)
		return err
	})
	return there
}
