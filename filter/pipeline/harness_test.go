package pipeline

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/store"
	"eventstream/topic"
)

// patience is how long a test waits for something that has to happen.
const patience = time.Minute

// grace is AnnounceGrace in tests.
const grace = 100 * time.Millisecond

// TestMain lets more tests run at once than there are CPUs: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "8")
	m.Run()
}

// backend is a store with both of its sides.
type backend interface {
	Store
	Positions(ctx context.Context, sh lane.Shard, n int32) ([]lane.Position, error)
	Skip(ctx context.Context, sh lane.Shard, p int32, id event.TopicID, s lane.Skip) error
	Range(ctx context.Context, sh lane.Shard, p int32, from, to int64, sink func(lane.Entry) error) (int64, error)
	Tail(ctx context.Context, sh lane.Shard, from []int64, sink func(lane.Batch) error) error
	Announce(ctx context.Context, a lane.Announcement) (lane.ControlID, error)
	PublishFilter(ctx context.Context, c filter.Change) (lane.ControlID, error)
}

var errInjected = errors.New("injected failure")

// faulty fails the calls that a test wants to fail: before they take effect, or
// after, as when the answer is lost.
type faulty struct {
	backend
	mu     sync.Mutex
	before func(op string) error
	after  func(op string) error
}

func (f *faulty) set(before, after func(op string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

func (f *faulty) down() { f.set(func(string) error { return errInjected }, nil) }
func (f *faulty) up()   { f.set(nil, nil) }

func (f *faulty) hook(op string, after bool) error {
	f.mu.Lock()
	hook := f.before
	if after {
		hook = f.after
	}
	f.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(op)
}

// call makes one call of a faulty.
func call[T any](f *faulty, op string, do func() (T, error)) (T, error) {
	var zero T
	if err := f.hook(op, false); err != nil {
		return zero, err
	}
	v, err := do()
	if lost := f.hook(op, true); lost != nil {
		return zero, lost
	}
	return v, err
}

func (f *faulty) SetTopic(ctx context.Context, t lane.Topic) error {
	_, err := call(f, "settopic", func() (any, error) { return nil, f.backend.SetTopic(ctx, t) })
	return err
}

func (f *faulty) Claim(ctx context.Context, sh lane.Shard, p int32, id event.TopicID, start, end int64) (int64, error) {
	return call(f, "claim", func() (int64, error) { return f.backend.Claim(ctx, sh, p, id, start, end) })
}

func (f *faulty) Append(ctx context.Context, a lane.Append) (int64, error) {
	return call(f, "append", func() (int64, error) { return f.backend.Append(ctx, a) })
}

func (f *faulty) Epoch(ctx context.Context) (epoch string, created bool, err error) {
	epoch, err = call(f, "epoch", func() (string, error) {
		var err error
		epoch, created, err = f.backend.Epoch(ctx)
		return epoch, err
	})
	return epoch, created, err
}

func (f *faulty) ControlEnd(ctx context.Context) (lane.ControlID, error) {
	return call(f, "end", func() (lane.ControlID, error) { return f.backend.ControlEnd(ctx) })
}

func (f *faulty) ControlSince(ctx context.Context, after lane.ControlID) (changes []lane.Change, at lane.ControlID, err error) {
	at, err = call(f, "since", func() (lane.ControlID, error) {
		var err error
		changes, at, err = f.backend.ControlSince(ctx, after)
		return at, err
	})
	return changes, at, err
}

func (f *faulty) Gateways(ctx context.Context) ([]event.Gateway, error) {
	return call(f, "gateways", func() ([]event.Gateway, error) { return f.backend.Gateways(ctx) })
}

// filterStore is a filter store that can be written to.
type filterStore interface {
	Filters
	Create(context.Context, filter.Spec) (filter.Filter, error)
	Update(ctx context.Context, id filter.ID, s filter.Spec, ifRevision int64) (filter.Filter, error)
	Delete(ctx context.Context, id filter.ID, ifRevision int64) (filter.Filter, error)
	List(ctx context.Context, subscriber string, after filter.ID, limit int) ([]filter.Filter, error)
	Purge(ctx context.Context, olderThan time.Duration) (int64, error)
}

// faultyFilters is a filter store that can be down.
type faultyFilters struct {
	filterStore
	mu   sync.Mutex
	down error
}

func (f *faultyFilters) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = err
}

func (f *faultyFilters) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down
}

func (f *faultyFilters) Load(ctx context.Context, each func(filter.Filter) error) (filter.Mark, error) {
	if err := f.err(); err != nil {
		return "", err
	}
	return f.filterStore.Load(ctx, each)
}

func (f *faultyFilters) ChangesSince(ctx context.Context, m filter.Mark, each func(filter.Change) error) (filter.Mark, error) {
	if err := f.err(); err != nil {
		return m, err
	}
	return f.filterStore.ChangesSince(ctx, m, each)
}

func (f *faultyFilters) Owner(ctx context.Context) (filter.Owner, error) {
	if err := f.err(); err != nil {
		return filter.Owner{}, err
	}
	return f.filterStore.Owner(ctx)
}

// world is all that a service works with.
type world struct {
	t       testing.TB
	kafka   topic.Config
	store   *faulty
	filters *faultyFilters
	dead    DeadLetters
	wrap    func(Kafka) Kafka
	cfg     Config
	topic   lane.Topic
	client  *kgo.Client
	seq     map[event.Gateway]uint64
	ends    error // with which services may end
}

// newWorld starts an embedded broker, with a store in memory.
func newWorld(t testing.TB, partitions int32) *world {
	t.Helper()
	return newWorldOf(t, topic.EmbeddedConfig{Topic: "events", Partitions: partitions})
}

func newWorldOf(t testing.TB, cfg topic.EmbeddedConfig) *world {
	t.Helper()
	b, err := topic.StartBroker(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return worldOf(t, topic.Config{Brokers: []string{b.Addr()}, Topic: "events", Group: "g", Partitions: cfg.Partitions}, lane.NewMemory())
}

func worldOf(t testing.TB, kcfg topic.Config, s backend) *world {
	t.Helper()
	kcfg.SessionTimeout = 6 * time.Second // the least that brokers allow
	w := &world{
		t: t, kafka: kcfg, store: &faulty{backend: s}, filters: &faultyFilters{filterStore: &store.Memory{}},
		cfg: Config{Silence: time.Second, AnnounceGrace: grace, VerifyEvery: 50 * time.Millisecond, Reconcile: 50 * time.Millisecond},
		seq: make(map[event.Gateway]uint64),
	}
	info, err := topic.Ensure(t.Context(), kcfg, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	w.topic = lane.Topic{Name: info.Name, ID: info.ID, Partitions: info.Partitions, Shards: 1}
	w.client, err = kgo.NewClient(kgo.SeedBrokers(kcfg.Brokers...), kgo.DefaultProduceTopic(kcfg.Topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	return w
}

// running is a service and how to stop it.
type running struct {
	*Service
	reg   *prometheus.Registry
	ended chan struct{}
	stop  func() // waits until it has returned
}

// start runs a service until the test ends or stop is called.
func (w *world) start() *running {
	w.t.Helper()
	log := testenv.Log(w.t)
	consumer, err := topic.NewConsumer(w.kafka, nil, log)
	if err != nil {
		w.t.Fatal(err)
	}
	dead := w.dead
	if dead == nil {
		p, err := topic.NewProducer(w.kafka, nil, log)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(p.Close)
		dead = p
	}
	reg := prometheus.NewRegistry()
	var from Kafka = consumer
	if w.wrap != nil {
		from = w.wrap(from)
	}
	svc := New(w.cfg, w.store, w.filters, from, dead, reg, log)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := svc.Run(ctx); err != nil && !errors.Is(err, w.ends) {
			w.t.Errorf("Run: %v", err)
		}
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	w.t.Cleanup(stop)
	return &running{svc, reg, ended, stop}
}

// produce writes values to a partition and returns the offset of the first.
func (w *world) produce(p int32, values ...string) int64 {
	w.t.Helper()
	recs := make([]*kgo.Record, len(values))
	for i, v := range values {
		recs[i] = &kgo.Record{Partition: p, Value: []byte(v)}
	}
	return w.write(recs...)
}

func (w *world) write(recs ...*kgo.Record) int64 {
	w.t.Helper()
	if err := w.client.ProduceSync(context.Background(), recs...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	return recs[0].Offset
}

// seat makes a filter for all of a subscriber's events, unless types say which,
// and announces a seat.
func (w *world) seat(g event.Gateway, seat event.Seat, subscriber string, types ...string) {
	w.t.Helper()
	spec := filter.Spec{SubscriberID: subscriber, EventTypes: types, MatchAll: len(types) == 0}
	f, err := w.filters.Create(w.t.Context(), spec)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.PublishFilter(w.t.Context(), filter.Change{Filter: f}); err != nil {
		w.t.Fatal(err)
	}
	w.announce(g, lane.Seated{Seat: seat, Subscriber: subscriber})
}

func (w *world) announce(g event.Gateway, seated ...lane.Seated) {
	w.t.Helper()
	w.seq[g]++
	_, err := w.store.Announce(w.t.Context(), lane.Announcement{Gateway: g, Seq: w.seq[g], TTL: time.Minute, Joined: seated})
	if err != nil && !errors.Is(err, lane.ErrForgotten) {
		w.t.Fatal(err)
	}
}

// delivered is an event as it stands in a lane.
type delivered struct {
	offset int64
	data   string
	to     []event.Address
}

// lane returns what stands in a lane of the shard, and where it is.
func (w *world) lane(p int32) ([]delivered, lane.Position) {
	w.t.Helper()
	positions, err := w.store.Positions(context.Background(), w.cfg.Shard, p+1)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []delivered
	_, err = w.store.Range(context.Background(), w.cfg.Shard, p, 0, max(positions[p].Next, 0), func(e lane.Entry) error {
		evs, err := unpack(e)
		out = append(out, evs...)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out, positions[p]
}

func unpack(e lane.Entry) (out []delivered, err error) {
	var u lane.Unpacker
	for u.Open(e.Blob); u.Next(); {
		d := delivered{offset: u.Offset, data: string(u.Data)}
		for g, seats := range u.Groups() {
			for _, s := range seats.Append(nil) {
				d.to = append(d.to, event.Address{Gateway: u.Gateways[g], Seat: s})
			}
		}
		slices.SortFunc(d.to, compareAddress)
		out = append(out, d)
	}
	return out, u.Err()
}

// reaches waits until partition p is done up to next.
func (w *world) reaches(p int32, next int64) {
	w.t.Helper()
	testenv.Eventually(w.t, patience, func() error {
		_, pos := w.lane(p)
		if pos.Next < next {
			return fmt.Errorf("partition %d is at %d, want %d", p, pos.Next, next)
		}
		return nil
	})
}

// holds checks that the lane of p holds each of the offsets [from, to) once and
// in order, addressed to the given seats.
func (w *world) holds(p int32, from, to int64, seats ...event.Address) {
	w.t.Helper()
	evs, pos := w.lane(p)
	if pos.Next < to {
		w.t.Errorf("partition %d: at %d, want %d", p, pos.Next, to)
	}
	want := from
	for _, e := range evs {
		if e.offset < from || e.offset >= to {
			continue
		}
		if e.offset != want {
			w.t.Errorf("partition %d: offset %d comes where %d should", p, e.offset, want)
		}
		if !slices.Equal(e.to, seats) {
			w.t.Errorf("partition %d: offset %d is addressed to %v, want %v", p, e.offset, e.to, seats)
		}
		want = e.offset + 1
	}
	if want != to {
		w.t.Errorf("partition %d: events end at %d, want %d", p, want, to)
	}
}

// values returns n events of type t.
func values(t string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(`{"event_type":%q,"n":%d}`, t, i)
	}
	return out
}

// admin asks Kafka for something.
func (w *world) admin(do func(context.Context, *kadm.Client) error) {
	w.t.Helper()
	cl, err := kadm.NewOptClient(kgo.SeedBrokers(w.kafka.Brokers...))
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	if err := do(w.t.Context(), cl); err != nil {
		w.t.Fatal(err)
	}
}

// deleteBefore drops records, as retention does.
func (w *world) deleteBefore(p int32, offset int64) {
	w.t.Helper()
	w.admin(func(ctx context.Context, adm *kadm.Client) error {
		offsets := make(kadm.Offsets)
		offsets.Add(kadm.Offset{Topic: w.kafka.Topic, Partition: p, At: offset})
		_, err := adm.DeleteRecords(ctx, offsets)
		return err
	})
}

func (w *world) addPartitions(total int) {
	w.t.Helper()
	w.admin(func(ctx context.Context, adm *kadm.Client) error {
		_, err := adm.UpdatePartitions(ctx, total, w.kafka.Topic)
		return err
	})
}
