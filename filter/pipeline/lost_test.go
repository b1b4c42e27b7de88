package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"eventstream/filter"
	"eventstream/internal/ops"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/topic"
	"eventstream/wire"
)

// A Kafka that has lost its newest records gives their offsets a second time. The lane
// tells of that, what has such an offset is passed on neither live nor by a replay, and
// events come again once the log is where it was.
func TestKafkaLosesRecords(t *testing.T) {
	t.Parallel()
	k := testenv.KafkaServer(t)
	w := worldOf(t, topic.Config{Brokers: []string{k.Addr}, Topic: "events", Group: "g", Partitions: 2}, lane.NewMemory())
	w.seat(1, 1, "s")
	w.want(filter.Spec{SubscriberID: "ann", MatchAll: true})
	s := w.start()
	w.produce(0, values("a", 10)...)
	w.produce(1, values("a", 5)...)
	w.reaches(0, 10)
	w.reaches(1, 5)
	restore := k.Save()
	w.produce(0, values("lost", 20)...)
	w.reaches(0, 30)
	restore()
	loss := lane.Loss{From: 10, To: 30}
	noted := func() {
		t.Helper()
		testenv.Eventually(t, 2*patience, func() error {
			if _, pos := w.lane(0); pos.Next != 30 || pos.Lost != loss {
				return fmt.Errorf("lane 0 is %+v, want it at 30, and %v lost", pos, loss)
			}
			err := s.Ready(t.Context())
			if err == nil || ops.IsDegraded(err) || !strings.Contains(err.Error(), "skip-lost") {
				return fmt.Errorf("Ready: got %v, want red, with the remedy", err)
			}
			return nil
		})
	}
	noted()
	if got := metric(t, s, "kafka_lost_offsets_total"); got != 20 {
		t.Errorf("kafka_lost_offsets_total = %v, want 20", got)
	}
	if at := w.produce(0, values("again", 5)...); at != 10 {
		t.Fatalf("the first record after the loss is at %d, want 10", at)
	}
	w.produce(1, values("b", 5)...)
	w.reaches(1, 10)
	w.holds(1, 0, 10, one)
	s.stop()
	s = w.start() // it finds what the one before has noted, and the log a little longer
	noted()

	c := s.client(t)
	serves(t, c)
	got := mustAsk(t, c, replay.Request{Subscriber: "ann", From: []int64{5, 10}, To: []int64{30, 10}})
	var lost []int64
	for _, l := range got.lost {
		if l.Reason != wire.GapLost || l.Partition != 0 {
			t.Errorf("lost: %+v, want it of partition 0, as %s", l, wire.GapLost)
		}
		lost = append(lost, span(l.From, l.To)...)
	}
	slices.Sort(lost)
	if !slices.Equal(got.offsets[0], span(5, 10)) || !slices.Equal(lost, span(10, 30)) {
		t.Errorf("replay: got %v, lost %v, want 5 to 9, and 10 to 29 lost", got.offsets[0], lost)
	}

	written, err := topic.Fill(t.Context(), w.kafka, 0, 31, testenv.Log(t))
	if err != nil || written != 16 {
		t.Fatalf("Fill: %d, %v, want 16", written, err)
	}
	testenv.Eventually(t, 2*patience, func() error { return s.Ready(t.Context()) })
	if at := w.produce(0, values("after", 5)...); at != 31 {
		t.Fatalf("the first record after the fill is at %d, want 31", at)
	}
	w.reaches(0, 36)
	evs, _ := w.lane(0)
	var offsets []int64
	for _, e := range evs {
		offsets = append(offsets, e.offset)
		if strings.Contains(e.data, "again") {
			t.Errorf("an event with an offset that was given before: %d %s", e.offset, e.data)
		}
	}
	if want := append(span(0, 30), span(31, 36)...); !slices.Equal(offsets, want) {
		t.Errorf("the lane holds %v, want %v", offsets, want)
	}
	got = mustAsk(t, c, replay.Request{Subscriber: "ann", From: []int64{5, 10}})
	if want := append(span(5, 10), span(31, 36)...); !slices.Equal(got.offsets[0], want) {
		t.Errorf("replay: got %v, want %v", got.offsets[0], want)
	}
}

// Retention that passes a worker which is running, but slow: its lane is complete only
// from where Kafka begins, which is what readers are told of the gap by.
func TestRetentionPassesARunningWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.kafka.QueueBytes = 10_000
	w.seat(1, 1, "s")
	w.start()
	w.produce(0, values("a", 1)...)
	w.reaches(0, 1)
	hold := make(chan struct{})
	w.store.set(func(op string) error {
		if op == "append" {
			<-hold
		}
		return nil
	}, nil)
	for range 199 { // each a batch, so that the queue is full before the end
		w.produce(0, `{"event_type":"a","pad":"`+strings.Repeat("x", 1000)+`"}`)
	}
	w.deleteBefore(0, 150)
	close(hold)
	w.reaches(0, 200)
	if _, pos := w.lane(0); pos.First != 150 {
		t.Errorf("the lane is complete from %d on, want 150: what Kafka did not have any more is missing", pos.First)
	}
	w.holds(0, 150, 200, one)
}
