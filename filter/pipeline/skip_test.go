package pipeline

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/wire"
)

// skip has partition 0's lane pass over a range.
func (w *world) skip(from, to int64) {
	w.t.Helper()
	if err := w.store.Skip(context.Background(), lane.Shard{}, 0, w.topic.ID, lane.Skip{From: from, To: to}); err != nil {
		w.t.Fatal(err)
	}
}

// lies checks which offsets the lane of partition 0 holds.
func (w *world) lies(want ...[]int64) {
	w.t.Helper()
	evs, _ := w.lane(0)
	var got []int64
	for _, e := range evs {
		got = append(got, e.offset)
	}
	if want := slices.Concat(want...); !slices.Equal(got, want) {
		w.t.Errorf("the lane holds %v, want %v", got, want)
	}
}

// What is to be passed over is neither matched nor replayed, whoever the worker is, and
// forgotten when Kafka has deleted it.
func TestSkip(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.seat(1, 1, "s")
	w.want(filter.Spec{SubscriberID: "ann", MatchAll: true})
	s := w.start()
	w.produce(0, values("a", 10)...)
	w.reaches(0, 10)
	s.stop()
	w.produce(0, values("b", 20)...)
	w.skip(10, 12) // where the lane is
	w.skip(15, 20) // within a batch
	w.skip(29, 30) // at the end
	s = w.start()
	w.reaches(0, 30)
	w.lies(span(0, 10), span(12, 15), span(20, 29))
	if got := metric(t, s, "skipped_offsets_total"); got != 8 {
		t.Errorf("skipped_offsets_total = %v, want 8", got)
	}
	w.produce(0, values("c", 5)...)
	w.reaches(0, 35)

	c := s.client(t)
	serves(t, c)
	got := mustAsk(t, c, replay.Request{Subscriber: "ann", From: []int64{5}, To: []int64{30}})
	want := []replay.Lost{
		{Partition: 0, From: 10, To: 12, Reason: wire.GapSkipped},
		{Partition: 0, From: 15, To: 20, Reason: wire.GapSkipped},
		{Partition: 0, From: 29, To: 30, Reason: wire.GapSkipped},
	}
	if wanted := slices.Concat(span(5, 10), span(12, 15), span(20, 29)); !slices.Equal(got.offsets[0], wanted) || !slices.Equal(got.lost, want) {
		t.Errorf("replay: got %v, lost %+v, want %v, lost %+v", got.offsets[0], got.lost, wanted, want)
	}
	got = mustAsk(t, c, replay.Request{Subscriber: "ann", From: []int64{16}, To: []int64{18}})
	if len(got.offsets[0]) != 0 || !slices.Equal(got.lost, []replay.Lost{{Partition: 0, From: 16, To: 18, Reason: wire.GapSkipped}}) {
		t.Errorf("replay of a part: got %v, lost %+v", got.offsets[0], got.lost)
	}

	s.stop()
	w.deleteBefore(0, 20)
	w.start()
	testenv.Eventually(t, patience, func() error {
		if skips, err := w.store.Skips(t.Context(), lane.Shard{}, 0); err != nil || skips != "29:30" {
			return fmt.Errorf("to be passed over is %q, %v, want 29:30", skips, err)
		}
		return nil
	})
	w.produce(0, values("d", 5)...)
	w.reaches(0, 40)
	w.lies(span(0, 10), span(12, 15), span(20, 29), span(30, 40))
}

// A worker that has matched a batch, and has yet to append it when a part of it is to be
// passed over, appends no event of that part. It goes on by itself.
func TestSkipWhileMatched(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.seat(1, 1, "s")
	s := w.start()
	w.produce(0, values("a", 1)...)
	w.reaches(0, 1)
	held, hold := make(chan struct{}, 1), make(chan struct{})
	w.store.set(func(op string) error {
		if op == "append" {
			select {
			case held <- struct{}{}:
			default:
			}
			<-hold
		}
		return nil
	}, nil)
	w.produce(0, values("b", 50)...)
	<-held
	w.skip(20, 30)
	close(hold)
	w.reaches(0, 51)
	w.lies(span(0, 20), span(30, 51))
	if got := metric(t, s, "skipped_offsets_total"); got != 10 {
		t.Errorf("skipped_offsets_total = %v, want 10", got)
	}
}

// A worker that has nothing to read learns of a range as well: its lane goes on to beat.
func TestSkipWhileIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.seat(1, 1, "s")
	w.start()
	w.produce(0, values("a", 1)...)
	w.reaches(0, 1)
	w.skip(5, 9)
	beat := w.beat()
	testenv.Eventually(t, patience, func() error {
		if now := w.beat(); now < beat+2 {
			return fmt.Errorf("the lane's beat is %d, and was %d", now, beat)
		}
		return nil
	})
	w.produce(0, values("b", 10)...)
	w.reaches(0, 11)
	w.lies(span(0, 5), span(9, 11))
}

func (w *world) beat() int64 {
	w.t.Helper()
	positions, err := w.store.Positions(context.Background(), lane.Shard{}, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	return positions[0].Beat
}
