package gateway

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"eventstream/event"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/wire"
)

func TestResume(t *testing.T) {
	for _, where := range []string{"same gateway", "other gateway"} {
		t.Run(where, func(t *testing.T) {
			w := newWorld(t, 2)
			a := w.gateway(Config{})
			b := a
			if where == "other gateway" {
				b = w.gateway(Config{})
			}
			c := connect(t, a, "user_1", "")
			w.publish(0, "somebody else")
			had := w.publish(0, "user_1")
			c.untilEvent(had)
			c.ws.CloseNow()
			var want []string
			for i := range 200 {
				want = append(want, w.publishSized(i%2, 1000, "user_1"))
			}
			r := connect(t, b, "user_1", c.cursor)
			want = append(want, w.publish(0, "user_1"))
			r.untilEvent(want[len(want)-1])
			for len(r.seen) < len(want) {
				r.untilType(wire.Events)
			}
			if !r.hello.Resumed || len(r.gaps) > 0 {
				t.Errorf("hello %+v, gaps %+v; want resumed without a gap", r.hello, r.gaps)
			}
			for _, id := range want {
				if r.seen[id] == 0 {
					t.Errorf("event %s is missing", id)
				}
			}
			r.check()
		})
	}
}

// The cursor of a hello can be resumed at once, again and again, by several.
func TestResumeFromHello(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	gateways := []*instance{w.gateway(Config{}), w.gateway(Config{}), w.gateway(Config{})}
	c := connect(t, gateways[0], "user_1", "")
	id := w.publish(0, "user_1")
	cursor := c.hello.Cursor
	for i := range 6 { // a chain, faster than anything settles
		r := connect(t, gateways[i%3], "user_1", cursor)
		twin := connect(t, gateways[(i+1)%3], "user_1", cursor)
		r.untilEvent(id)
		twin.untilEvent(id)
		live := w.publish(0, "user_1")
		r.untilEvent(live)
		twin.untilEvent(live)
		r.check()
		twin.check()
		cursor = r.hello.Cursor
		r.ws.CloseNow()
	}
}

func TestResumeRefused(t *testing.T) {
	w := newWorld(t, 2)
	w.beats()
	g := w.gateway(Config{})
	victim := connect(t, g, "victim", "")
	secret := w.publish(0, "victim")
	victim.untilEvent(secret)
	stolen := victim.hello.Cursor
	victim.ws.CloseNow()

	parse := func() event.Cursor {
		cur, err := event.ParseCursor(stolen)
		if err != nil {
			t.Fatal(err)
		}
		return *cur
	}
	otherTopic, noSeat, oldSeat := parse(), parse(), parse()
	otherTopic.Topic[0]++
	noSeat.Addr.Seat += 1000
	oldSeat.Old, oldSeat.Addr = oldSeat.Addr, event.Address{Gateway: g.id, Seat: 2} // as if thief came from victim
	for _, tt := range []struct{ name, subscriber, cursor, reason string }{
		{"of another subscriber", "thief", stolen, wire.GapUnknownAddress},
		{"with another's old seat", "thief", oldSeat.String(), wire.GapUnknownAddress},
		{"of a seat that nobody had", "victim", noSeat.String(), wire.GapUnknownAddress},
		{"of another topic", "victim", otherTopic.String(), wire.GapOtherTopic},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, g, tt.subscriber, tt.cursor)
			gap := c.untilType(wire.Gap)
			if gap.Reason != tt.reason || gap.From != tt.cursor || c.hello.Resumed {
				t.Errorf("hello %+v, gap %+v; want gap %s", c.hello, gap, tt.reason)
			}
			if _, err := event.ParseCursor(gap.To); err != nil {
				t.Errorf("gap to %q: %v", gap.To, err)
			}
			w.publish(0, "victim")
			id := w.publish(1, tt.subscriber)
			c.untilEvent(id)
			if c.seen[secret] > 0 || tt.subscriber == "thief" && len(c.seen) != 1 {
				t.Errorf("events %v: want only what is the subscriber's from now on", c.order)
			}
			c.ws.CloseNow()
		})
	}
}

// An event may have been matched before a client came whose cursor nobody knows,
// and reach the lane after that: it is missing as well.
func TestGapOfWhatWasMatchedBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "") // and it stays, or the other would get its seat
	unknown, err := event.ParseCursor(c.cursor)
	if err != nil {
		t.Fatal(err)
	}
	unknown.Addr.Seat += 1000
	_, at := w.match(nil)
	came := make(chan *wsClient, 1)
	go func() { came <- connect(t, g, "user_1", unknown.String()) }()
	testenv.Eventually(t, 5*time.Second, func() error {
		if _, ok, _ := w.store.Occupant(t.Context(), event.Address{Gateway: g.id, Seat: 2}); !ok {
			return errors.New("the client is not announced yet")
		}
		return nil
	})
	w.store.Append(t.Context(), lane.Append{Topic: testTopic, Next: 1, Synced: at})
	w.parts[0].next = 1
	w.beats()
	r := <-came
	want := []wire.Missing{{Partition: 0, From: 0, To: 1}}
	if gap := r.untilType(wire.Gap); !slices.Equal(gap.Missing, want) {
		t.Errorf("missing: got %+v, want %+v", gap.Missing, want)
	}
	r.untilEvent(w.publish(0, "user_1"))
}

func TestResumeTrimmed(t *testing.T) {
	w := newWorld(t, 2)
	g := w.gateway(Config{RingBytes: 1})
	c := connect(t, g, "user_1", "")
	c.ws.CloseNow()
	gone := []string{w.publish(0, "user_1"), w.publish(0, "user_1")}
	kept := w.publish(1, "user_1")
	testenv.Eventually(t, 30*time.Second, func() error { // else it finds that it missed them itself
		if at := g.topics.laneReaders()[0].Positions(); at[0] < 2 {
			return fmt.Errorf("the gateway is at %v", at)
		}
		return nil
	})
	w.trim(0)
	left := w.publish(0, "user_1")
	r := connect(t, g, "user_1", c.cursor)
	gap := r.untilType(wire.Gap)
	if gap.Reason != wire.GapTrimmed || r.hello.Resumed {
		t.Errorf("hello %+v, gap %+v; want gap %s", r.hello, gap, wire.GapTrimmed)
	}
	to, err := event.ParseCursor(gap.To)
	if err != nil || to.Next[0] != 2 || to.Next[1] != 0 {
		t.Errorf("gap to %+v, %v; want [2 0]", to, err)
	}
	r.untilEvent(left)
	r.untilEvent(kept)
	for _, id := range gone {
		if r.seen[id] > 0 {
			t.Errorf("event %s came, which was trimmed", id)
		}
	}
	again := connect(t, g, "user_1", gap.To)
	again.untilEvent(left)
	if len(again.gaps) > 0 || !again.hello.Resumed {
		t.Errorf("resumed from the gap's end: hello %+v, gaps %+v; want none", again.hello, again.gaps)
	}
}

// A cursor from before the topic had a partition wants all of that partition.
func TestResumeFewerPartitions(t *testing.T) {
	w := newWorld(t, 2)
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "")
	id := w.publish(1, "user_1")
	c.untilEvent(id)
	cur, _ := event.ParseCursor(c.hello.Cursor)
	cur.Next = cur.Next[:1]
	r := connect(t, g, "user_1", cur.String())
	r.untilEvent(id)
	if !r.hello.Resumed {
		t.Errorf("hello: got %+v, want resumed", r.hello)
	}
}

// A client that takes a long replay in pieces comes further each time.
func TestReplayHasCursors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "")
	c.ws.CloseNow()
	var last string
	for range 2000 {
		last = w.publishSized(0, 4<<10, "user_1")
	}
	r := connect(t, g, "user_1", c.cursor)
	first := r.cursor
	r.until("cursor amid the replay", func(wire.Message) bool { return r.cursor != first })
	if r.seen[last] > 0 {
		t.Fatal("the cursor came only with the end")
	}
	cur, err := event.ParseCursor(r.cursor)
	if err != nil || cur.Next[0] != int64(len(r.order)) {
		t.Errorf("cursor %+v, %v after %d events", cur, err, len(r.order))
	}
	r.untilEvent(last)
	r.check()
}

// Replays of clients that do not read do not keep others waiting.
func TestStalledReplays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "")
	fine := connect(t, g, "user_2", "")
	fine.ws.CloseNow()
	c.ws.CloseNow()
	for range 3000 {
		w.publishSized(0, 4<<10, "user_1")
	}
	id := w.publish(0, "user_2")
	for range 32 {
		r := rawDial(t, g, "user_1", c.cursor)
		r.message()
	}
	r := connect(t, g, "user_2", fine.cursor)
	r.untilEvent(id)
}

// Who comes back soon is served from memory: the store is not asked for lanes.
func TestResumeFromRing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	l := &countingStore{Memory: w.store}
	g := startGateway(t, Config{}, l)
	var gone []*wsClient
	for i := range 50 {
		c := connect(t, g, fmt.Sprint("user_", i), "")
		c.ws.CloseNow()
		gone = append(gone, c)
	}
	var want [50]string
	for i := range want {
		want[i] = w.publish(i%2, fmt.Sprint("user_", i))
	}
	for i, c := range gone {
		r := connect(t, g, fmt.Sprint("user_", i), c.cursor)
		r.untilEvent(want[i])
		wantIDs(t, r, want[i])
	}
	if n := l.ranges.Load(); n > 0 {
		t.Errorf("%d reads of lanes, want none", n)
	}
}

// Clients that resume and leave at once leave no replay behind.
func TestReplayEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	l := &countingStore{Memory: w.store}
	g := startGateway(t, Config{RingBytes: 1}, l)
	c := connect(t, g, "user_1", "")
	c.ws.CloseNow()
	for range 4000 {
		w.publishSized(0, 4<<10, "user_1")
	}
	for range 20 {
		rawDial(t, g, "user_1", c.cursor).nc.Close()
	}
	noneOpen(t, g)
	testenv.Eventually(t, 30*time.Second, func() error {
		if got := metric(t, g, "clients_catching_up"); got != "clients_catching_up 0" {
			return fmt.Errorf("replays go on for nobody: %s", got)
		}
		return nil
	})
	if l.ranges.Load() > 20*10 {
		t.Errorf("%d reads for clients that had left", l.ranges.Load())
	}
}

// While events flow, clients come and go as they like, between gateways, from
// cursors old and new: each has, in the end, every event since its first hello,
// and over one connection none twice and all in order.
func TestResumeProperty(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	resumeProperty(t, w, 5*time.Minute, 0)
}

// The same, while seats are soon forgotten and lanes are trimmed at any moment, so
// that much has to come from Kafka.
func TestResumePropertyKafka(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3).replayed()
	w.beats()
	resumeProperty(t, w, 250*time.Millisecond, 50)
}

// resumeProperty trims a lane at about every so many events, unless that is 0.
func resumeProperty(t *testing.T, w *world, window time.Duration, trimEvery int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w.lag = 3 * time.Millisecond
	var gateways []*instance
	for _, bytes := range []int{1, 4 << 10, 64 << 20} {
		gateways = append(gateways, w.gateway(Config{RingBytes: bytes, ResumeWindow: window}))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	subscribers := []string{"user_0", "user_1", "user_2", "user_3", "user_4", "user_5"}

	published := make([][]string, len(subscribers)) // by the producer
	var pubMu sync.Mutex
	for p := range 3 { // workers of a filter service, none of them punctual
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(p)+100))
			for done := false; !done; {
				select {
				case <-stop:
					done = true
				default:
				}
				i := rng.IntN(len(subscribers))
				pubMu.Lock() // it counts as published when it is in Kafka: before it is matched
				published[i] = append(published[i], w.nextID(p))
				pubMu.Unlock()
				w.publish(p, subscribers[i])
				if trimEvery > 0 && rng.IntN(trimEvery) == 0 {
					w.trimTo(p, rng.Int64N(60))
				}
			}
			w.beat()
		})
	}

	type result struct {
		from int // of published: after the first hello
		seen map[string]bool
	}
	results := make([]result, len(subscribers))
	for i, subscriber := range subscribers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)+1))
			all := result{seen: make(map[string]bool)}
			roam(t, gateways, rng, subscriber, stop, func() {
				pubMu.Lock()
				all.from = len(published[i])
				pubMu.Unlock()
			}, func(id string) { all.seen[id] = true }, func() bool {
				pubMu.Lock()
				defer pubMu.Unlock()
				return !slices.ContainsFunc(published[i][all.from:], func(id string) bool { return !all.seen[id] })
			})
			results[i] = all
		})
	}
	time.AfterFunc(4*time.Second, func() { close(stop) })
	wg.Wait()
	total := 0
	for i, r := range results {
		var lost []string
		for _, id := range published[i][r.from:] {
			total++
			if !r.seen[id] {
				lost = append(lost, id)
			}
		}
		if len(lost) > 0 {
			t.Errorf("%s: %d events are lost (seed %d), such as %v", subscribers[i], len(lost), seed, lost[:min(10, len(lost))])
		}
	}
	t.Logf("%d events", total)
	if total < 100 {
		t.Errorf("only %d events: this tested nothing", total)
	}
}

// roam is a client that resumes at random until stop, and then once more until
// it is complete. Now and then it resumes twice from one cursor, and forgets
// what came the first time.
func roam(t *testing.T, gateways []*instance, rng *rand.Rand, subscriber string, stop chan struct{}, greeted func(), got func(id string), complete func() bool) {
	cursor, deadline := "", time.Now().Add(30*time.Second)
	for final := false; !final; {
		select {
		case <-stop:
			final = true
		default:
		}
		ws, resp, err := dial(gateways[rng.IntN(len(gateways))], subscriber, cursor)
		if resp != nil && resp.StatusCode == http.StatusServiceUnavailable && time.Now().Before(deadline) {
			final = false // a client tries again
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", subscriber, err)
			return
		}
		c := &wsClient{t: t, ws: ws, seen: make(map[string]int)}
		m, err := c.read(5 * time.Second)
		if err != nil || m.Type != wire.Hello || m.Resumed != (cursor != "") {
			t.Errorf("%s: hello %+v, %v", subscriber, m, err)
			return
		}
		if cursor == "" {
			greeted()
		}
		forget := cursor != "" && !final && rng.IntN(4) == 0
		patience, reads := time.Duration(rng.IntN(400))*time.Millisecond, rng.IntN(200)
		if final {
			patience, reads = 10*time.Second, 1<<30
		}
		for end := time.Now().Add(patience); reads > 0 && !(final && complete()); reads-- {
			m, err := c.read(time.Until(end))
			if err != nil {
				break
			}
			for _, e := range m.Events {
				if !forget {
					got(e.ID)
				}
			}
		}
		ws.CloseNow()
		c.check()
		if len(c.gaps) > 0 {
			t.Errorf("%s: gaps %+v", subscriber, c.gaps)
		}
		if !forget {
			cursor = c.cursor
		}
		if final && !complete() && time.Now().Before(deadline) {
			final = false // it was cut off: once more
		}
	}
}

// Seats are given up when their window is over.
func TestSeatsAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.beats()
	g := w.gateway(Config{ResumeWindow: time.Second})
	c := connect(t, g, "user_1", "")
	c.ws.Close(websocket.StatusNormalClosure, "")
	noneOpen(t, g)
	testenv.Eventually(t, 10*time.Second, func() error {
		if _, ok, _ := w.store.Occupant(t.Context(), event.Address{Gateway: g.id, Seat: 1}); ok {
			return fmt.Errorf("the store still has the seat")
		}
		return nil
	})
	r := connect(t, g, "user_1", c.cursor)
	if gap := r.untilType(wire.Gap); gap.Reason != wire.GapUnknownAddress {
		t.Errorf("gap: got %s, want %s", gap.Reason, wire.GapUnknownAddress)
	}
}
