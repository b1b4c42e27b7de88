package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/gateway/presence"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/wire"
)

func TestNotReadyWithoutFilterService(t *testing.T) {
	t.Parallel()
	store := lane.NewMemory()
	g := launchGateway(t, Config{}, store)
	wantUnready(t, g, "waiting for the filter service")
	store.SetTopic(context.Background(), lane.Topic{ID: testTopic, Partitions: 2})
	store.Claim(context.Background(), lane.Shard{}, 0, testTopic, 5, 5)
	testenv.Eventually(t, 5*time.Second, func() error {
		if !strings.Contains(g.logs.String(), "yet to take up every partition") {
			return errors.New("not logged")
		}
		return nil
	})
	wantUnready(t, g, "waiting for the filter service")
	store.Claim(context.Background(), lane.Shard{}, 1, testTopic, 7, 7)
	testenv.Eventually(t, 5*time.Second, func() error { return g.Ready(context.Background()) })
	c := connect(t, g, "user_1", "")
	cur, err := event.ParseCursor(c.cursor)
	if err != nil || !slices.Equal(cur.Next, []int64{5, 7}) {
		t.Errorf("cursor: got %+v, %v; want [5 7]", cur, err)
	}
}

// wantUnready checks that the gateway is not ready, says why, and refuses at once.
func wantUnready(t *testing.T, g *instance, reason string) {
	t.Helper()
	err := g.Ready(context.Background())
	if err == nil || !strings.Contains(err.Error(), reason) {
		t.Errorf("Ready: got %v, want %s", err, reason)
	}
	began := time.Now()
	resp, problem := askRaw(t, g, request("user_1", ""))
	if strings.Contains(reason, ": ") { // it names servers
		reason = storeSilent
	}
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(fmt.Sprint(problem["detail"]), reason) {
		t.Errorf("handshake: got %d %v %v, want 503 with Retry-After and %q", resp.StatusCode, resp.Header, problem, reason)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("refused after %v, want at once", d)
	}
}

func TestStoreTroubles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		set    func(*flaky, int32)
		kind   int32
		reason string
	}{
		{"announce fails", func(f *flaky, k int32) { f.announce.Store(k) }, fails, "announce: connection refused"},
		{"announce hangs", func(f *flaky, k int32) { f.announce.Store(k) }, hangs, "announce: context deadline exceeded"},
		{"heartbeat fails", func(f *flaky, k int32) { f.heartbeat.Store(k) }, fails, "heartbeat: connection refused"},
		{"heartbeat hangs", func(f *flaky, k int32) { f.heartbeat.Store(k) }, hangs, "heartbeat: context deadline exceeded"},
		{"tail fails", func(f *flaky, k int32) { f.tail.Store(k); f.cut() }, fails, "lanes have not answered"},
		{"tail hangs", func(f *flaky, k int32) { f.tail.Store(k); f.cut() }, hangs, "lanes have not answered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			l := &flaky{Memory: w.store}
			g := startGateway(t, Config{}, l)
			before := connect(t, g, "user_1", "")
			tt.set(l, tt.kind)
			began := time.Now()
			askStatus(t, g) // shows an announcement that hangs
			if d := time.Since(began); d > 3*time.Second {
				t.Errorf("a handshake took %v", d)
			}
			testenv.Eventually(t, 15*time.Second, func() error {
				if g.Ready(context.Background()) == nil {
					return errors.New("still ready")
				}
				return nil
			})
			wantUnready(t, g, tt.reason)
			id := w.publish(0, "user_1")
			tt.set(l, works)
			if tt.kind == hangs {
				l.cut()
			}
			testenv.Eventually(t, 10*time.Second, func() error { return g.Ready(context.Background()) })
			before.untilEvent(id)                     // whoever was there lost nothing
			before.untilEvent(w.publish(0, "user_1")) // the lanes are read again
			after := connect(t, g, "user_1", "")
			id = w.publish(0, "user_1")
			after.untilEvent(id)
			before.untilEvent(id)
		})
	}
}

// askStatus makes a handshake and returns its status.
func askStatus(t *testing.T, g *instance) int {
	c := rawConnect(t, g)
	defer c.nc.Close()
	io.WriteString(c.nc, request("somebody", ""))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	return resp.StatusCode
}

// A store that lost everything is told of all seats again, and its lanes are
// filled again: nobody notices.
func TestWipe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c, gone := connect(t, g, "user_1", ""), connect(t, g, "user_2", "")
	gone.ws.CloseNow()
	had := w.publish(0, "user_1")
	c.untilEvent(had)
	w.store.Wipe()
	testenv.Eventually(t, 5*time.Second, func() error {
		if status := askStatus(t, g); status != 101 {
			return fmt.Errorf("handshakes are answered %d", status)
		}
		for seat, want := range map[event.Seat]string{1: "user_1", 2: "user_2"} {
			got, _, _ := w.store.Occupant(context.Background(), event.Address{Gateway: g.id, Seat: seat})
			if got != want {
				return fmt.Errorf("seat %d: got %q, want %q", seat, got, want)
			}
		}
		return nil
	})
	// The filter service goes back to what it holds in Kafka and matches again.
	w.parts[0].next = 0
	w.claim()
	w.publish(0, "user_1")
	next := w.publish(0, "user_1")
	c.untilEvent(next)
	wantIDs(t, c, had, next)
	r := connect(t, g, "user_2", gone.cursor)
	if !r.hello.Resumed {
		t.Errorf("hello: got %+v, want resumed", r.hello)
	}
}

// The store is emptied while a client is sent what it missed at a gateway that has
// died since. The lanes are filled again by somebody who does not know that gateway
// any more: what they hold for the client is addressed to its new seat.
func TestWipedWhileResuming(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	died, g := w.gateway(Config{}), w.gateway(Config{RingBytes: 1})
	c := connect(t, died, "user_1", "")
	c.ws.CloseNow()
	const events = 3000
	publish := func() (last string) {
		for range events {
			last = w.publishSized(0, 4<<10, "user_1")
		}
		return last
	}
	publish()
	if err := died.stop(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		if at := g.topics.laneReaders()[0].Positions()[0]; at < events {
			return fmt.Errorf("the lane is read up to %d", at)
		}
		return nil
	})
	r := connect(t, g, "user_1", c.cursor) // and it reads no further
	w.store.Wipe()
	testenv.Eventually(t, 10*time.Second, func() error {
		if got, _, _ := w.store.Occupant(context.Background(), event.Address{Gateway: g.id, Seat: 1}); got != "user_1" {
			return errors.New("the seat is not announced again")
		}
		return nil
	})
	w.anew()
	last := publish()
	for len(r.order) < events {
		r.untilEvent(event.ID{Offset: int64(len(r.order))}.String())
	}
	r.untilEvent(last)
	r.check()
}

// wiping is emptied, and filled again, just before a seat is announced for the
// first time.
type wiping struct {
	*lane.Memory
	wipe func()
	once sync.Once
}

func (l *wiping) Announce(ctx context.Context, a lane.Announcement) (lane.ControlID, error) {
	if len(a.Joined) > 0 {
		l.once.Do(l.wipe)
	}
	return l.Memory.Announce(ctx, a)
}

// The same before the new seat was announced: the lanes hold nothing for the client
// then, and that is no reason to tell it that nothing came.
func TestWipedBeforeItsSeat(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	died := w.gateway(Config{})
	c := connect(t, died, "user_1", "")
	c.ws.CloseNow()
	w.publish(0, "user_1")
	if err := died.stop(); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, Config{}, &wiping{Memory: w.store, wipe: func() {
		w.store.Wipe()
		w.anew()
		w.publish(0, "user_1")
	}})
	if resp, problem := askRaw(t, g, request("user_1", c.cursor)); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %d %v, want 503", resp.StatusCode, problem)
	}
	w.beats()
	r := connect(t, g, "user_1", c.cursor)
	if gap := r.untilType(wire.Gap); gap.Reason != wire.GapUnknownAddress {
		t.Errorf("gap: got %+v, want %s", gap, wire.GapUnknownAddress)
	}
}

// A lane that is behind what we have read is being filled again: whoever wants
// to resume has to wait for that.
func TestResumeFromBehind(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{RingBytes: 1})
	c := connect(t, g, "user_1", "")
	c.untilEvent(w.publish(0, "user_1"))
	elsewhere := w.gateway(Config{RingBytes: 1})
	w.store.Wipe()
	for _, at := range []*instance{elsewhere, g} {
		resp, problem := askRaw(t, at, request("user_1", c.hello.Cursor))
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
			t.Errorf("got %d %v, want 503 with Retry-After", resp.StatusCode, problem)
		}
	}
	w.parts[0].next = 0
	w.claim()
	id := w.publish(0, "user_1")
	r := connect(t, g, "user_1", c.hello.Cursor)
	r.untilEvent(id)
}

// Of what was trimmed before it was read all clients learn by a gap.
func TestTrimmedBeforeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	l := &flaky{Memory: w.store}
	g := startGateway(t, Config{}, l)
	c := connect(t, g, "user_1", "")
	l.tail.Store(fails)
	l.cut()
	lost := w.publish(0, "user_1")
	w.trim(0)
	l.tail.Store(works)
	if code := c.untilClose(10 * time.Second); code != wire.CloseDrain {
		t.Errorf("close code: got %d, want %d", code, wire.CloseDrain)
	}
	if c.seen[lost] > 0 {
		t.Fatal("it was read in time")
	}
	r := connect(t, g, "user_1", c.cursor)
	if gap := r.untilType(wire.Gap); gap.Reason != wire.GapTrimmed {
		t.Errorf("gap: got %+v, want %s", gap, wire.GapTrimmed)
	}
}

// An entry that can't be read is not passed over. What came before it is delivered.
func TestMalformedEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "")
	c.untilEvent(w.publish(0, "user_1"))
	w.garble(0)
	testenv.Eventually(t, 10*time.Second, func() error {
		if err := g.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "an entry that can't be read") {
			return fmt.Errorf("Ready: got %v", err)
		}
		return nil
	})
	if !strings.Contains(g.logs.String(), "can't be read") || strings.HasSuffix(metric(t, g, "lane_entries_malformed_total"), " 0") {
		t.Error("it is not logged and counted")
	}
}

// garble appends an entry of one event that nobody can read.
func (w *world) garble(p int) {
	w.t.Helper()
	_, at := w.match(nil)
	part := &w.parts[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	a := lane.Append{Partition: int32(p), Topic: testTopic, Expect: part.next, Next: part.next + 1, Last: part.next, Entry: []byte("?"), Synced: at}
	if next, err := w.store.Append(w.t.Context(), a); next != a.Next || err != nil {
		w.t.Fatal(next, err)
	}
	part.next++
}

// An operator may have it count as trimmed: then clients come back, and get what was in it
// from Kafka.
func TestMalformedEntrySkipped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).replayed()
	w.beats()
	g := w.gateway(Config{SkipMalformed: true, RingBytes: 1})
	c := connect(t, g, "user_1", "")
	first := w.publish(0, "user_1")
	c.untilEvent(first)
	w.kafka.add(0, `{"event_type":"x"}`, []string{"user_1"})
	w.garble(0)
	if code := c.untilClose(10 * time.Second); code != wire.CloseDrain {
		t.Errorf("close code: got %d, want %d", code, wire.CloseDrain)
	}
	last := w.publish(0, "user_1")
	testenv.Eventually(t, 10*time.Second, func() error { return g.Ready(t.Context()) })
	r := connect(t, g, "user_1", c.hello.Cursor)
	r.untilEvent(last)
	wantIDs(t, r, first, "0-1", last)
}

// Lost announcements are noticed, and everything is announced again.
func TestForgotten(t *testing.T) {
	w := newWorld(t, 1)
	l := &announceHook{Memory: w.store}
	g := startGateway(t, Config{}, l)
	c := connect(t, g, "user_1", "")
	// Somebody else's announcement in our name puts the sequence back.
	w.store.Announce(context.Background(), lane.Announcement{Gateway: g.id, Seq: 900, All: true, TTL: time.Minute})
	other := connect(t, g, "user_2", "")
	testenv.Eventually(t, 5*time.Second, func() error {
		got, ok, _ := w.store.Occupant(context.Background(), event.Address{Gateway: g.id, Seat: 1})
		if !ok || got != "user_1" {
			return fmt.Errorf("seat 1 is %q's", got)
		}
		return nil
	})
	id := w.publish(0, "user_1", "user_2")
	c.untilEvent(id)
	other.untilEvent(id)
}

// A gateway that the store has not heard of for the resume window may have
// missed events: its clients come back and are told.
func TestCutOffForTooLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	l := &flaky{Memory: w.store}
	g := startGateway(t, Config{ResumeWindow: 2 * time.Second}, l)
	c := connect(t, g, "user_1", "")
	l.heartbeat.Store(fails)
	l.announce.Store(fails)
	testenv.Eventually(t, 10*time.Second, func() error {
		if gateways, _ := w.store.Gateways(context.Background()); len(gateways) > 0 {
			return errors.New("the store still knows the gateway")
		}
		return nil
	})
	l.announce.Store(works)
	l.heartbeat.Store(works)
	if code := c.untilClose(10 * time.Second); code != wire.CloseDrain {
		t.Errorf("close code: got %d, want %d", code, wire.CloseDrain)
	}
	testenv.Eventually(t, 5*time.Second, func() error { return g.Ready(context.Background()) })
	w.beats()
	r := connect(t, g, "user_1", c.cursor)
	if gap := r.untilType(wire.Gap); gap.Reason != wire.GapUnknownAddress {
		t.Errorf("gap: got %+v, want %s", gap, wire.GapUnknownAddress)
	}
	r.untilEvent(w.publish(0, "user_1"))
	w.store.Wipe() // a seat of after the cut is announced again like any other
	testenv.Eventually(t, 5*time.Second, func() error {
		if _, ok, _ := w.store.Occupant(context.Background(), event.Address{Gateway: g.id, Seat: 2}); !ok {
			return errors.New("seat 2 is unknown")
		}
		return nil
	})
}

// The store is emptied while a gateway can't reach it, and somebody who does not
// know of its seats matches on: its clients come back and are told.
func TestWipedOutOfTouch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	l := &flaky{Memory: w.store}
	g := startGateway(t, Config{}, l)
	c := connect(t, g, "user_1", "")
	c.untilEvent(w.publish(0, "user_1"))
	l.heartbeat.Store(fails)
	l.announce.Store(fails)
	began := time.Now()
	w.store.Wipe()
	w.claim()
	w.mu.Lock()
	clear(w.routes) // a new filter service
	w.mu.Unlock()
	lost := w.publish(0, "user_1")
	testenv.Eventually(t, 10*time.Second, func() error {
		if time.Since(began) < presence.OutOfTouch+time.Second {
			return errors.New("not out of touch yet")
		}
		return nil
	})
	l.announce.Store(works)
	l.heartbeat.Store(works)
	if code := c.untilClose(10 * time.Second); code != wire.CloseDrain || c.seen[lost] > 0 {
		t.Errorf("close code %d, event seen %d times; want %d and none", code, c.seen[lost], wire.CloseDrain)
	}
	testenv.Eventually(t, 5*time.Second, func() error { return g.Ready(context.Background()) })
	w.beats()
	r := connect(t, g, "user_1", c.cursor)
	if gap := r.untilType(wire.Gap); gap.Reason != wire.GapUnknownAddress {
		t.Errorf("gap: got %+v, want %s", gap, wire.GapUnknownAddress)
	}
	r.untilEvent(w.publish(0, "user_1"))
}

// The same with a store that came back without its last announcements.
func TestRolledBackOutOfTouch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	l := &flaky{Memory: w.store}
	g := startGateway(t, Config{}, l)
	connect(t, g, "user_2", "")
	before := w.store.Checkpoint()
	c := connect(t, g, "user_1", "")
	l.heartbeat.Store(fails)
	l.announce.Store(fails)
	began := time.Now()
	w.store.Rollback(before)
	w.mu.Lock()
	clear(w.routes) // a new filter service
	w.at = lane.ControlID{}
	w.mu.Unlock()
	lost := w.publish(0, "user_1")
	testenv.Eventually(t, 10*time.Second, func() error {
		if time.Since(began) < presence.OutOfTouch+time.Second {
			return errors.New("not out of touch yet")
		}
		return nil
	})
	l.announce.Store(works)
	l.heartbeat.Store(works)
	if code := c.untilClose(10 * time.Second); code != wire.CloseDrain || c.seen[lost] > 0 {
		t.Errorf("close code %d, event seen %d times; want %d and none", code, c.seen[lost], wire.CloseDrain)
	}
}

// unheard is a store that can be talked to again, of which a heartbeat still finds
// nothing once.
type unheard struct {
	*flaky
	missed atomic.Int32 // heartbeats to come that fail
}

func (l *unheard) Heartbeat(ctx context.Context, g event.Gateway, ttl time.Duration) (lane.Beat, error) {
	if l.missed.Add(-1) >= 0 {
		return lane.Beat{}, errFlaky
	}
	return l.flaky.Heartbeat(ctx, g, ttl)
}

// The same when the store comes back between a heartbeat and what else there is to be
// told: that must not hide what was lost.
func TestWipedOutOfTouchAndTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	l := &unheard{flaky: &flaky{Memory: w.store}}
	g := startGateway(t, Config{}, l)
	c := connect(t, g, "user_1", "")
	c.untilEvent(w.publish(0, "user_1"))
	seat, err := g.presence.Reserve("user_2")
	if err != nil {
		t.Fatal(err)
	}
	l.missed.Store(math.MaxInt32)
	l.announce.Store(fails)
	g.presence.Left(seat, time.Now().Add(-time.Hour)) // it is due, and gives the gateway something to say
	began := time.Now()
	w.store.Wipe()
	w.claim()
	w.mu.Lock()
	clear(w.routes) // a new filter service
	w.mu.Unlock()
	lost := w.publish(0, "user_1")
	testenv.Eventually(t, 10*time.Second, func() error {
		if time.Since(began) < presence.OutOfTouch+time.Second {
			return errors.New("not out of touch yet")
		}
		return nil
	})
	l.missed.Store(1)
	l.announce.Store(works)
	if code := c.untilClose(10 * time.Second); code != wire.CloseDrain || c.seen[lost] > 0 {
		t.Errorf("close code %d, event seen %d times; want %d and none", code, c.seen[lost], wire.CloseDrain)
	}
}
