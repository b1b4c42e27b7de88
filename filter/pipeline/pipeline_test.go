package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/bubble"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/store"
	"eventstream/topic"
)

// Every change that was acknowledged before an event was produced counts for
// that event.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	const clients, rounds = 4, 100
	w := newWorld(t, clients)
	w.ready(w.start())
	var all sync.WaitGroup
	want := make([][]int, clients) // by partition and offset: the number of recipients
	for p := range int32(clients) {
		all.Go(func() {
			for i := range rounds {
				want[p] = append(want[p], w.readYourWrites(p, i)...)
			}
		})
	}
	all.Wait()
	for p := range int32(clients) {
		w.reaches(p, int64(len(want[p])))
		got := make([]int, len(want[p]))
		evs, _ := w.lane(p)
		for _, e := range evs {
			got[e.offset] = len(e.to)
		}
		for i := range got {
			if got[i] != want[p][i] {
				t.Errorf("partition %d, event %d: got %d recipients, want %d", p, i, got[i], want[p][i])
			}
		}
	}
}

// readYourWrites makes a filter, takes a seat, changes the filter and deletes it,
// with an event after each, and returns how many recipients these have.
func (w *world) readYourWrites(p int32, i int) []int {
	ctx, g := context.Background(), event.Gateway(p+1)
	who := fmt.Sprintf("s%d-%d", p, i)
	id := filter.ID("f" + who)
	tell := func(revision int64, typ string, deleted bool) {
		c := filter.Change{Deleted: deleted, Filter: filter.Filter{ID: id, Revision: revision, Spec: filter.Spec{SubscriberID: who, EventTypes: []string{typ}}}}
		if _, err := w.store.PublishFilter(ctx, c); err != nil {
			w.t.Error(err)
		}
	}
	sit := func() {
		_, err := w.store.Announce(ctx, lane.Announcement{
			Gateway: g, Seq: uint64(i) + 1, TTL: time.Minute, Joined: []lane.Seated{{Seat: event.Seat(i), Subscriber: who}},
		})
		if err != nil {
			w.t.Error(err)
		}
	}
	if i%2 == 0 {
		tell(1, who, false)
		sit()
	} else {
		sit()
		tell(1, who, false)
	}
	w.reaches(p, 1+w.produce(p, values(who, 1)...)) // or a later change might count for it, too
	tell(2, who+"x", false)
	w.produce(p, values(who, 1)...)
	w.reaches(p, 1+w.produce(p, values(who+"x", 1)...))
	tell(3, "", true)
	w.produce(p, values(who+"x", 1)...)
	return []int{1, 0, 1, 0}
}

// turns is a filter store that says when it is asked, and waits.
type turns struct {
	*store.Memory
	asked  chan filter.Mark
	answer chan struct{}
}

func (f *turns) ChangesSince(ctx context.Context, m filter.Mark, each func(filter.Change) error) (filter.Mark, error) {
	f.asked <- m
	<-f.answer
	return f.Memory.ChangesSince(ctx, m, each)
}

// Who wants to catch up while others do so waits, and goes on where they ended.
func TestCatchUpByTurns(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := &turns{&store.Memory{}, make(chan filter.Mark), make(chan struct{})}
		s := New(Config{}, nil, f, nil, nil, prometheus.NewRegistry(), testenv.Log(t))
		if err := s.loadFilters(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Create(t.Context(), filter.Spec{SubscriberID: "s", EventTypes: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
		begin := func(ctx context.Context) chan error {
			done := make(chan error, 1)
			go func() { done <- s.catchUp(ctx) }()
			return done
		}
		ctx, cancel := context.WithCancel(t.Context())
		first := begin(t.Context())
		from := <-f.asked
		second, third := begin(t.Context()), begin(ctx)
		synctest.Wait()
		cancel()
		if err := <-third; !errors.Is(err, context.Canceled) {
			t.Errorf("while another one reads: %v, want %v", err, context.Canceled)
		}
		select {
		case <-f.asked:
			t.Fatal("two read at once")
		default:
		}
		f.answer <- struct{}{}
		if next := <-f.asked; next == from {
			t.Errorf("the second reads from %q as well", from)
		}
		f.answer <- struct{}{}
		if err := errors.Join(<-first, <-second); err != nil {
			t.Error(err)
		}
		if got := s.routes.counts().filters; got != 1 {
			t.Errorf("%d filters, want 1", got)
		}
	})
}

// An API process dies between its commit and its word on the control stream.
func TestReconcile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.announce(1, lane.Seated{Seat: 1, Subscriber: "s"})
	s := w.start()
	w.ready(s)
	filters := func(n float64) {
		t.Helper()
		testenv.Eventually(t, patience, func() error {
			if got := metric(t, s, "filters_indexed"); got != n {
				return fmt.Errorf("%v filters indexed, want %v", got, n)
			}
			return nil
		})
	}
	f, err := w.filters.Create(t.Context(), filter.Spec{SubscriberID: "s", EventTypes: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	filters(1)
	w.produce(0, values("a", 1)...)
	w.reaches(0, 1)

	// Matching goes on while the filter store is down, also with what is told.
	w.filters.set(filter.ErrUnavailable)
	told, err := w.filters.Create(t.Context(), filter.Spec{SubscriberID: "s", EventTypes: []string{"b"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.PublishFilter(t.Context(), filter.Change{Filter: told}); err != nil {
		t.Fatal(err)
	}
	w.produce(0, append(values("a", 1), values("b", 1)...)...)
	w.reaches(0, 3)
	w.holds(0, 0, 3, one)
	w.ready(s)

	if _, err := w.filters.Delete(t.Context(), f.ID, 0); err != nil {
		t.Fatal(err)
	}
	w.filters.set(nil)
	filters(1)
	w.produce(0, values("a", 1)...)
	w.reaches(0, 4)
	if evs, _ := w.lane(0); len(evs) != 3 {
		t.Errorf("lane holds %d events, want 3: the last one has no filter", len(evs))
	}

	// What was deleted and forgotten while nobody could look.
	w.filters.set(filter.ErrUnavailable)
	if _, err := w.filters.Delete(t.Context(), told.ID, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.filters.Create(t.Context(), filter.Spec{SubscriberID: "s", EventTypes: []string{"c"}}); err != nil {
		t.Fatal(err)
	}
	if n, err := w.filters.Purge(t.Context(), 0); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	w.filters.set(nil)
	testenv.Eventually(t, patience, func() error {
		s.routes.mu.Lock()
		defer s.routes.mu.Unlock()
		if f := s.routes.filters[keyOf(told.ID)]; f.condition != nil || s.routes.live != 1 {
			return fmt.Errorf("knows %d filters, the deleted one among them: %t; want only the new one", s.routes.live, f.condition != nil)
		}
		return nil
	})
	filters(1)
}

// A filter that only a newer version understands could match any event: they wait
// until it is gone, or this process is upgraded.
func TestWaitsWithAFilterItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.seat(1, 1, "s", "a")
	s := w.start()
	w.ready(s)
	w.reaches(0, 0)
	w.filters.set(fmt.Errorf("filter 7: %w: \"wildcard\"", filter.ErrUnknown))
	w.unready(s, "until this process is upgraded, or the filter is changed")
	w.produce(0, values("a", 1)...)
	w.unready(s, "wildcard")
	if evs, pos := w.lane(0); len(evs) != 0 || pos.Next != 0 {
		t.Errorf("lane holds %d events and is at %d, want it to wait", len(evs), pos.Next)
	}
	w.filters.set(nil)
	w.reaches(0, 1)
	w.holds(0, 0, 1, event.Address{Gateway: 1, Seat: 1})
	w.ready(s)

	s.routes.apply([]lane.Change{{Unknown: filter.ErrUnknown}}) // as the control stream tells it
	w.produce(0, values("a", 1)...)
	w.reaches(0, 2)
	w.ready(s)
}

// Everything it depends on may be down when it starts.
func TestStartsWhenItCan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.seat(1, 1, "s")
	w.produce(0, values("a", 1)...)
	w.store.down()
	w.filters.set(filter.ErrUnavailable)
	s := w.start()
	w.unready(s, "not loaded yet")
	w.store.up()
	w.unready(s, "not loaded yet")
	w.filters.set(nil)
	w.ready(s)
	w.reaches(0, 1)
	w.holds(0, 0, 1, one)
}

func TestReady(t *testing.T) {
	t.Parallel()
	b, err := topic.StartBroker(topic.EmbeddedConfig{Topic: "events", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	w := worldOf(t, topic.Config{Brokers: []string{b.Addr()}, Topic: "events", Group: "g", Partitions: 1}, lane.NewMemory())
	s := w.start()
	w.ready(s)
	failures := metric(t, s, "redis_failures_total")
	w.store.down()
	w.unready(s, errInjected.Error())
	if n := metric(t, s, "redis_failures_total"); n <= failures {
		t.Errorf("redis_failures_total = %v while the store is down, want more than %v", n, failures)
	}
	w.store.up()
	w.ready(s)
	w.store.set(func(op string) error { // presence can be read, lanes can't be written
		if op == "append" {
			return errInjected
		}
		return nil
	}, nil)
	w.unready(s, "partition 0 fails")
	w.store.up()
	w.ready(s)
	b.Close()
	w.unready(s, "of topic events")
}

// The check of one partition, with time as it is told.
func TestPartitionStandsStill(t *testing.T) {
	now := time.Now()
	a := &assignment{part: &topic.Partition{ID: 3}, moved: now, stepped: now, waiting: -1}
	at := func(d time.Duration) time.Time { return now.Add(d) }
	check := func(when time.Duration, next, end int64, want string) {
		t.Helper()
		got := ""
		if err := a.check(next, end, at(when)); err != nil {
			got = err.Error()
		}
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("after %v at %d of %d: got %q, want %q", when, next, end, got, want)
		}
	}
	a.next = 10
	check(0, 10, 10, "")
	check(4*time.Second, 10, 20, "")
	a.stepped = at(10 * time.Second)
	check(10*time.Second, 10, 20, "events wait at 10")
	check(20*time.Second, 10, 20, "stands still for 10s")
	a.failed(errInjected)
	a.failing, a.stepped = at(20*time.Second), at(20*time.Second)
	check(20*time.Second, 10, 10, "")
	a.done(10, 20) // there is nothing to do yet
	check(30*time.Second, 10, 20, errInjected.Error())
	a.done(10, 10)
	a.stepped = at(40 * time.Second)
	check(40*time.Second, 10, 10, "")
	// Offsets that no record has: the end doesn't grow.
	a.next, a.moved, a.waiting, a.stepped = 20, at(20*time.Second), -1, at(60*time.Second)
	check(21*time.Second, 20, 21, "")
	check(60*time.Second, 20, 21, "")
	check(60*time.Second, 20, 22, "events wait at 20")
	check(60*time.Second, 20, 19, "Kafka lost records")
}

func TestMetricNames(t *testing.T) {
	reg := prometheus.NewRegistry()
	newMetrics(reg, newRoutes(lane.Shard{}), new(atomic.Int64))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, f := range families {
		names[f.GetName()] = true
	}
	for _, want := range []string{
		"events_read_total", "events_matched_total", "events_routed_total", "redis_failures_total", "active_subscribers",
	} {
		if !names[want] {
			t.Errorf("there is no metric %s", want)
		}
	}
}

// Two services share the partitions. One of them is cut off from Kafka while
// events flow, and doesn't know: it goes on with what it has.
func TestTakeover(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	w.seat(1, 1, "s")
	var cut cutter
	w.kafka.Options = []kgo.Opt{kgo.Dialer(cut.dial)}
	a := w.start()
	w.kafka.Options = nil
	w.ready(a)
	b := w.start()
	share := func(s *running) int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.assignments)
	}
	testenv.Eventually(t, patience, func() error {
		if x, y := share(a), share(b); x != 2 || y != 2 {
			return fmt.Errorf("partitions are shared %d to %d, want 2 to 2", x, y)
		}
		return nil
	})
	done := make(chan struct{})
	var flow sync.WaitGroup
	flow.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				w.produce(int32(i%4), values("a", 3)...)
			}
		}
	})
	cut.off()
	testenv.Eventually(t, patience, func() error {
		if n := share(b); n != 4 {
			return fmt.Errorf("the other one has %d partitions, want 4", n)
		}
		return nil
	})
	a.stop()
	w.announce(1, lane.Seated{Seat: 2, Subscriber: "nobody"})
	close(done)
	flow.Wait()
	for p := range int32(4) {
		last := w.produce(p, values("a", 1)...)
		w.reaches(p, last+1)
		w.holds(p, 0, last+1, one)
	}
	w.ready(b)
}

// cutter is a network that can be cut.
type cutter struct {
	mu    sync.Mutex
	isOff bool
	conns []net.Conn
}

func (c *cutter) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isOff {
		conn.Close()
		return nil, errors.New("the network is cut")
	}
	c.conns = append(c.conns, conn)
	return conn, nil
}

func (c *cutter) off() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isOff = true
	for _, conn := range c.conns {
		conn.Close()
	}
}

// Services start and stop in order while events flow.
func TestRollingRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.cfg.AnnounceGrace = 10 * time.Millisecond
	w.seat(1, 1, "s")
	done := make(chan struct{})
	var flow sync.WaitGroup
	flow.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				w.produce(int32(i%3), values("a", 2)...)
			}
		}
	})
	old := w.start()
	for range 4 {
		w.ready(old)
		next := w.start()
		w.ready(next)
		old.stop()
		old = next
	}
	close(done)
	flow.Wait()
	for p := range int32(3) {
		last := w.produce(p, values("a", 1)...)
		w.reaches(p, last+1)
		w.holds(p, 0, last+1, one)
	}
}
