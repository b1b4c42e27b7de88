package gateway

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"eventstream/event"
	"eventstream/gateway/delivery"
	"eventstream/gateway/framing"
	"eventstream/gateway/framing/framingtest"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/wire"
)

func TestDelivers(t *testing.T) {
	w := newWorld(t, 3)
	g := w.gateway(Config{})
	one, two := connect(t, g, "user_1", ""), connect(t, g, "user_2", "")
	var want []string
	for i := range 300 {
		want = append(want, w.publish(i%3, "user_1"))
	}
	both := w.publish(0, "user_1", "user_2")
	nobody := w.publish(1, "user_3")
	last := w.publish(1, "user_1")
	one.untilEvent(last)
	two.untilEvent(both)
	one.untilEvent(both)
	wantIDs(t, one, append(want, both, last)...)
	wantIDs(t, two, both)
	one.check()
	if one.seen[nobody] > 0 {
		t.Errorf("event %s of another subscriber came", nobody)
	}
	if one.hello.Resumed || one.hello.HeartbeatS != 25 {
		t.Errorf("hello: got %+v, want not resumed and 25 s", one.hello)
	}
}

// A subscriber may be connected more than once.
func TestTwins(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	a, b := connect(t, g, "user_1", ""), connect(t, g, "user_1", "")
	id := w.publish(0, "user_1")
	a.untilEvent(id)
	b.untilEvent(id)
}

func TestRequests(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "")
	for _, tt := range []struct{ send, want, text string }{
		{`{"type":"ping"}`, wire.Pong, ""},
		{`{"type":"ping","more":[1,2]}`, wire.Pong, ""},
		{`{"type":"subscribe"}`, wire.Error, `"subscribe"`},
		{`hello?`, wire.Error, `{"type":"ping"}`},
		{``, wire.Error, "JSON"},
		{`{"type":"ping"}`, wire.Pong, ""},
	} {
		c.send(tt.send)
		m := c.until("answer", func(m wire.Message) bool { return m.Type == wire.Pong || m.Type == wire.Error })
		if m.Type != tt.want || !strings.Contains(m.Text, tt.text) {
			t.Errorf("%s: got %+v, want %s with %s", tt.send, m, tt.want, tt.text)
		}
	}
	ctx := c.ws.CloseRead(context.Background())
	if err := c.ws.Ping(ctx); err != nil {
		t.Errorf("WebSocket ping: %v", err)
	}
}

// A client may speak the moment its handshake is answered: hello comes first
// nevertheless.
func TestHelloComesFirst(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	for i := range 50 {
		c := rawDial(t, g, "user_1", "")
		c.sendFrame(framing.OpText, []byte(`{"type":"ping"}`))
		if m := c.message(); m.Type != wire.Hello {
			t.Fatalf("connection %d: first message: got %+v, want hello", i, m)
		}
		m := c.message()
		if m.Type == wire.Cursor { // a quiet connection gets one at the next look
			m = c.message()
		}
		if m.Type != wire.Pong {
			t.Fatalf("connection %d: got %+v, want pong", i, m)
		}
		c.nc.Close()
	}
}

func TestCursors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	g := w.gateway(Config{Heartbeat: time.Second})
	busy, quiet := connect(t, g, "busy", ""), connect(t, g, "quiet", "")
	stop := time.Now().Add(3 * time.Second)
	go func() {
		for time.Now().Before(stop) {
			w.publish(0, "busy")
			w.beat()
			time.Sleep(time.Millisecond) // its rate
		}
	}()
	cursors := 0
	for time.Now().Before(stop) {
		if m, err := busy.read(5 * time.Second); err == nil && m.Cursor != "" {
			cursors++
		}
	}
	if cursors < 2 || cursors > 5 {
		t.Errorf("a busy connection got %d cursors in 3 s, want about one a second", cursors)
	}
	before := quiet.hello.Cursor
	m := quiet.untilType(wire.Cursor)
	m = quiet.untilType(wire.Cursor)
	from, err1 := event.ParseCursor(before)
	to, err2 := event.ParseCursor(m.Cursor)
	if err1 != nil || err2 != nil || to.Next[0] <= from.Next[0] {
		t.Errorf("a quiet connection's cursor: %+v, then %+v; want it further", from, to)
	}
}

// Every event that is addressed to a seat from its announcement on is delivered.
func TestJoinPromise(t *testing.T) {
	w := newWorld(t, 1)
	var published []string
	l := &announceHook{Memory: w.store}
	l.after = func(a lane.Announcement) {
		for _, s := range a.Joined {
			published = append(published, w.publish(0, s.Subscriber)) // before anyone knows that it is announced
		}
	}
	g := startGateway(t, Config{}, l)
	for i := range 20 {
		c := connect(t, g, "user_1", "")
		c.untilEvent(published[i])
		c.ws.CloseNow()
	}
}

// announceHook calls after when an announcement is made, before its caller knows.
type announceHook struct {
	*lane.Memory
	after func(lane.Announcement)
}

func (a *announceHook) Announce(ctx context.Context, an lane.Announcement) (lane.ControlID, error) {
	at, err := a.Memory.Announce(ctx, an)
	if a.after != nil {
		a.after(an)
	}
	return at, err
}

// A client that reads slowly, over several partitions, falls behind and catches
// up, again and again. The others don't notice, and it gets everything once.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	g := w.gateway(Config{MaxPending: 64 << 10, Heartbeat: 3 * time.Second}) // who is silent for 2.5 of them is dead
	slow := connect(t, g, "slow", "")
	fast := connect(t, g, "fast", "")
	var want []string
	for i := range 1500 {
		want = append(want, w.publishSized(i%3, 4<<10, "slow", "fast"))
		if i%50 == 0 {
			slow.read(5 * time.Second) // one message, while 50 events come
			fast.untilEvent(want[i])
		}
	}
	for _, id := range want {
		fast.untilEvent(id)
	}
	for _, id := range want {
		slow.untilEvent(id)
	}
	wantSet(t, slow, want...)
	slow.check()
	wantSet(t, fast, want...)
	if got := metric(t, g, "clients_fell_behind_total"); strings.HasSuffix(got, " 0") {
		t.Errorf("%s, want more: the test did not test it", got)
	}
	// It is live again: what comes now comes at once, and its cursor is good.
	last := w.publish(0, "slow")
	slow.untilEvent(last)
	slow.untilType(wire.Cursor)
	again := connect(t, g, "slow", slow.cursor)
	next := w.publish(1, "slow")
	again.untilEvent(next)
	wantIDs(t, again, next)
}

// wantSet checks that exactly these events came, each once, in any order.
func wantSet(t *testing.T, c *wsClient, want ...string) {
	t.Helper()
	for _, id := range want {
		if n := c.seen[id]; n != 1 {
			t.Errorf("event %s came %d times, want once", id, n)
		}
	}
	if len(c.order) != len(want) {
		t.Errorf("got %d events, want %d", len(c.order), len(want))
	}
}

// What a slow client has yet to get is trimmed: it is closed with 4008, and told
// of the gap when it comes back.
func TestTooSlowForTheLanes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{MaxPending: 64 << 10, RingBytes: 1})
	slow := connect(t, g, "slow", "")
	first := w.publish(0, "slow")
	slow.untilEvent(first)
	testenv.Eventually(t, 10*time.Second, func() error {
		for range 100 {
			w.publishSized(0, 4<<10, "slow")
		}
		if strings.HasSuffix(metric(t, g, "clients_fell_behind_total"), " 0") {
			return errors.New("is not behind yet")
		}
		return nil
	})
	for range 200 { // more than the replay holds in memory
		w.publishSized(0, 4<<10, "slow")
	}
	w.trimRead(g, 0)
	if code := slow.untilClose(10 * time.Second); code != wire.CloseTooSlow {
		t.Errorf("close code: got %d, want %d", code, wire.CloseTooSlow)
	}
	again := connect(t, g, "slow", slow.cursor)
	if again.hello.Resumed {
		t.Error("resumed although events are missing")
	}
	if gap := again.untilType(wire.Gap); gap.Reason != wire.GapTrimmed {
		t.Errorf("gap: got %+v, want reason %s", gap, wire.GapTrimmed)
	}
}

// A client that stops reading for a while gets everything when it goes on.
func TestStalledClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{MaxPending: 8 << 20})
	c := connect(t, g, "user_1", "")
	var want []string
	for range 800 {
		want = append(want, w.publishSized(0, 4<<10, "user_1"))
	}
	testenv.Eventually(t, 5*time.Second, func() error {
		if got := g.topics.laneReaders()[0].Positions()[0]; got != 800 {
			return fmt.Errorf("reader is at %d", got)
		}
		return nil
	})
	c.untilEvent(want[len(want)-1])
	wantIDs(t, c, want...)
	c.check()
}

func TestDeadClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{Heartbeat: time.Second})
	dead := rawDial(t, g, "dead", "") // answers no pings
	alive := connect(t, g, "alive", "")
	dead.message()
	go func() {
		for { // coder answers pings while it reads
			if _, err := alive.read(10 * time.Second); err != nil {
				return
			}
		}
	}()
	testenv.Eventually(t, 10*time.Second, func() error {
		if n := g.gate.open.Load(); n != 1 {
			return fmt.Errorf("%d connections are open", n)
		}
		return nil
	})
	if !strings.Contains(metric(t, g, "dead_clients_closed_total"), " 1") {
		t.Error("it is not counted as dead")
	}
}

func TestPingFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := rawDial(t, g, "user_1", "")
	ping := framingtest.ClientFrame(framing.OpText, true, []byte(`{"type":"ping"}`), 7)
	flood := []byte(strings.Repeat(string(ping), 100))
	c.nc.SetWriteDeadline(time.Now().Add(20 * time.Second))
	for sent := 0; ; sent += len(flood) {
		if _, err := c.nc.Write(flood); err != nil {
			break
		}
		if sent > 64<<20 {
			t.Fatal("a client that asks and does not read is not cut off")
		}
	}
	noneOpen(t, g)
}

// A large message on a slow link does not make pings deadly.
func TestPingBehindBigEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{MaxPending: 8 << 20})
	c := connect(t, g, "user_1", "")
	id := w.publishSized(0, 1<<20, "user_1")
	testenv.Eventually(t, 5*time.Second, func() error {
		if g.topics.laneReaders()[0].Positions()[0] == 0 {
			return errors.New("not read")
		}
		return nil
	})
	c.send(`{"type":"ping"}`)
	pong := false
	c.until("event and pong", func(m wire.Message) bool {
		pong = pong || m.Type == wire.Pong
		return pong && c.seen[id] > 0
	})
}

func TestDrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{Drain: 5 * time.Second})
	var clients []*wsClient
	for range 5 {
		clients = append(clients, connect(t, g, "user_1", ""))
	}
	stopped := make(chan error, 1)
	go func() { stopped <- g.stop() }()
	for _, c := range clients {
		_, err := c.read(5 * time.Second)
		if code := websocket.CloseStatus(err); code != wire.CloseDrain {
			t.Errorf("close: got %v, want %d", err, wire.CloseDrain)
			continue
		}
		var closed websocket.CloseError
		errors.As(err, &closed)
		if _, err := time.ParseDuration(closed.Reason[strings.LastIndexByte(closed.Reason, ' ')+1:]); err != nil {
			t.Errorf("reason %q does not end in a delay", closed.Reason)
		}
	}
	select {
	case err := <-stopped:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(3 * time.Second):
		t.Error("Run goes on after all connections are closed")
	}
	if err := g.Ready(context.Background()); err == nil {
		t.Error("ready after the end")
	}
}

// Run ends in time even if clients do not answer the close.
func TestDrainOfSilentClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{Drain: 300 * time.Millisecond})
	for range 3 {
		rawDial(t, g, "user_1", "").message()
	}
	began := time.Now()
	if err := g.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("Run took %v to end", d)
	}
}

// The topic is made anew, or served in another number of shards. The gateway lives on:
// clients are sent away, told of a gap if the topic is another one, and get what is new.
func TestNewTopic(t *testing.T) {
	for name, tt := range map[string]struct {
		topic lane.Topic
		gap   string
	}{
		"made anew, with fewer partitions": {lane.Topic{ID: event.TopicID{9}, Partitions: 1}, wire.GapOtherTopic},
		"in two shards":                    {lane.Topic{ID: testTopic, Partitions: 2, Shards: 2}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2)
			g := launchGateway(t, Config{}, w.store)
			c := connectSoon(t, g, "user_1")
			for range 3 {
				c.untilEvent(w.publish(0, "user_1"))
			}
			ctx := t.Context()
			if err := w.store.Retire(ctx, lane.Shard{}, testTopic, 2, 0); err != nil {
				t.Fatal(err)
			}
			w.store.SetTopic(ctx, tt.topic)
			if code := c.untilClose(10 * time.Second); code != wire.CloseDrain {
				t.Errorf("close code: got %d, want %d", code, wire.CloseDrain)
			}
			c.ws.CloseNow()
			for i := range max(tt.topic.Shards, 1) {
				for p := range tt.topic.Partitions {
					if _, err := w.store.Claim(ctx, lane.Shard{Index: i, Of: tt.topic.Shards}, p, tt.topic.ID, 0, 0); err != nil {
						t.Fatal(err)
					}
				}
			}
			var r *wsClient
			testenv.Eventually(t, 10*time.Second, func() error {
				ws, _, err := dialURL(g.url("user_1", c.cursor))
				if err == nil {
					r = newClient(t, ws, "user_1")
				}
				return err
			})
			if tt.gap != "" {
				if gap := r.untilType(wire.Gap); gap.Reason != tt.gap {
					t.Errorf("gap: got %+v, want %s", gap, tt.gap)
				}
			}
			groups, at := w.match([]string{"user_1"})
			var packer lane.Packer
			packer.Add(0, 1, []byte("{}"), groups)
			sh := lane.Shard{Index: lane.ShardOf("user_1", tt.topic.Shards), Of: tt.topic.Shards}
			if next, err := w.store.Append(ctx, lane.Append{Shard: sh, Topic: tt.topic.ID, Next: 1, Entry: packer.Bytes(), Synced: at}); next != 1 {
				t.Fatal(next, err)
			}
			if tt.gap != "" { // else it has the event of this offset already
				r.untilEvent("0-0")
			}
			if got := nextOf(t, r.cursor); len(got) != int(tt.topic.Partitions) {
				t.Errorf("cursor of %d partitions, want %d", len(got), tt.topic.Partitions)
			}
		})
	}
}

func connectSoon(t testing.TB, g *instance, subscriber string) *wsClient {
	t.Helper()
	testenv.Eventually(t, 5*time.Second, func() error { return g.Ready(context.Background()) })
	return connect(t, g, subscriber, "")
}

func noneOpen(t testing.TB, g *instance) {
	t.Helper()
	testenv.Eventually(t, 10*time.Second, func() error {
		if n := g.gate.open.Load(); n != 0 {
			return fmt.Errorf("%d connections are counted as open", n)
		}
		return nil
	})
}

// A worker that does not come round is noticed.
func TestStuckWorkerIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := started(launchWith(t, Config{}, w.store, nil, nil, func(g *Gateway) { g.watchdog.Limit = 6 * time.Second }))
	for i := range 2 * runtime.GOMAXPROCS(0) {
		connect(t, g, fmt.Sprint("user_", i), "")
	}
	if err := g.Alive(); err != nil {
		t.Errorf("at work: %v", err)
	}
	letGo, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		g.delivery.Visit(context.Background(), func(v delivery.Visited) {
			if int(v.Seat())%runtime.GOMAXPROCS(0) == 0 {
				<-letGo
			}
		})
	}()
	testenv.Eventually(t, time.Minute, func() error {
		if err := g.Alive(); err == nil || !strings.Contains(err.Error(), "worker 0 of the connections") {
			return fmt.Errorf("Alive = %v, want that worker 0 is stuck", err)
		}
		return nil
	})
	close(letGo)
	<-done
	testenv.Eventually(t, time.Minute, g.Alive)
}
