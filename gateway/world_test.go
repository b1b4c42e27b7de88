package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"eventstream/event"
	"eventstream/gateway/socket"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/origin"
	"eventstream/wire"
)

func TestMain(m *testing.M) {
	beSink()
	goleak.VerifyTestMain(m,
		// nbio starts these with its first engine and package, and has no way to end them.
		goleak.IgnoreAnyFunction("github.com/lesismal/nbio/timer.(*Timer).Async.func1"),
		goleak.IgnoreAnyFunction("github.com/lesismal/nbio/taskpool.(*TaskPool).fork.func1"),
	)
}

var testTopic = event.TopicID{1, 2, 3}

// world is a store and a filter service of the test's own: each event is for
// the subscribers that the test names, at the seats that the control stream
// shows at that moment.
type world struct {
	t     testing.TB
	store *lane.Memory
	kafka *fakeKafka // nil unless replayed is called
	parts []part
	acks  Acks
	lag   time.Duration // at most so long passes between match and append

	mu     sync.Mutex
	routes map[string]map[event.Address]bool
	at     lane.ControlID
}

// part is a partition and its worker.
type part struct {
	mu      sync.Mutex
	next    int64
	trimmed int64
	end     int64 // of Kafka, if that is further than next
	skips   lane.Skips
	packer  lane.Packer
}

func newWorld(t testing.TB, partitions int) *world {
	w := &world{
		t: t, store: lane.NewMemory(), routes: make(map[string]map[event.Address]bool),
		parts: make([]part, partitions),
	}
	w.claim()
	return w
}

// claim does what a filter service does at its start.
func (w *world) claim() {
	ctx := context.Background()
	w.store.Epoch(ctx)
	w.store.SetTopic(ctx, lane.Topic{ID: testTopic, Partitions: int32(len(w.parts))})
	for p := range w.parts {
		if _, err := w.store.Claim(ctx, lane.Shard{}, int32(p), testTopic, w.parts[p].next, w.parts[p].end); err != nil {
			w.t.Error(err)
		}
	}
}

// anew has a new filter service match from the beginning. It knows whoever stands in
// the control stream then.
func (w *world) anew() {
	w.mu.Lock()
	clear(w.routes)
	w.mu.Unlock()
	for p := range w.parts {
		w.parts[p].next = 0
	}
	w.claim()
}

// syncLocked applies what is new in the control stream.
func (w *world) syncLocked() {
	changes, at, err := w.store.ControlSince(context.Background(), w.at)
	if errors.Is(err, lane.ErrControlLost) {
		w.at = lane.ControlID{} // a Memory's stream holds everything since it was wiped
		changes, at, err = w.store.ControlSince(context.Background(), w.at)
	}
	if err != nil {
		w.t.Error(err)
		return
	}
	w.at = at
	for _, c := range changes {
		for _, s := range c.Joined {
			if w.routes[s.Subscriber] == nil {
				w.routes[s.Subscriber] = make(map[event.Address]bool)
			}
			w.routes[s.Subscriber][event.Address{Gateway: c.Gateway, Seat: s.Seat}] = true
		}
		for _, s := range c.Forgot {
			for _, seats := range w.routes {
				delete(seats, event.Address{Gateway: c.Gateway, Seat: s})
			}
		}
	}
}

// match returns whom an event is for, and how much of the control stream that
// takes into account.
func (w *world) match(subscribers []string) ([]lane.Group, lane.ControlID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.syncLocked()
	seats := make(map[event.Gateway][]event.Seat)
	for _, s := range subscribers {
		for a := range w.routes[s] {
			seats[a.Gateway] = append(seats[a.Gateway], a.Seat)
		}
	}
	var out []lane.Group
	for g, list := range seats {
		slices.Sort(list)
		out = append(out, lane.Group{Gateway: g, Runs: lane.RunsOf(slices.Compact(list)...)})
	}
	return out, w.at
}

// publish makes one event in partition p for the subscribers and returns its id.
func (w *world) publish(p int, subscribers ...string) string {
	return w.publishSized(p, 0, subscribers...)
}

func (w *world) publishSized(p, size int, subscribers ...string) string {
	part := &w.parts[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	id := event.ID{Partition: int32(p), Offset: part.next}.String()
	data := fmt.Sprintf(`{"n":%q,"to":%q,"pad":%q}`, id, strings.Join(subscribers, " "), strings.Repeat("x", size))
	w.kafka.add(p, data, subscribers) // Kafka has it before anybody
	w.append(part, p, data, subscribers)
	return id
}

// append matches a partition's next event and appends it. Its lock is held.
func (w *world) append(part *part, p int, data string, subscribers []string) {
	groups, at := w.match(subscribers)
	if w.lag > 0 {
		time.Sleep(rand.N(w.lag))
	}
	part.packer.Reset()
	a := lane.Append{
		Partition: int32(p), Topic: testTopic, Expect: part.next, Next: part.next + 1,
		TrimBefore: part.trimmed, Synced: at, End: max(part.end, part.next+1), Skipped: part.skips,
	}
	if len(groups) > 0 {
		part.packer.Add(part.next, time.Now().UnixMilli(), []byte(data), groups)
		a.Entry, a.Last = part.packer.Bytes(), part.next
	}
	got, err := w.store.Append(context.Background(), a)
	if err != nil || got != a.Next {
		w.t.Errorf("append %d-%d: at %d, %v", p, part.next, got, err)
	}
	part.next++
}

// nextID is the id of the next event of partition p.
func (w *world) nextID(p int) string {
	w.parts[p].mu.Lock()
	defer w.parts[p].mu.Unlock()
	return event.ID{Partition: int32(p), Offset: w.parts[p].next}.String()
}

// beat moves no position, but tells how much of the control stream is applied.
func (w *world) beat() {
	for p := range w.parts {
		w.beatAt(p)
	}
}

func (w *world) beatAt(p int) {
	part := &w.parts[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	_, at := w.match(nil)
	w.store.Append(context.Background(), lane.Append{
		Partition: int32(p), Topic: testTopic, Expect: part.next, Next: part.next, TrimBefore: part.trimmed, Synced: at, End: max(part.end, part.next), Skipped: part.skips,
	})
}

// trim drops all events of a partition so far from its lane.
func (w *world) trim(p int) { w.trimTo(p, 0) }

// trimTo drops all but the last so many events of a partition from its lane.
func (w *world) trimTo(p int, keep int64) {
	w.parts[p].mu.Lock()
	w.parts[p].trimmed = max(w.parts[p].trimmed, w.parts[p].next-keep)
	w.parts[p].mu.Unlock()
	w.beat()
}

// instance is a running gateway.
type instance struct {
	*Gateway
	registry prometheus.Registerer
	t        testing.TB
	addr     string
	logs     *logBuffer
	cancel   context.CancelFunc
	server   *http.Server
	done     chan error
	stop     func() error
}

// gateway starts a gateway and waits until it is ready.
func (w *world) gateway(cfg Config) *instance {
	if w.kafka != nil {
		return started(launch(w.t, cfg, w.store, w.kafka.client, w.acks))
	}
	return startGateway(w.t, cfg, w.store)
}

func startGateway(t testing.TB, cfg Config, l Lanes) *instance {
	t.Helper()
	return started(launchGateway(t, cfg, l))
}

func started(i *instance) *instance {
	i.t.Helper()
	testenv.Eventually(i.t, 5*time.Second, func() error { return i.Ready(context.Background()) })
	return i
}

func launchGateway(t testing.TB, cfg Config, l Lanes) *instance {
	t.Helper()
	return launch(t, cfg, l, nil, nil)
}

func launch(t testing.TB, cfg Config, l Lanes, r Replayer, a Acks) *instance {
	t.Helper()
	return launchWith(t, cfg, l, r, a, func(*Gateway) {})
}

// launchWith changes the gateway before it runs.
func launchWith(t testing.TB, cfg Config, l Lanes, r Replayer, a Acks, change func(*Gateway)) *instance {
	t.Helper()
	if cfg.Drain == 0 {
		cfg.Drain = time.Second
	}
	cfg.timeout = cmp.Or(cfg.timeout, 1500*time.Millisecond)
	cfg.stuck = time.Hour // a world does not beat by itself
	cfg.patience = 2 * time.Second
	logs := &logBuffer{}
	reg := prometheus.NewRegistry()
	g := New(cfg, l, r, a, reg, slog.New(slog.NewTextHandler(logs, nil)))
	change(g)
	ctx, cancel := context.WithCancel(context.Background())
	ln, err := socket.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", g.Handler())
	mux.Handle("/sse", g.StreamHandler())
	i := &instance{Gateway: g, registry: reg, t: t, addr: ln.Addr().String(), logs: logs, cancel: cancel, done: make(chan error, 1)}
	i.server = &http.Server{Handler: mux, ReadHeaderTimeout: 2 * time.Second, ErrorLog: log.New(logs, "", 0)}
	served := make(chan struct{})
	go func() { defer close(served); i.server.Serve(ln) }()
	go func() { i.done <- g.Run(ctx) }()
	i.stop = sync.OnceValue(func() error {
		cancel()
		err := <-i.done
		i.server.Close()
		<-served
		return err
	})
	t.Cleanup(func() {
		if err := i.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if t.Failed() {
			t.Logf("gateway %s:\n%s", g.id, logs)
		}
	})
	return i
}

// logBuffer collects a log.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (i *instance) url(subscriber, cursor string) string {
	q := url.Values{"subscriber_id": {subscriber}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return "http://" + i.addr + "/ws?" + q.Encode()
}

// wsClient is a client that reads when it is told to.
type wsClient struct {
	t      testing.TB
	ws     *websocket.Conn
	hello  wire.Message
	cursor string // last one
	seen   map[string]int
	order  []string
	msgs   []wire.Message
	gaps   []wire.Message
}

var oneShot = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func dial(i *instance, subscriber, cursor string) (*websocket.Conn, *http.Response, error) {
	return dialURL(i.url(subscriber, cursor))
}

func dialURL(url string) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: oneShot})
	if err == nil {
		ws.SetReadLimit(16 << 20)
	}
	return ws, resp, err
}

// connect connects and reads the hello.
func connect(t testing.TB, i *instance, subscriber, cursor string) *wsClient {
	t.Helper()
	return connectURL(t, i.url(subscriber, cursor), subscriber)
}

func connectURL(t testing.TB, url, subscriber string) *wsClient {
	t.Helper()
	ws, _, err := dialURL(url)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	return newClient(t, ws, subscriber)
}

// newClient reads the hello.
func newClient(t testing.TB, ws *websocket.Conn, subscriber string) *wsClient {
	t.Helper()
	t.Cleanup(func() { ws.CloseNow() })
	c := &wsClient{t: t, ws: ws, seen: make(map[string]int)}
	m, err := c.read(5 * time.Second)
	if err != nil {
		t.Fatalf("read hello: %v", err)
	}
	if m.Type != wire.Hello || m.SubscriberID != subscriber {
		t.Fatalf("first message: got %+v, want hello to %s", m, subscriber)
	}
	c.hello = m
	return c
}

// read reads one message and takes note of it.
func (c *wsClient) read(timeout time.Duration) (wire.Message, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_, b, err := c.ws.Read(ctx)
	if err != nil {
		return wire.Message{}, err
	}
	var m wire.Message
	if err := json.Unmarshal(b, &m); err != nil {
		c.t.Errorf("message %.200q: %v", b, err)
	}
	c.note(m)
	return m, nil
}

func (c *wsClient) note(m wire.Message) {
	c.msgs = append(c.msgs, m)
	for _, e := range m.Events {
		c.seen[e.ID]++
		c.order = append(c.order, e.ID)
	}
	if m.Type == wire.Gap {
		c.gaps = append(c.gaps, m)
		c.cursor = m.To
	}
	if m.Cursor != "" {
		c.cursor = m.Cursor
	}
}

// until reads until done says so.
func (c *wsClient) until(what string, done func(wire.Message) bool) wire.Message {
	c.t.Helper()
	end := time.Now().Add(30 * time.Second)
	for time.Now().Before(end) {
		m, err := c.read(time.Until(end))
		if err != nil {
			c.t.Fatalf("waiting for %s: %v; got %d events, at the end %v", what, err, len(c.order), c.order[max(0, len(c.order)-10):])
		}
		if done(m) {
			return m
		}
	}
	c.t.Fatalf("waiting for %s: time is over", what)
	return wire.Message{}
}

// untilEvent reads until it has the event.
func (c *wsClient) untilEvent(id string) {
	c.t.Helper()
	if c.seen[id] > 0 {
		return
	}
	c.until("event "+id, func(wire.Message) bool { return c.seen[id] > 0 })
}

func (c *wsClient) untilType(kind string) wire.Message {
	c.t.Helper()
	return c.until("message "+kind, func(m wire.Message) bool { return m.Type == kind })
}

// untilClose reads until the connection ends, and returns the close code.
func (c *wsClient) untilClose(timeout time.Duration) websocket.StatusCode {
	c.t.Helper()
	end := time.Now().Add(timeout)
	for {
		_, err := c.read(time.Until(end))
		if err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				c.t.Fatalf("not closed after %v", timeout)
			}
			return websocket.CloseStatus(err)
		}
	}
}

func (c *wsClient) send(text string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := c.ws.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// check reports duplicates and wrong order in what came over this connection.
func (c *wsClient) check() {
	c.t.Helper()
	for id, n := range c.seen {
		if n > 1 {
			c.t.Errorf("event %s came %d times over one connection", id, n)
		}
	}
	last := make(map[int32]int64)
	for _, text := range c.order {
		id, err := event.ParseID(text)
		if err != nil {
			c.t.Error(err)
		}
		if before, ok := last[id.Partition]; ok && id.Offset <= before {
			c.t.Errorf("event %s came after %d-%d", text, id.Partition, before)
		}
		last[id.Partition] = id.Offset
	}
}

func wantIDs(t testing.TB, c *wsClient, want ...string) {
	t.Helper()
	got := slices.Sorted(slices.Values(c.order))
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("events: got %v, want %v", got, want)
	}
}

func origins(t testing.TB, list ...string) origin.Origins {
	t.Helper()
	o, err := origin.ParseOrigins(list)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// flaky is a store whose calls fail or hang on demand.
type flaky struct {
	*lane.Memory
	announce, tail, heartbeat, topic atomic.Int32 // a trouble
	tailing                          atomic.Pointer[context.CancelFunc]
}

const (
	works = iota
	fails
	hangs
)

var errFlaky = errors.New("connection refused")

func hinder(ctx context.Context, kind *atomic.Int32) error {
	switch kind.Load() {
	case fails:
		return errFlaky
	case hangs:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (f *flaky) Announce(ctx context.Context, a lane.Announcement) (lane.ControlID, error) {
	if err := hinder(ctx, &f.announce); err != nil {
		return lane.ControlID{}, err
	}
	return f.Memory.Announce(ctx, a)
}

func (f *flaky) Heartbeat(ctx context.Context, g event.Gateway, ttl time.Duration) (lane.Beat, error) {
	if err := hinder(ctx, &f.heartbeat); err != nil {
		return lane.Beat{}, err
	}
	return f.Memory.Heartbeat(ctx, g, ttl)
}

func (f *flaky) Topic(ctx context.Context) (lane.Topic, error) {
	if err := hinder(ctx, &f.topic); err != nil {
		return lane.Topic{}, err
	}
	return f.Memory.Topic(ctx)
}

func (f *flaky) Tail(ctx context.Context, sh lane.Shard, from []int64, sink func(lane.Batch) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.tailing.Store(&cancel)
	if err := hinder(ctx, &f.tail); err != nil {
		return err
	}
	if err := f.Memory.Tail(ctx, sh, from, sink); err != nil {
		return err
	}
	return errFlaky
}

// cut ends the Tail under way.
func (f *flaky) cut() {
	if cancel := f.tailing.Load(); cancel != nil {
		(*cancel)()
	}
}

// countingStore counts the reads of lanes.
type countingStore struct {
	*lane.Memory
	ranges atomic.Int64
}

func (c *countingStore) Range(ctx context.Context, sh lane.Shard, p int32, from, to int64, sink func(lane.Entry) error) (int64, error) {
	c.ranges.Add(1)
	return c.Memory.Range(ctx, sh, p, from, to, sink)
}
