package gateway

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/gateway/position"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/wire"
)

// walker is a client that leaves again and again, and says each time what it has.
type walker struct {
	t      *testing.T
	cursor string
	since  []int64        // what came since the cursor
	got    map[string]int // how often each event came
	told   int            // how often it said what it had
}

// walk reads so many messages with events over a connection to g, and breaks it.
func (k *walker) walk(g *instance, messages int) {
	k.t.Helper()
	q := url.Values{"max_message": {"1024"}}
	if k.since != nil {
		q.Set("seen", string(event.AppendSeen(nil, k.since)))
		k.told++
	}
	c := connectURL(k.t, g.url("user_1", k.cursor)+"&"+q.Encode(), "user_1")
	if k.cursor != "" && !c.hello.Resumed {
		k.t.Errorf("hello %+v, want it resumed", c.hello)
	}
	k.take(c.hello)
	for range messages {
		k.take(c.untilType(wire.Events))
	}
	c.ws.CloseNow()
	c.check()
	if len(c.gaps) > 0 {
		k.t.Errorf("gaps %+v", c.gaps)
	}
}

func (k *walker) take(m wire.Message) {
	for _, e := range m.Events {
		k.got[e.ID]++
		id, err := event.ParseID(e.ID)
		if err != nil {
			k.t.Error(err)
		}
		k.since = position.Extend(k.since, int(id.Partition)+1)
		k.since[id.Partition] = id.Offset + 1
	}
	if m.Cursor != "" {
		k.cursor, k.since = m.Cursor, nil
	}
}

// once checks that everything came, and nothing twice.
func (k *walker) once(want []string) {
	k.t.Helper()
	for _, id := range want {
		if k.got[id] != 1 {
			k.t.Errorf("event %s came %d times", id, k.got[id])
		}
	}
	if len(k.got) != len(want) {
		k.t.Errorf("%d events came, want %d", len(k.got), len(want))
	}
}

// A client that says what it has got since its cursor gets nothing twice, and loses nothing,
// after whichever message of a burst it breaks off, and wherever the rest comes from.
func TestSeen(t *testing.T) {
	t.Parallel()
	const partitions, events = 3, 60
	for _, tt := range []struct {
		name     string
		kafka    bool
		cfg      Config
		gateways int
		between  func(w *world, k *walker, i int)
	}{
		{name: "same gateway", gateways: 1},
		{name: "other gateway", gateways: 3},
		{name: "from the lanes", cfg: Config{RingBytes: 1}, gateways: 2},
		{name: "from Kafka", kafka: true, gateways: 2, between: func(_ *world, k *walker, i int) {
			if i%3 > 0 { // nobody knows the seat any more
				cur := cursorOf(k.t, k.cursor)
				cur.Addr.Seat, cur.Old = cur.Addr.Seat+1000, event.Address{}
				k.cursor = cur.String()
			}
		}},
		{name: "trimmed lanes", kafka: true, cfg: Config{RingBytes: 1}, gateways: 2, between: func(w *world, _ *walker, i int) {
			w.trim(i % partitions)
		}},
		{name: "an emptied Redis", kafka: true, cfg: Config{RingBytes: 1}, gateways: 2, between: func(w *world, k *walker, i int) {
			if i%5 == 2 {
				w.refill(cursorOf(k.t, k.cursor).Addr)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, partitions)
			if tt.kafka {
				w = w.replayed()
			}
			w.beats()
			var gateways []*instance
			for range tt.gateways {
				gateways = append(gateways, w.gateway(tt.cfg))
			}
			k := &walker{t: t, got: make(map[string]int)}
			k.walk(gateways[0], 0)
			var want []string
			publish := func(n int) {
				for range n {
					if i := len(want); i < events {
						want = append(want, w.publishSized(i*i%partitions, 600, "user_1"))
						w.publish(i%partitions, "user_2")
					}
				}
			}
			publish(events / 2)
			for i := 0; len(k.got) < events; i++ {
				publish(3)
				k.walk(gateways[i%len(gateways)], min(i%6, len(want)-len(k.got)))
				if tt.between != nil {
					tt.between(w, k, i)
				}
				if t.Failed() {
					break
				}
			}
			want = append(want, w.publish(0, "user_1"))
			k.walk(gateways[0], 1)
			k.once(want)
			if k.told < 5 {
				t.Errorf("it said %d times what it has: this tested little", k.told)
			}
		})
	}
}

// refill empties the store and fills it again, once the address is known there.
func (w *world) refill(a event.Address) {
	w.t.Helper()
	w.store.Wipe()
	testenv.Eventually(w.t, 30*time.Second, func() error {
		if _, ok, _ := w.store.Occupant(w.t.Context(), a); !ok {
			return errors.New("the seat is not announced again")
		}
		return nil
	})
	for p := range w.parts {
		part := &w.parts[p]
		part.mu.Lock()
		part.next, part.end = 0, max(part.end, part.next)
		part.mu.Unlock()
	}
	w.claim()
	for p, records := range w.kafka.parts {
		for _, r := range records {
			part := &w.parts[p]
			part.mu.Lock()
			w.append(part, p, r.data, r.to)
			part.mu.Unlock()
		}
	}
}

// An EventSource says it by its last event ID, which every message with events has.
func TestSeenSSE(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.beats()
	gateways := []*instance{w.gateway(Config{}), w.gateway(Config{})}
	k := &walker{t: t, got: make(map[string]int)}
	var want []string
	first, _ := sseConnect(t, gateways[0], "subscriber_id=user_1", "")
	begin := first.Last
	first.nc.Close()
	for i, last := 0, begin; len(want) < 60 || len(k.got) < len(want); i++ {
		// What its URL says is of the beginning.
		c, hello := sseConnect(t, gateways[i%2], "subscriber_id=user_1&max_message=1024&seen=7-1&cursor="+begin, last)
		if !hello.Resumed {
			t.Errorf("hello %+v, want it resumed", hello)
		}
		for range 5 {
			if len(want) < 60 {
				want = append(want, w.publishSized(i%3, 600, "user_1"))
			}
		}
		for n := min(i%6, len(want)-len(k.got)); n > 0; {
			if m := c.message(); m.Type == wire.Events {
				k.take(m)
				n--
			}
		}
		last = c.Last
		c.nc.Close()
		c.got.check()
	}
	k.once(want)
}

// What can't be what a client got is refused, before it can lose anything by it.
func TestSeenRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.beats()
	g := started(launchGateway(t, Config{timeout: 20 * time.Second}, w.store))
	c := connect(t, g, "user_1", "")
	for range 3 {
		c.untilEvent(w.publish(0, "user_1"))
	}
	cur := cursorOf(t, c.hello.Cursor)
	cur.Next = []int64{1, 0}
	cursor := cur.String()
	foreign := *cur
	foreign.Topic[0]++
	for _, tt := range []struct{ cursor, seen, want string }{
		{cursor, "0", `"0" is no event id`},
		{cursor, "0-2,", "is no event id"},
		{cursor, "0-1,0-2", "partition 0 is there twice"},
		{cursor, "0-0", "0-0 is below the cursor, which is at 0-1"},
		{cursor, "4096-1", "at most 4096 partitions"},
		{cursor, "2-1", "partitions 0 to 1, and no 2"},
		{cursor, "0-3", "there is no event 0-3 yet, the next one is 0-3"},
		{cursor, "0-2,1-0", "there is no event 1-0 yet"},
		{cursor, "0-9000000000000000000", "there is no event"},
		{"", "0-1", "beside the cursor"},
	} {
		for _, path := range []string{"/ws", "/sse"} {
			text := strings.Replace(request("user_1", tt.cursor), "GET /ws?", "GET "+path+"?seen="+url.QueryEscape(tt.seen)+"&", 1)
			resp, problem := askRaw(t, g, text)
			detail := fmt.Sprint(problem["detail"])
			if resp.StatusCode != 400 || problem["type"] != "urn:eventstream:problem:bad-seen" || !strings.Contains(detail, tt.want) {
				t.Errorf("%s?seen=%s: got %d %v, want 400 with %q", path, tt.seen, resp.StatusCode, problem, tt.want)
			}
		}
	}
	// Events of another topic say nothing of this one.
	r := connectURL(t, g.url("user_1", foreign.String())+"&seen=0-900,7-5", "user_1")
	if gap := r.untilType(wire.Gap); gap.Reason != wire.GapOtherTopic {
		t.Errorf("gap %+v, want %s", gap, wire.GapOtherTopic)
	}
	r.untilEvent(w.publish(0, "user_1"))
	r = connectURL(t, g.url("user_1", cursor)+"&seen=0-2", "user_1")
	next := w.publish(0, "user_1")
	r.untilEvent(next)
	wantIDs(t, r, "0-3", next)
}

// The gateway that a client comes from may be ahead for a moment: that is waited for. While
// nobody works on a partition, nobody can say what there is.
func TestSeenAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := started(launchGateway(t, Config{timeout: 20 * time.Second}, w.store))
	c := connect(t, g, "user_1", "")
	c.ws.CloseNow()
	noneOpen(t, g)
	came := make(chan *wsClient, 1)
	go func() { came <- connectSeen(t, g, c.cursor, "0-0") }()
	testenv.Eventually(t, 30*time.Second, func() error {
		if g.gate.open.Load() == 0 {
			return errors.New("the client is not there yet")
		}
		return nil
	})
	w.publish(0, "user_1")
	r := <-came
	if r == nil {
		t.Fatal("refused")
	}
	next := w.publish(0, "user_1")
	r.untilEvent(next)
	wantIDs(t, r, next)

	text := strings.Replace(request("user_1", c.cursor), "GET /ws?", "GET /ws?seen=0-7&", 1)
	if resp, problem := askRaw(t, w.gateway(Config{}), text); resp.StatusCode != 503 {
		t.Errorf("while nobody works on the partition: got %d %v, want 503", resp.StatusCode, problem)
	}
}

// connectSeen connects with what the client has since its cursor; nil if it is refused.
func connectSeen(t *testing.T, g *instance, cursor, seen string) *wsClient {
	ws, _, err := dialURL(g.url("user_1", cursor) + "&seen=" + seen)
	if err != nil {
		t.Errorf("seen %s: %v", seen, err)
		return nil
	}
	return newClient(t, ws, "user_1")
}

// A gap of before what a client has seen, which it was not told of, is told again.
func TestSeenBehindALoss(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.beats()
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "")
	for range 4 {
		c.untilEvent(w.publish(1, "user_1"))
	}
	c.ws.CloseNow()
	if err := w.store.Lose(t.Context(), lane.Shard{}, 1, testTopic, lane.Loss{From: 2, To: 4}); err != nil {
		t.Fatal(err)
	}
	w.publish(1)
	after := w.publish(1, "user_1")
	testenv.Eventually(t, 30*time.Second, func() error {
		if len(g.topics.laneReaders()[0].Losses()) == 0 || g.topics.laneReaders()[0].Positions()[1] < 6 {
			return errors.New("the gateway does not know of the loss yet")
		}
		return nil
	})
	r := connectSeen(t, g, c.hello.Cursor, after)
	gap := r.untilType(wire.Gap)
	if want := []wire.Missing{{Partition: 1, From: 2, To: 4}}; gap.Reason != wire.GapLost || !slices.Equal(gap.Missing, want) {
		t.Errorf("gap %+v, want %s, %v", gap, wire.GapLost, want)
	}
	next := w.publish(1, "user_1")
	r.untilEvent(next)
	wantIDs(t, r, next)
}

// A client acknowledges exactly what it has dealt with.
func TestAckSeen(t *testing.T) {
	t.Parallel()
	w, acks := durableWorld(t)
	g := w.gateway(Config{})
	c := g.durable(t, "user_1")
	var ids []string
	for i := range 6 {
		ids = append(ids, w.publish(i%2, "user_1"))
	}
	for len(c.seen) < len(ids) {
		c.untilType(wire.Events)
	}
	cursor := c.hello.Cursor
	ack := func(cursor, seen string) {
		t.Helper()
		c.send(fmt.Sprintf(`{"type":"ack","cursor":%q,"seen":%q}`, cursor, seen))
	}
	for _, tt := range []struct{ cursor, seen, want string }{
		{cursor, "0-0,0-1", "partition 0 is there twice"},
		{cursor, "x", "is no event id"},
		{cursor, "0-700", "were not sent yet"},
	} {
		ack(tt.cursor, tt.seen)
		if m := c.untilType(wire.Error); m.Code != "bad_ack" || !strings.Contains(m.Text, tt.want) {
			t.Errorf("ack of %s: got %+v, want bad_ack with %q", tt.seen, m, tt.want)
		}
	}
	ack(cursor, "0-1,1-0")
	if m := c.untilType(wire.Acked); m.Cursor != cursor || m.Seen != "0-1,1-0" {
		t.Errorf("got %+v, want it as it was asked for", m)
	}
	if a, err := acks.Acked(t.Context(), "user_1"); err != nil || !slices.Equal(a.Cursor.Next, []int64{2, 1}) {
		t.Errorf("acknowledged: %v, %v, want [2 1]", a.Cursor.Next, err)
	}
	c.ws.CloseNow()
	again := g.durable(t, "user_1")
	next := w.publish(0, "user_1")
	again.untilEvent(next)
	for len(again.seen) < 4 {
		again.untilType(wire.Events)
	}
	wantIDs(t, again, "0-2", "1-1", "1-2", next)
}
