package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/replay"
)

// Events of transactions that were aborted or are open are neither delivered nor replayed,
// and marks of transactions hold nothing up. A lane that is ahead, since it was written by a
// service which read all there was, is no sign that Kafka lost anything.
func TestTransactions(t *testing.T) {
	t.Parallel()
	w := newRealWorld(t, testenv.Redis(t), 1)
	w.seat(1, 1, "s")
	w.want(filter.Spec{SubscriberID: "s", MatchAll: true})
	x, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.Brokers...), kgo.DefaultProduceTopic(w.kafka.Topic), kgo.TransactionalID(w.kafka.Topic))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	begin := func(name string) {
		t.Helper()
		err := x.BeginTransaction()
		if err == nil {
			err = x.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprintf(`{"event_type":%q}`, name))).FirstErr()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	end := func(commit kgo.TransactionEndTry) {
		t.Helper()
		if err := x.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	begin("committed")
	end(kgo.TryCommit)
	begin("aborted")
	end(kgo.TryAbort)
	begin("open")

	s := w.start()
	c := s.client(t)
	w.reaches(0, 4)
	w.ready(s)
	offsets := func(want ...int64) {
		t.Helper()
		evs, _ := w.lane(0)
		var got []int64
		for _, e := range evs {
			got = append(got, e.offset)
		}
		if !slices.Equal(got, want) {
			t.Errorf("the lane holds %v, want %v", got, want)
		}
	}
	offsets(0)
	testenv.Eventually(t, patience, func() error {
		if lag := metric(t, s, "kafka_lag_events"); lag != 0 {
			return fmt.Errorf("a lag of %v", lag)
		}
		return nil
	})
	for _, r := range []replay.Request{
		{Subscriber: "s", Since: time.Now().Add(-time.Hour)},
		{Subscriber: "s", Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)},
		{Subscriber: "s", From: []int64{0}},
	} {
		if got := mustAsk(t, c, r); !slices.Equal(got.offsets[0], []int64{0}) || got.to[0] != 4 || len(got.lost) > 0 {
			t.Errorf("%+v: got %+v, want offset 0, up to 4", r, got)
		}
	}
	s.stop()

	w.kafka.Uncommitted = true
	s = w.start()
	w.reaches(0, 5)
	offsets(0, 4) // what is behind the lane is not read again
	s.stop()
	w.kafka.Uncommitted = false
	s = w.start()
	c = s.client(t)
	w.ready(s)
	if got := metric(t, s, "kafka_lost_offsets_total"); got != 0 {
		t.Errorf("%v offsets count as lost", got)
	}
	if _, err := ask(t.Context(), c, replay.Request{Subscriber: "s", From: []int64{5}}); !errors.Is(err, replay.ErrUnavailable) || !strings.Contains(err.Error(), "whether they will be committed") {
		t.Errorf("a replay from behind an open transaction: got %v, want %v", err, replay.ErrUnavailable)
	}
	end(kgo.TryCommit)
	begin("last")
	end(kgo.TryCommit)
	w.reaches(0, 8)
	offsets(0, 4, 6)
	if got := mustAsk(t, c, replay.Request{Subscriber: "s", From: []int64{5}}); !slices.Equal(got.offsets[0], []int64{6}) || got.to[0] != 8 {
		t.Errorf("got %+v, want offset 6, up to 8", got)
	}
	s.stop()
}
