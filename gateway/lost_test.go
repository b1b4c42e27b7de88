package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/internal/ops"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/wire"
)

// What Kafka lost is told as a gap: to those who are connected at once, to those who come
// while it lasts with their hello, to those who come back with a cursor from before, and
// to nobody else.
func TestKafkaLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	g := w.gateway(Config{})
	lost := func(from, to int64) wire.Missing { return wire.Missing{Partition: 1, From: from, To: to} }
	told := func(what string, c *wsClient, want ...wire.Missing) {
		t.Helper()
		var got []wire.Missing
		for _, m := range c.gaps {
			if m.Reason != wire.GapLost || m.To == "" {
				t.Errorf("%s: gap %+v, want one with a cursor, as %s", what, m, wire.GapLost)
			}
			got = append(got, m.Missing...)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s was told of %v, want %v", what, got, want)
		}
	}
	live := connect(t, g, "live", "")
	away := connect(t, g, "away", "")
	for range 10 {
		id := w.publish(1, "live", "away")
		live.untilEvent(id)
		away.untilEvent(id)
	}
	away.ws.CloseNow()
	lose := func(from, to int64) {
		t.Helper()
		if err := w.store.Lose(t.Context(), lane.Shard{}, 1, testTopic, lane.Loss{From: from, To: to}); err != nil {
			t.Fatal(err)
		}
	}
	lose(4, 10)
	live.untilType(wire.Gap)
	told("who is connected", live, lost(4, 10))
	if err := g.Ready(t.Context()); !ops.IsDegraded(err) || !strings.Contains(err.Error(), "partition 1") {
		t.Errorf("Ready: got %v, want degraded, partition 1", err)
	}
	fresh := connect(t, g, "fresh", "")
	fresh.untilType(wire.Gap)
	told("who comes while it lasts", fresh, lost(4, 10))

	next := w.publish(0, "live", "fresh") // the other partition goes on
	live.untilEvent(next)
	fresh.untilEvent(next)
	w.publish(1) // the log has grown to it, and past it
	next = w.publish(1, "live", "fresh", "late", "away")
	live.untilEvent(next)
	fresh.untilEvent(next)
	testenv.Eventually(t, 5*time.Second, func() error { return g.Ready(t.Context()) })

	late := connect(t, g, "late", "")
	next = w.publish(1, "live", "fresh", "late", "away")
	late.untilEvent(next)
	told("who comes when it is over", late)
	back := connect(t, g, "away", away.cursor)
	back.untilEvent(next)
	told("who comes back", back, lost(4, 10))
	if !back.hello.Resumed {
		t.Errorf("hello %+v, want it resumed: what the lane holds comes", back.hello)
	}
	again := connect(t, g, "away", back.gaps[0].To)
	again.untilEvent(next)
	told("who comes back with the cursor of a gap", again, lost(4, 10)) // nothing has come since
	live.untilEvent(next)
	told("who was connected all the time", live, lost(4, 10))
	fresh.untilEvent(next)
	told("who came while it lasted", fresh, lost(4, 10))

	lose(11, 13)
	live.untilType(wire.Gap)
	told("who is connected, of another loss", live, lost(4, 10), lost(11, 13))
	for _, c := range []*wsClient{live, fresh, late, back, again} {
		c.check()
	}
}

// What an operator has passed over is told as a gap: to those who are connected at once, to
// those who come while it lies ahead or come back from before its end with their hello, and
// to nobody else. When it is forgotten, it is told to nobody.
func TestSkipped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	g := w.gateway(Config{})
	told := func(what string, c *wsClient, want ...wire.Missing) {
		t.Helper()
		var got []wire.Missing
		for _, m := range c.gaps {
			if m.Reason != wire.GapSkipped || m.To == "" {
				t.Errorf("%s: gap %+v, want one with a cursor, as %s", what, m, wire.GapSkipped)
			}
			got = append(got, m.Missing...)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s was told of %v, want %v", what, got, want)
		}
	}
	publish := func(subscribers ...string) string { t.Helper(); return w.publish(1, subscribers...) }
	live := connect(t, g, "live", "")
	away := connect(t, g, "away", "")
	for range 5 {
		id := publish("live", "away")
		live.untilEvent(id)
		away.untilEvent(id)
	}
	away.ws.CloseNow()
	skip := func(from, to int64) wire.Missing {
		t.Helper()
		if err := w.store.Skip(t.Context(), lane.Shard{}, 1, testTopic, lane.Skip{From: from, To: to}); err != nil {
			t.Fatal(err)
		}
		w.parts[1].mu.Lock()
		w.parts[1].skips, _ = w.store.Skips(t.Context(), lane.Shard{}, 1)
		w.parts[1].mu.Unlock()
		live.untilType(wire.Gap)
		return wire.Missing{Partition: 1, From: from, To: to}
	}
	first, second := skip(6, 8), skip(10, 11)
	told("who is connected", live, first, second)
	if err := g.Ready(t.Context()); err != nil {
		t.Errorf("Ready: %v", err)
	}
	ahead := connect(t, g, "ahead", "")
	ahead.untilEvent(publish("live", "ahead", "away")) // 5
	told("who comes before it", ahead, first, second)
	publish()
	publish()
	testenv.Eventually(t, 30*time.Second, func() error {
		if at := g.topics.laneReaders()[0].Positions(); at[1] != 8 {
			return fmt.Errorf("at %v, want 8", at)
		}
		return nil
	})
	between := connect(t, g, "between", "")
	between.untilEvent(publish("live", "ahead", "away", "between")) // 8
	told("who comes between the two", between, second)
	publish("live", "ahead", "away", "between") // 9
	publish()
	last := publish("live", "ahead", "away", "between")
	for _, c := range []*wsClient{live, ahead, between} {
		c.untilEvent(last)
	}
	late := connect(t, g, "late", "")
	late.untilEvent(publish("late", "away"))
	told("who comes after it", late)
	back := connect(t, g, "away", away.cursor)
	back.untilEvent(publish("away"))
	told("who comes back", back, first, second)
	if !back.hello.Resumed {
		t.Errorf("hello %+v, want it resumed: what the lane holds comes", back.hello)
	}
	if err := w.store.ForgetSkips(t.Context(), lane.Shard{}, 1, testTopic, 8); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 5*time.Second, func() error {
		if n := len(g.topics.laneReaders()[0].Losses()); n != 1 {
			return fmt.Errorf("%d are known, want 1", n)
		}
		return nil
	})
	told("who was connected all the time", live, first, second)
	for _, c := range []*wsClient{live, ahead, between, late, back} {
		c.check()
	}
}

// A loss is told to who is connected also if the log has grown past it, and more has come,
// before a gateway looks. One that was there when the gateway began is no news.
func TestKafkaLostLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "")
	for range 6 {
		c.untilEvent(w.publish(0, "user_1"))
	}
	if err := w.store.Lose(t.Context(), lane.Shard{}, 0, testTopic, lane.Loss{From: 2, To: 4}); err != nil {
		t.Fatal(err)
	}
	want := []wire.Missing{{Partition: 0, From: 2, To: 4}}
	if gap := c.untilType(wire.Gap); gap.Reason != wire.GapLost || !slices.Equal(gap.Missing, want) {
		t.Errorf("gap %+v, want %s, %v", gap, wire.GapLost, want)
	}
	c.untilEvent(w.publish(0, "user_1"))
	fresh := connect(t, w.gateway(Config{}), "user_1", "")
	fresh.untilEvent(w.publish(0, "user_1"))
	if len(fresh.gaps) > 0 {
		t.Errorf("who came after it was told of %+v", fresh.gaps)
	}
}

// A cursor that is ahead of Kafka, which lost records, and of the lanes, which are filled
// anew: its client is told, and gets nothing with an offset that it may have seen.
func TestCursorAheadOfKafka(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2).replayed()
	w.beats()
	g := w.gateway(Config{})
	for range 4 {
		w.publish(0, "s")
	}
	w.publish(1, "s")
	testenv.Eventually(t, 5*time.Second, func() error {
		if at := g.topics.laneReaders()[0].Positions(); at[0] != 4 || at[1] != 1 {
			return fmt.Errorf("at %v", at)
		}
		return nil
	})
	cursor := event.Cursor{Topic: testTopic, Addr: event.Address{Gateway: 77, Seat: 1}, Next: []int64{10, 0}, Issued: time.Now()}
	r := connect(t, g, "s", cursor.String())
	r.untilType(wire.Gap)
	want := []wire.Missing{{Partition: 0, From: 4, To: 10}}
	if g := r.gaps[0]; g.Reason != wire.GapLost || !slices.Equal(g.Missing, want) {
		t.Errorf("gap %+v, want %s, %v", g, wire.GapLost, want)
	}
	r.untilEvent("1-0")
	for range 6 {
		w.publish(0, "s")
	}
	next := w.publish(0, "s")
	r.untilEvent(next)
	if len(r.seen) != 2 {
		t.Errorf("got %v, want 1-0 and %s alone", r.seen, next)
	}
	r.check()
}
