package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
	"eventstream/gateway/framing"
	"eventstream/gateway/framing/framingtest"
	"eventstream/gateway/history"
	"eventstream/gateway/reader"
	"eventstream/gateway/uptime"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/wire"
)

// bench is a gateway that does not run: the test plays the lane reader, the
// pollers and, but for run itself, the worker.
type bench struct {
	*Gateway
	*worker
	reader *reader.Reader
	t      testing.TB
}

func newBench(t testing.TB, cfg Config) *bench {
	g := New(cfg, lane.NewMemory(), nil, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	g.workers = g.workers[:1]
	g.workers[0].conns.workers = 1
	g.setUp(lane.Topic{ID: testTopic, Partitions: 2})
	b := &bench{Gateway: g, worker: g.workers[0], reader: g.laneReaders()[0], t: t}
	b.reader.Start([]lane.Position{{Partition: 0}, {Partition: 1}})
	b.settleMail()
	return b
}

// join makes a connection known to the worker.
func (b *bench) join(old *resume) (*conn, *fakeSocket) { return b.joinAs(framing.WebSocket, old) }

func (b *bench) joinAs(f framing.Kind, old *resume) (*conn, *fakeSocket) {
	c := &conn{framing: f, subscriber: "user_1", reader: b.reader, worker: b.worker, last: event.ID{Partition: -1}, resume: old}
	c.seat, _ = b.presence.Reserve(c.subscriber)
	sock := &fakeSocket{c: c, keep: true}
	c.sock.Attach(sock)
	c.heard.Store(uptime.Seconds())
	b.Gateway.open.Add(1)
	var from event.Address
	if old != nil {
		from = old.old
	}
	b.reader.Join(c.seat, from, func() { b.worker.tell(added{c}) })
	b.settleMail()
	return c, sock
}

func (b *bench) openConn(c *conn) {
	o := &open{conn: c, join: lane.ControlID{Ms: 1}}
	if c.resume != nil {
		o.from = c.resume.from
	}
	b.worker.tell(o)
	b.settleMail()
}

func (b *bench) settleMail() {
	b.collect()
	for len(b.dirty) > 0 {
		b.flushAll()
	}
}

// event leaves an event for the seats in the mailbox.
func (b *bench) event(offset int64, size int, seats ...event.Seat) {
	id := event.ID{Partition: 0, Offset: offset}
	json := wire.AppendEvent(nil, id, 0, []byte(`"`+strings.Repeat("x", size)+`"`))
	b.worker.Post(reader.Post{
		Deliveries: []reader.Delivery{{Event: &history.Event{ID: id, JSON: json}, Seats: seats}},
		Next:       []int64{offset + 1, 0},
	})
}

// messages decodes what a socket was given: text messages, and the ops of all frames.
func (f *fakeSocket) messages(t testing.TB) (msgs []wire.Message, ops []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, frame := range f.frames {
		op, payload := framingtest.ServerFrame(t, frame)
		ops = append(ops, op)
		if op != framing.OpText {
			continue
		}
		var m wire.Message
		if err := json.Unmarshal(payload, &m); err != nil {
			t.Errorf("message %.100q: %v", payload, err)
		}
		msgs = append(msgs, m)
	}
	return msgs, ops
}

func (f *fakeSocket) ids(t testing.TB) []string {
	var out []string
	msgs, _ := f.messages(t)
	for _, m := range msgs {
		for _, e := range m.Events {
			out = append(out, e.ID)
		}
	}
	return out
}

func TestEventsBeforeHelloWait(t *testing.T) {
	b := newBench(t, Config{})
	c, f := b.join(nil)
	b.event(0, 10, c.seat)
	b.settleMail()
	if f.writes != 0 {
		t.Fatalf("%d frames were written before hello", f.writes)
	}
	b.openConn(c)
	msgs, _ := f.messages(t)
	if len(msgs) != 2 || msgs[0].Type != wire.Hello || msgs[1].Type != wire.Events {
		t.Fatalf("messages: got %+v, want hello, events", msgs)
	}
	cur, err := event.ParseCursor(msgs[0].Cursor)
	if err != nil || cur.Next[0] != 0 {
		t.Errorf("hello's cursor: got %+v, %v; want one from before the event", cur, err)
	}
}

// A connection that was closed stays closed, whatever its replay still says.
func TestClosedDuringReplayStaysClosed(t *testing.T) {
	b := newBench(t, Config{})
	c, f := b.join(&resume{old: event.Address{Gateway: 7, Seat: 1}, from: []int64{0, 0}})
	b.openConn(c)
	b.worker.tell(aborted{c})
	b.worker.tell(&gapped{conn: c, gap: gap{reason: wire.GapTrimmed}})
	b.worker.tell(caughtUp{c})
	b.settleMail()
	b.event(1, 10, c.seat)
	b.settleMail()
	_, ops := f.messages(t)
	if want := []byte{framing.OpText, framing.OpClose}; !slices.Equal(ops, want) {
		t.Errorf("frames: got ops %v, want hello and close %v", ops, want)
	}
	if b.sweep(uptime.Seconds()+10, time.Now().Unix()+10); !f.closed {
		t.Errorf("not cut off; state %d", c.state)
	}
}

// What waits during a handshake is bounded as well.
func TestTooMuchBeforeHello(t *testing.T) {
	b := newBench(t, Config{MaxPending: 1000})
	c, f := b.join(nil)
	for i := range int64(100) {
		b.event(i, 200, c.seat)
	}
	b.settleMail()
	if c.pendingBytes > 2000 {
		t.Errorf("%d bytes wait, at most 1000 may", c.pendingBytes)
	}
	t.Cleanup(b.Gateway.endReplay)
	b.openConn(c)
	if _, ops := f.messages(t); !slices.Equal(ops, []byte{framing.OpText}) || c.state != replaying {
		t.Errorf("frames: got ops %v, state %d; want hello, and then what is behind", ops, c.state)
	}
}

// A close of all connections reaches those whose handshake is under way.
func TestCloseAllWhileJoining(t *testing.T) {
	b := newBench(t, Config{})
	c, f := b.join(nil)
	b.closeAll("bye")
	b.settleMail()
	b.openConn(c)
	_, ops := f.messages(t)
	if want := []byte{framing.OpText, framing.OpClose}; !slices.Equal(ops, want) {
		t.Errorf("frames: got ops %v, want hello and close %v", ops, want)
	}
}

// While there is always something to write, connections are swept nevertheless
// and the worker ends when it is told to.
func TestBusyWorkerSweeps(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Heartbeat: time.Second})
	busy, bf := b.join(nil)
	quiet, qf := b.join(nil)
	bf.keep = false
	b.openConn(busy)
	b.openConn(quiet)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	sock := &loopSocket{fakeSocket: bf, b: b, seat: busy.seat}
	busy.sock.Attach(sock)
	go func() { done <- b.run(ctx) }()
	b.event(0, 10, busy.seat)
	testenv.Eventually(t, 10*time.Second, func() error {
		_, ops := qf.messages(t)
		if !slices.Contains(ops, framing.OpPing) {
			return errFlaky
		}
		return nil
	})
	cancel()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("worker goes on after its context ended")
		sock.stop()
		<-done
	}
}

// loopSocket has the next event arrive while one is written.
type loopSocket struct {
	*fakeSocket
	b      *bench
	seat   event.Seat
	offset int64
	ended  bool
}

func (l *loopSocket) Write(f []byte) (int, error) {
	l.fakeSocket.mu.Lock()
	ended := l.ended
	l.fakeSocket.mu.Unlock()
	if !ended {
		l.offset++
		l.b.event(l.offset, 10, l.seat)
		l.b.collect() // as the worker does now and then on its round
	}
	return l.fakeSocket.Write(f)
}

func (l *loopSocket) stop() {
	l.fakeSocket.mu.Lock()
	l.ended = true
	l.fakeSocket.mu.Unlock()
}

// A quiet connection gets a cursor every heartbeat, also right after a busy time.
func TestQuietCursor(t *testing.T) {
	b := newBench(t, Config{Heartbeat: 10 * time.Second})
	c, f := b.join(nil)
	b.openConn(c)
	start := uptime.Seconds()
	c.lastPing, c.lastCursor = start, start+1 // a cursor went with events
	for s := start; s <= start+12; s++ {
		c.heard.Store(s)
		b.sweep(s, time.Now().Unix())
	}
	msgs, ops := f.messages(t)
	if msgs[len(msgs)-1].Type != wire.Cursor {
		t.Errorf("no cursor within 11 s, with a heartbeat of 10 s: frames %v", ops)
	}
}

// A client that always has more waiting than goes into one frame gets cursors
// too: how far it is, and no further.
func TestCursorOfBacklog(t *testing.T) {
	b := newBench(t, Config{})
	c, f := b.join(nil)
	b.openConn(c)
	c.lastCursor = 0
	f.stuck = true
	b.event(0, 10, c.seat)
	b.settleMail() // fills the socket
	c.lastCursor = 0
	for i := range int64(10) {
		b.event(i+1, 20<<10, c.seat)
	}
	b.settleMail()
	f.mu.Lock()
	f.frames = nil
	f.mu.Unlock()
	f.release()
	f.mu.Lock()
	f.stuck = true // takes one frame and no more
	f.mu.Unlock()
	b.settleMail()
	msgs, _ := f.messages(t)
	if len(msgs) != 1 {
		t.Fatalf("got %d messages, want one", len(msgs))
	}
	cur, err := event.ParseCursor(msgs[0].Cursor)
	if err != nil {
		t.Fatalf("no cursor with a part of the backlog: %v", err)
	}
	last, _ := event.ParseID(msgs[0].Events[len(msgs[0].Events)-1].ID)
	if cur.Next[0] != last.Offset+1 {
		t.Errorf("cursor: got %v after event %v", cur.Next, last)
	}
}

// What waits for a slow worker is bounded in bytes, not only in recipients.
func TestMailIsBounded(t *testing.T) {
	b := newBench(t, Config{})
	const events = 64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range int64(events) {
			b.event(i, 1<<20, 1)
		}
	}()
	testenv.Eventually(t, 10*time.Second, func() error {
		b.worker.mu.Lock()
		defer b.worker.mu.Unlock()
		if b.mail.size <= maxMail {
			return fmt.Errorf("%d bytes wait", b.mail.size)
		}
		return nil
	})
	b.worker.mu.Lock()
	n := len(b.mail.posts)
	b.worker.mu.Unlock()
	if n > 20 {
		t.Errorf("%d MB of events wait for the worker", n)
	}
	b.stop()
	<-done
}

func TestDrainedAndStalled(t *testing.T) {
	b := newBench(t, Config{})
	c, f := b.join(nil)
	b.openConn(c)
	f.mu.Lock()
	f.stuck = true
	f.mu.Unlock()
	for i := range int64(100) {
		b.event(i, 100, c.seat)
		b.settleMail()
	}
	if f.writes > 2 {
		t.Errorf("%d frames were written to a socket that is stuck", f.writes)
	}
	f.release()
	b.settleMail()
	if got := f.ids(t); len(got) != 100 {
		t.Errorf("got %d events, want 100", len(got))
	}
}

// What waits for a socket that is stuck is bounded; the rest is noted by offset.
func TestFallBehind(t *testing.T) {
	b := newBench(t, Config{MaxPending: 10_000})
	t.Cleanup(b.Gateway.endReplay)
	c, f := b.join(nil)
	b.openConn(c)
	f.mu.Lock()
	f.stuck = true
	f.mu.Unlock()
	for i := range int64(1000) {
		b.event(i, 1000, c.seat)
		b.settleMail()
		if c.pendingBytes > 12_000 {
			t.Fatalf("%d bytes wait", c.pendingBytes)
		}
	}
	if c.state != replaying || c.behind == nil {
		_, payload := framingtest.ServerFrame(t, f.frames[len(f.frames)-1])
		t.Fatalf("state %d, %q, behind %v; want replaying, and further behind", c.state, payload, c.behind)
	}
	rest, waiting := c.behind.spans[0], int64(len(c.pending))
	if len(c.behind.spans) != 1 || rest.Partition != 0 || rest.To != 1000-waiting {
		t.Errorf("behind with %v, and %d wait; want partition 0 to %d", c.behind.spans, waiting, 1000-waiting)
	}
}

// The addresses of a resumed connection: both, then its own.
func TestSettle(t *testing.T) {
	b := newBench(t, Config{})
	old := event.Address{Gateway: 7, Seat: 1}
	c, f := b.join(&resume{old: old, from: []int64{5, 0}})
	b.openConn(c)
	b.worker.tell(caughtUp{c})
	b.event(3, 1, c.seat) // the client has it
	b.event(5, 1, c.seat)
	b.event(5, 1, c.seat) // addressed to both seats
	b.worker.Post(reader.Post{Settled: lane.ControlID{Ms: 1}, Next: []int64{4, 0}})
	b.settleMail()
	if c.resume == nil {
		t.Error("settled before its own positions were reached")
	}
	b.event(6, 1, c.seat)
	b.settleMail()
	b.worker.Post(reader.Post{Settled: lane.ControlID{Ms: 1}, Next: []int64{7, 0}})
	b.settleMail()
	if c.resume != nil || b.reader.Followed() != 0 {
		t.Errorf("resume %+v, follow %v: want none", c.resume, b.reader.Followed())
	}
	if got, want := f.ids(t), []string{"0-5", "0-6"}; !slices.Equal(got, want) {
		t.Errorf("events: got %v, want %v", got, want)
	}
}

// Events that only the old seat was addressed by still wait when it is known that
// from now on all are addressed to our own: they are not ours to resume or to
// replay without the old one.
func TestSettleWithBacklog(t *testing.T) {
	b := newBench(t, Config{MaxPending: 200_000})
	t.Cleanup(b.Gateway.endReplay)
	old := event.Address{Gateway: 7, Seat: 1}
	c, f := b.join(&resume{old: old, from: []int64{0, 0}})
	b.openConn(c)
	b.worker.tell(caughtUp{c})
	f.mu.Lock()
	f.stuck = true
	f.mu.Unlock()
	for i := range int64(20) {
		b.event(i, 10_000, c.seat)
		b.settleMail()
	}
	b.worker.Post(reader.Post{Settled: lane.ControlID{Ms: 1}, Next: []int64{20, 0}})
	b.settleMail()
	if c.resume == nil || len(c.pending) == 0 {
		t.Fatalf("resume %v, %d wait: want it kept while what came before waits", c.resume, len(c.pending))
	}
	cur, err := event.ParseCursor(b.cursor(c, before(b.positions(c), c.pending)))
	if err != nil || cur.Old != old {
		t.Errorf("cursor: got %+v, %v; want one that names the old seat", cur, err)
	}
	if cur, err = event.ParseCursor(b.cursor(c, b.positions(c))); err != nil || cur.Old != (event.Address{}) {
		t.Errorf("cursor after the backlog: got %+v, %v; want one that names our own seat only", cur, err)
	}
	f.release()
	b.settleMail()
	b.worker.Post(reader.Post{Settled: lane.ControlID{Ms: 1}, Next: []int64{20, 0}})
	b.settleMail()
	if c.resume != nil || len(f.ids(t)) != 20 {
		t.Errorf("resume %v, %d events: want it over after all 20", c.resume, len(f.ids(t)))
	}
}

// A cursor can come from a gateway that is ahead of ours. When all before it was
// dealt with, cursors do not go back behind it.
func TestCursorFromAhead(t *testing.T) {
	b := newBench(t, Config{})
	c, f := b.join(nil)
	ahead := []int64{5, 0}
	b.worker.tell(&open{conn: c, from: ahead, floor: ahead, gap: gap{reason: wire.GapUnknownAddress}})
	b.worker.tell(caughtUp{c})
	b.event(3, 1, c.seat)
	b.settleMail()
	cur, err := event.ParseCursor(b.cursor(c, b.positions(c)))
	if err != nil || !slices.Equal(cur.Next, ahead) || cur.Addr.Seat != c.seat {
		t.Errorf("cursor: got %+v, %v; want %v of seat %d", cur, err, ahead, c.seat)
	}
	b.event(5, 1, c.seat)
	b.settleMail()
	if got, want := f.ids(t), []string{"0-5"}; !slices.Equal(got, want) {
		t.Errorf("events: got %v, want %v", got, want)
	}
}

// TestTable compares a table with a map. However many seats came and went between
// those that are left, it has no more parts than they need.
func TestTable(t *testing.T) {
	for _, shards := range []event.Seat{1, 2, 7} {
		tab := table{workers: shards}
		conns := make(map[event.Seat]*conn)
		set := func(seat event.Seat) {
			conns[seat] = &conn{seat: seat}
			tab.set(seat, conns[seat])
		}
		drop := func(seat event.Seat) {
			delete(conns, seat)
			tab.set(seat, nil)
		}
		last := math.MaxUint32 - math.MaxUint32%shards - 3*shards // seats of this worker
		for i := range event.Seat(1000) {
			set(i * shards)
		}
		for i := event.Seat(1000); i < 10_000_000; i += 1000 { // one stays while many come and go
			set(i * shards)
			if i >= 100_000 {
				drop((i - 100_000) * shards)
			}
		}
		set(last)
		set(5 * shards) // given out again
		drop(77 * shards)
		drop(77 * shards)
		n := 0
		tab.each(func(c *conn) {
			n++
			if conns[c.seat] != c {
				t.Errorf("seat %d: %p, want %p", c.seat, c, conns[c.seat])
			}
		})
		if n != len(conns) {
			t.Errorf("%d connections; want %d", n, len(conns))
		}
		for i := range event.Seat(1_000_000) {
			if got := tab.get(i * shards); got != conns[i*shards] {
				t.Fatalf("get(%d): got %p, want %p", i*shards, got, conns[i*shards])
			}
		}
		if tab.get(last) != conns[last] || tab.get(last+2*shards) != nil {
			t.Error("the last seats are wrong")
		}
		pages := 0
		for _, b := range tab.top {
			if b != nil {
				pages += b.live
			}
		}
		if pages > len(conns) {
			t.Errorf("%d pages for %d connections", pages, n)
		}
		for seat := range conns {
			tab.set(seat, nil)
		}
		if i := slices.IndexFunc(tab.top, func(b *branch) bool { return b != nil }); i >= 0 {
			t.Errorf("a branch is left without connections")
		}
	}
}
