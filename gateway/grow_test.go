package gateway

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/gateway/presence"
	"eventstream/gateway/uptime"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/wire"
)

// grow gives the topic another partition. No gateway is told yet, nor is there a lane.
func (w *world) grow() (p int) {
	w.parts = append(w.parts, part{})
	if w.kafka != nil {
		w.kafka.set(func() { w.kafka.parts, w.kafka.oldest = append(w.kafka.parts, nil), append(w.kafka.oldest, 0) })
	}
	return len(w.parts) - 1
}

// taken waits until the gateway has taken up all partitions.
func (w *world) taken(g *instance) {
	w.t.Helper()
	testenv.Eventually(w.t, 10*time.Second, func() error {
		if n := int(g.topics.topic.Load().Partitions); n != len(w.parts) {
			return fmt.Errorf("the gateway knows %d partitions of %d", n, len(w.parts))
		}
		return nil
	})
}

// Partitions are added while clients are connected. They get what was written there
// before the gateway knew, their connections stay, and cursors of before and after are
// resumed.
func TestPartitionsAdded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).replayed()
	g := w.gateway(Config{Heartbeat: time.Second})
	c := connect(t, g, "user_1", "")
	short := c.cursor
	first := w.publish(0, "user_1")
	c.untilEvent(first)

	p := w.grow()
	w.claim()
	early := w.publish(p, "user_1")
	c.untilEvent(early)
	w.taken(g)
	late := w.publish(p, "user_1")
	c.untilEvent(late)
	c.until("a cursor of two partitions", func(wire.Message) bool { return len(nextOf(t, c.cursor)) == 2 && nextOf(t, c.cursor)[p] == 2 })
	c.ws.CloseNow()

	missed := w.publish(p, "user_1")
	for cursor, want := range map[string][]string{short: {first, early, late, missed}, c.cursor: {missed}} {
		r := connect(t, g, "user_1", cursor)
		r.untilEvent(missed)
		if slices.Sort(r.order); !r.hello.Resumed || !slices.Equal(r.order, want) {
			t.Errorf("from %v: hello %+v, then %v, want %v", nextOf(t, cursor), r.hello, r.order, want)
		}
		r.ws.CloseNow()
	}
}

// A gateway can't reach the store while that is emptied, and a partition is added. What
// is written to it was matched by somebody who did not know of the gateway: its clients
// come back, and get it from Kafka.
func TestPartitionAddedWhileCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).replayed()
	l := &flaky{Memory: w.store}
	g := started(launch(t, Config{}, l, w.kafka.client, nil))
	c := connect(t, g, "user_1", "")
	set := func(kind int32) {
		for _, what := range []*atomic.Int32{&l.heartbeat, &l.tail, &l.topic} {
			what.Store(kind)
		}
		l.cut()
	}
	set(fails)
	testenv.Eventually(t, 10*time.Second, func() error {
		if age := g.topics.laneReaders()[0].Silence(); age <= presence.OutOfTouch+presence.HeartbeatEvery {
			return fmt.Errorf("out of touch for %v only", age)
		}
		return nil
	})
	w.store.Wipe()
	p := w.grow()
	w.anew()
	missed := w.publish(p, "user_1")
	set(works)
	if code := c.untilClose(10 * time.Second); code != wire.CloseDrain {
		t.Errorf("close code: got %d, want %d", code, wire.CloseDrain)
	}
	w.beats()
	testenv.Eventually(t, 10*time.Second, func() error { return g.Ready(t.Context()) })
	connect(t, g, "user_1", c.cursor).untilEvent(missed)
}

func nextOf(t testing.TB, cursor string) []int64 { return cursorOf(t, cursor).Next }

// Filter services know of a partition before the gateway does. Who is served from Kafka
// meanwhile gets everything all the same.
func TestReplayOfMorePartitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).replayed()
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "")
	c.ws.CloseNow()
	unknown := *cursorOf(t, c.cursor)
	unknown.Addr.Seat += 1000 // it has to be served from Kafka
	first := w.publish(0, "user_1")
	p := w.grow()
	w.kafka.add(p, "{}", nil) // it is in Kafka, and nobody has matched it
	stop := w.beatsOf(0)
	fromCursor := connect(t, g, "user_1", unknown.String())
	since := connectURL(t, g.urlSince("user_1", "1h"), "user_1")
	stop()
	w.claim()
	w.store.Append(t.Context(), lane.Append{Partition: int32(p), Topic: testTopic, Next: 1})
	w.parts[p].next = 1
	late := w.publish(p, "user_1")
	for name, r := range map[string]*wsClient{"a cursor": fromCursor, "since": since} {
		r.untilEvent(late)
		if slices.Sort(r.order); !slices.Equal(r.order, []string{first, late}) {
			t.Errorf("from %s: got %v, want %v", name, r.order, []string{first, late})
		}
	}
	w.taken(g)
}

// beatsOf has one partition's worker beat until the function returned is called.
func (w *world) beatsOf(p int) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for uptime.Sleep(ctx, 20*time.Millisecond) == nil {
			w.beatAt(p)
		}
	}()
	return func() { cancel(); <-done }
}

func cursorOf(t testing.TB, text string) *event.Cursor {
	t.Helper()
	c, err := event.ParseCursor(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A client comes with a cursor of more partitions than its gateway knows: from another
// gateway, that was faster. It is let in as soon as a filter service has told of them.
func TestCursorOfMorePartitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "")
	c.ws.CloseNow()
	long := *cursorOf(t, c.cursor)
	long.Next = append(long.Next, 1)
	if _, resp, err := dialURL(g.url("user_1", long.String())); err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("a partition that nobody knows: got %v, %v, want 503 with Retry-After", resp, err)
	}
	p := w.grow()
	w.claim()
	w.publish(p, "user_1") // which the client has
	r := connect(t, g, "user_1", long.String())
	next := w.publish(p, "user_1")
	r.untilEvent(next)
	if !r.hello.Resumed || !slices.Equal(r.order, []string{next}) {
		t.Errorf("hello %+v, then %v, want %s alone", r.hello, r.order, next)
	}
}

// Whatever partitions a filter service speaks of, nobody is harmed.
func TestReplayOfStrangePartitions(t *testing.T) {
	for name, b := range map[string]replay.Batch{
		"events of a partition that was not asked for": {Partition: 2, Next: 1},
		"a loss there": {Partition: 2, Next: 1, Lost: &replay.Lost{Partition: 2, To: 1, Reason: wire.GapTrimmed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1).replayed()
			g := w.gateway(Config{})
			w.beats()
			c := connect(t, g, "user_1", "")
			c.ws.CloseNow()
			unknown := *cursorOf(t, c.cursor)
			unknown.Addr.Seat += 1000
			w.kafka.set(func() { w.kafka.stray = &b })
			r := connect(t, g, "user_1", unknown.String())
			r.untilEvent(w.publish(0, "user_1"))
			if len(r.gaps) > 0 {
				t.Errorf("told of gaps: %+v", r.gaps)
			}
		})
	}
}
