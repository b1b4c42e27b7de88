package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/topic"
)

// Redis is killed again and again, loses its last writes or all it has, and the
// service is restarted, while events flow and seats are taken. A reader that goes
// by offsets, as gateways do, gets each event once and in order, addressed to
// those who had been announced before it was produced.
func TestTorture(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	const partitions, lasts = 3, 15 * time.Second
	server := testenv.Redis(t, testenv.RedisOptions{AppendOnly: true})
	w := newRealWorld(t, server, partitions)
	w.cfg.AnnounceGrace = time.Second
	w.cfg.VerifyEvery = 200 * time.Millisecond
	gw := newMiniGateway(w, 1)
	in := newInbox(w, partitions)
	var s *running
	s = w.start()
	for range 5 {
		gw.join()
	}
	w.ready(s)

	ctx, stop := context.WithTimeout(t.Context(), lasts)
	defer stop()
	var flow sync.WaitGroup
	flow.Go(func() { gw.joins(ctx) })
	flow.Go(func() { in.produce(ctx, gw) })
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for n := 0; ctx.Err() == nil; n++ {
		sleep(ctx, time.Duration(500+rng.IntN(2000))*time.Millisecond)
		switch {
		case n == 3:
			w.flush(server)
		case n%4 == 1: // everything but the gateway restarts
			s.stop()
			w.crash(server, rng)
			s = w.start()
		case n%4 == 2:
			next := w.start()
			if rng.IntN(2) == 0 {
				w.ready(next)
			}
			s.stop()
			s = next
		default:
			w.crash(server, rng)
		}
	}
	flow.Wait()
	in.check(gw)
	w.ready(s)
}

// newRealWorld has the shared Kafka, and Redis.
func newRealWorld(t testing.TB, server *testenv.RedisServer, partitions int32) *world {
	t.Helper()
	kcfg := topic.Config{Brokers: testenv.Kafka(t), Topic: testenv.Topic(t), Partitions: partitions}
	kcfg.Group = kcfg.Topic
	redis, err := lane.NewRedis(lane.RedisConfig{Addr: server.Addr, Block: 200 * time.Millisecond}, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	w := worldOf(t, kcfg, redis)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := kadm.NewClient(w.client).DeleteTopic(ctx, kcfg.DLQ()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) redis(server *testenv.RedisServer) rueidis.Client {
	w.t.Helper()
	cl, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return cl
}

// crash kills Redis, which comes back without what it wrote last.
func (w *world) crash(server *testenv.RedisServer, rng *rand.Rand) {
	w.t.Helper()
	cl := w.redis(server)
	config, err := cl.Do(context.Background(), cl.B().ConfigGet().Parameter("dir").Build()).AsStrMap()
	cl.Close()
	if err != nil {
		w.t.Fatal(err)
	}
	server.Kill()
	files, err := filepath.Glob(filepath.Join(config["dir"], "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		w.t.Fatalf("append-only files: %v, %v", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		w.t.Fatal(err)
	}
	cut := min(info.Size(), rng.Int64N(100_000))
	if err := os.Truncate(files[0], info.Size()-cut); err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("%s: crash: cut %d of %d bytes", time.Now().Format(time.StampMilli), cut, info.Size())
	sleep(context.Background(), 300*time.Millisecond) // as long as a restart takes at least
	server.Restart()
}

// flush makes Redis lose everything, with its connections open.
func (w *world) flush(server *testenv.RedisServer) {
	w.t.Helper()
	w.t.Log("flush")
	cl := w.redis(server)
	defer cl.Close()
	if err := cl.Do(context.Background(), cl.B().Flushall().Build()).Error(); err != nil {
		w.t.Fatal(err)
	}
}

// miniGateway does of a gateway what keeps its seats announced.
type miniGateway struct {
	w  *world
	id event.Gateway

	announcing sync.Mutex // one announcement at a time
	seq        uint64
	epoch      string
	forgotten  bool // announce all

	mu    sync.Mutex
	seats []string // by seat: the subscriber
}

func newMiniGateway(w *world, id event.Gateway) *miniGateway {
	g := &miniGateway{w: w, id: id}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for sleep(ctx, 500*time.Millisecond) == nil {
			g.beat(ctx)
		}
	})
	w.t.Cleanup(func() { cancel(); running.Wait() })
	return g
}

// beat announces all seats if the store has lost some.
func (g *miniGateway) beat(ctx context.Context) {
	g.announcing.Lock()
	defer g.announcing.Unlock()
	b, err := g.w.store.backend.(*lane.Redis).Heartbeat(ctx, g.id, time.Minute)
	if err != nil || b.Seq == g.seq && b.Epoch == g.epoch && !g.forgotten {
		return
	}
	g.mu.Lock()
	all := make([]lane.Seated, len(g.seats))
	for i, subscriber := range g.seats {
		all[i] = lane.Seated{Seat: event.Seat(i), Subscriber: subscriber}
	}
	g.mu.Unlock()
	g.seq++
	_, err = g.w.store.Announce(ctx, lane.Announcement{Gateway: g.id, Seq: g.seq, TTL: time.Minute, All: true, Joined: all})
	g.w.t.Logf("%s: gateway announced %d seats: %v", time.Now().Format(time.StampMilli), len(all), err)
	if err == nil {
		g.epoch, g.forgotten = b.Epoch, false
	}
}

// join takes a seat for a new subscriber with a filter of its own, and returns
// whether the store took the announcement.
func (g *miniGateway) join() bool {
	g.announcing.Lock()
	defer g.announcing.Unlock()
	ctx := context.Background()
	seat := event.Seat(len(g.seats)) // only join changes it
	subscriber := fmt.Sprint("s", seat)
	f, err := g.w.filters.Create(ctx, filter.Spec{SubscriberID: subscriber, EventTypes: []string{subscriber}})
	if err != nil {
		g.w.t.Error(err)
	}
	if _, err := g.w.store.PublishFilter(ctx, filter.Change{Filter: f}); err != nil {
		return false
	}
	g.seq++
	_, err = g.w.store.Announce(ctx, lane.Announcement{
		Gateway: g.id, Seq: g.seq, TTL: time.Minute, Joined: []lane.Seated{{Seat: seat, Subscriber: subscriber}},
	})
	if errors.Is(err, lane.ErrForgotten) {
		g.forgotten, err = true, nil
	}
	if err != nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seats = append(g.seats, subscriber)
	return true
}

// joins goes on taking seats until ctx ends.
func (g *miniGateway) joins(ctx context.Context) {
	n := 0
	for sleep(ctx, 20*time.Millisecond) == nil {
		if g.join() {
			n++
		}
	}
	g.w.t.Logf("%d seats taken", n)
}

// seated returns the last seat that was announced.
func (g *miniGateway) seated() event.Seat {
	g.mu.Lock()
	defer g.mu.Unlock()
	return event.Seat(len(g.seats) - 1)
}

// inbox is what a reader got, and what it should have got.
type inbox struct {
	w     *world
	mu    sync.Mutex
	next  []int64
	got   map[event.ID][]event.Address
	wants map[event.ID]event.Seat
}

func newInbox(w *world, partitions int32) *inbox {
	in := &inbox{w: w, next: make([]int64, partitions), got: make(map[event.ID][]event.Address), wants: make(map[event.ID]event.Seat)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for sleep(ctx, 20*time.Millisecond) == nil {
			in.mu.Lock()
			from := slices.Clone(in.next)
			in.mu.Unlock()
			w.store.Tail(ctx, lane.Shard{}, from, in.batch)
		}
	})
	w.t.Cleanup(func() { cancel(); running.Wait() })
	return in
}

func (in *inbox) batch(b lane.Batch) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, e := range b.Entries {
		evs, err := unpack(e)
		if err != nil {
			in.w.t.Error(err)
		}
		last := int64(-1)
		for _, ev := range evs {
			if ev.offset <= last {
				in.w.t.Errorf("partition %d: %d comes after %d", e.Partition, ev.offset, last)
			}
			if last = ev.offset; last >= in.next[e.Partition] {
				in.got[event.ID{Partition: e.Partition, Offset: last}] = ev.to
			}
		}
		in.next[e.Partition] = max(in.next[e.Partition], e.Last+1)
	}
	for _, p := range b.Positions {
		in.next[p.Partition] = max(in.next[p.Partition], p.Next)
	}
	return nil
}

// produce produces until ctx ends, each event for one subscriber: often the one
// who came last.
func (in *inbox) produce(ctx context.Context, gw *miniGateway) {
	for i := 0; sleep(ctx, time.Millisecond) == nil; i++ {
		seat := gw.seated()
		if i%2 == 0 {
			seat = event.Seat(rand.IntN(int(seat) + 1))
		}
		r := &kgo.Record{Partition: int32(i % len(in.next)), Value: fmt.Appendf(nil, `{"event_type":"s%d"}`, seat)}
		in.w.client.Produce(context.Background(), r, func(r *kgo.Record, err error) {
			if err != nil {
				in.w.t.Error(err)
				return
			}
			in.mu.Lock()
			defer in.mu.Unlock()
			in.wants[event.ID{Partition: r.Partition, Offset: r.Offset}] = seat
		})
	}
	if err := in.w.client.Flush(context.Background()); err != nil {
		in.w.t.Error(err)
	}
}

// check waits for the last event, and compares.
func (in *inbox) check(gw *miniGateway) {
	in.w.t.Helper()
	ends := make([]int64, len(in.next))
	for id := range in.wants {
		ends[id.Partition] = max(ends[id.Partition], id.Offset+1)
	}
	testenv.Eventually(in.w.t, 2*patience, func() error {
		in.mu.Lock()
		defer in.mu.Unlock()
		for p, end := range ends {
			if in.next[p] < end {
				return fmt.Errorf("partition %d is read up to %d, want %d", p, in.next[p], end)
			}
		}
		return nil
	})
	in.mu.Lock()
	defer in.mu.Unlock()
	missing := 0
	for id, seat := range in.wants {
		want := []event.Address{{Gateway: gw.id, Seat: seat}}
		if got := in.got[id]; !slices.Equal(got, want) {
			if missing++; missing < 10 {
				in.w.t.Errorf("event %v went to %v, want %v", id, got, want)
			}
		}
	}
	if len(in.got) != len(in.wants) {
		in.w.t.Errorf("%d events came, want %d", len(in.got), len(in.wants))
	}
	in.w.t.Logf("%d of %d events are missing", missing, len(in.wants))
}
