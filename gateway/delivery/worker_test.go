package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
	"eventstream/gateway/acks"
	"eventstream/gateway/framing"
	"eventstream/gateway/framing/framingtest"
	"eventstream/gateway/history"
	"eventstream/gateway/reader"
	"eventstream/gateway/socket"
	"eventstream/gateway/uptime"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/wire"
)

// bench is a Delivery with one worker that does not run: the test plays the pollers and,
// but for run itself, the worker.
type bench struct {
	*Delivery
	*worker
	reader *reader.Reader
	seat   event.Seat // the last one given out
	t      testing.TB
}

var testTopic = event.TopicID{1, 2, 3}

func newBench(t testing.TB, cfg Config) *bench { return newBenchOf(t, cfg, 2) }

// newBenchOf is newBench with a topic of so many partitions.
func newBenchOf(t testing.TB, cfg Config, partitions int) *bench {
	log := slog.New(slog.DiscardHandler)
	cfg.Gateway, cfg.Workers = 9, 1
	cfg.MaxPending = cmp.Or(cfg.MaxPending, 1<<20)
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, 25)
	cfg.DeadAfter = cfg.Heartbeat * 5 / 2
	cfg.Acks = acks.New(nil, acks.Config{}, log)
	cfg.Player = history.NewPlayer(nil, time.Second)
	cfg.Left = func(string, string, event.Seat) {}
	d := New(cfg, prometheus.NewRegistry(), log)
	b := &bench{Delivery: d, worker: d.workers[0], t: t}
	d.SetTopic(testTopic, 1)
	counter := func() prometheus.Counter { return prometheus.NewCounter(prometheus.CounterOpts{}) }
	b.reader = reader.New(lane.NewMemory(), 0, lane.Shard{Of: 1}, int32(partitions), reader.Config{
		Gateway: cfg.Gateway, Workers: d.Workers(), History: history.Config{RingBytes: 64 << 20, Timeout: 5 * time.Second},
		Sure: func(context.Context, time.Time) {}, Missed: func() {}, Lost: d.TellLost,
		Failures: counter(), Malformed: counter(), Misses: counter(),
	}, log)
	positions := make([]lane.Position, partitions)
	for p := range positions {
		positions[p].Partition = int32(p)
	}
	b.reader.Start(positions)
	b.settleMail()
	return b
}

// join makes a connection known to the worker.
func (b *bench) join(old *Resume) (*Client, *fakeSocket) { return b.joinAs(framing.WebSocket, old) }

func (b *bench) joinAs(f framing.Kind, old *Resume) (*Client, *fakeSocket) {
	b.seat++
	c := b.NewClient(Entry{Seat: b.seat, Subscriber: "user_1", Reader: b.reader, Framing: f, Resume: old})
	sock := &fakeSocket{c: c, keep: true}
	c.sock.Attach(sock)
	var from event.Address
	if old != nil {
		from = old.Old
	}
	b.reader.Join(c.seat, from, c.Join)
	b.settleMail()
	return c, sock
}

func (b *bench) openConn(c *Client) {
	o := Opening{Announced: lane.ControlID{Ms: 1}}
	if c.resume != nil {
		o.From = c.resume.From
	}
	c.Open(o)
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
	b.Post(reader.Post{
		Deliveries: []reader.Delivery{{Event: &history.Event{ID: id, JSON: json}, Seats: seats}},
		Next:       []int64{offset + 1, 0},
	})
}

// fakeSocket takes frames without a network. While it is stuck it queues them,
// as a socket does whose peer does not read.
type fakeSocket struct {
	c      *Client
	mu     sync.Mutex
	stuck  bool
	queued int
	frames [][]byte
	writes int
	closed bool
	keep   bool // the frames
}

func (f *fakeSocket) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return -1, net.ErrClosed
	}
	if len(b) == 0 {
		return 0, nil
	}
	f.writes++
	if f.keep {
		f.frames = append(f.frames, slices.Clone(b))
	}
	if f.stuck {
		f.queued += len(b)
		return len(b), nil
	}
	socket.Written(f.c, len(b))
	return len(b), nil
}

func (f *fakeSocket) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

// stick has the socket stop taking what is written, as that of a client that does not read.
func (f *fakeSocket) stick() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stuck = true
}

// release lets the socket take what is queued.
func (f *fakeSocket) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stuck = false
	n := f.queued
	f.queued = 0
	socket.Written(f.c, n)
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
	c, f := b.join(&Resume{Old: event.Address{Gateway: 7, Seat: 1}, From: []int64{0, 0}})
	b.openConn(c)
	b.tell(aborted{&c.conn})
	b.tell(&gapped{conn: &c.conn, gap: Gap{Reason: wire.GapTrimmed}})
	b.tell(caughtUp{&c.conn})
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
	t.Cleanup(b.EndReplays)
	b.openConn(c)
	if _, ops := f.messages(t); !slices.Equal(ops, []byte{framing.OpText}) || c.state != replaying {
		t.Errorf("frames: got ops %v, state %d; want hello, and then what is behind", ops, c.state)
	}
}

// A close of all connections reaches those whose handshake is under way.
func TestCloseAllWhileJoining(t *testing.T) {
	b := newBench(t, Config{})
	c, f := b.join(nil)
	b.Dismiss(1, math.MaxUint32, "bye")
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
	b := newBench(t, Config{Heartbeat: 1})
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
			return errors.New("no ping yet")
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
	b := newBench(t, Config{Heartbeat: 10})
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
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.mail.size <= maxMail {
			return fmt.Errorf("%d bytes wait", b.mail.size)
		}
		return nil
	})
	b.mu.Lock()
	n := len(b.mail.posts)
	b.mu.Unlock()
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
	f.stick()
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
	t.Cleanup(b.EndReplays)
	c, f := b.join(nil)
	b.openConn(c)
	f.stick()
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
	c, f := b.join(&Resume{Old: old, From: []int64{5, 0}})
	b.openConn(c)
	b.tell(caughtUp{&c.conn})
	b.event(3, 1, c.seat) // the client has it
	b.event(5, 1, c.seat)
	b.event(5, 1, c.seat) // addressed to both seats
	b.Post(reader.Post{Settled: lane.ControlID{Ms: 1}, Next: []int64{4, 0}})
	b.settleMail()
	if c.resume == nil {
		t.Error("settled before its own positions were reached")
	}
	b.event(6, 1, c.seat)
	b.settleMail()
	b.Post(reader.Post{Settled: lane.ControlID{Ms: 1}, Next: []int64{7, 0}})
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
	t.Cleanup(b.EndReplays)
	old := event.Address{Gateway: 7, Seat: 1}
	c, f := b.join(&Resume{Old: old, From: []int64{0, 0}})
	b.openConn(c)
	b.tell(caughtUp{&c.conn})
	f.stick()
	for i := range int64(20) {
		b.event(i, 10_000, c.seat)
		b.settleMail()
	}
	b.Post(reader.Post{Settled: lane.ControlID{Ms: 1}, Next: []int64{20, 0}})
	b.settleMail()
	if c.resume == nil || len(c.pending) == 0 {
		t.Fatalf("resume %v, %d wait: want it kept while what came before waits", c.resume, len(c.pending))
	}
	cur, err := event.ParseCursor(b.cursor(&c.conn, before(b.positions(&c.conn), c.pending)))
	if err != nil || cur.Old != old {
		t.Errorf("cursor: got %+v, %v; want one that names the old seat", cur, err)
	}
	if cur, err = event.ParseCursor(b.cursor(&c.conn, b.positions(&c.conn))); err != nil || cur.Old != (event.Address{}) {
		t.Errorf("cursor after the backlog: got %+v, %v; want one that names our own seat only", cur, err)
	}
	f.release()
	b.settleMail()
	b.Post(reader.Post{Settled: lane.ControlID{Ms: 1}, Next: []int64{20, 0}})
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
	c.Open(Opening{From: ahead, Floor: ahead, Gap: Gap{Reason: wire.GapUnknownAddress}})
	b.tell(caughtUp{&c.conn})
	b.event(3, 1, c.seat)
	b.settleMail()
	cur, err := event.ParseCursor(b.cursor(&c.conn, b.positions(&c.conn)))
	if err != nil || !slices.Equal(cur.Next, ahead) || cur.Addr.Seat != c.seat {
		t.Errorf("cursor: got %+v, %v; want %v of seat %d", cur, err, ahead, c.seat)
	}
	b.event(5, 1, c.seat)
	b.settleMail()
	if got, want := f.ids(t), []string{"0-5"}; !slices.Equal(got, want) {
		t.Errorf("events: got %v, want %v", got, want)
	}
}
