package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/topic"
	"eventstream/wire"
)

// client serves a service's replays, and returns who asks for them.
func (r *running) client(t testing.TB) *replay.Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("POST /replay", replay.Handler(r.Replay, nil, testenv.Log(t)))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	c, err := replay.NewClient([]string{srv.URL}, nil, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// want gives a subscriber one more filter, with all that follows from it.
func (w *world) want(s filter.Spec) filter.Filter {
	w.t.Helper()
	f, err := w.filters.Create(w.t.Context(), s)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.PublishFilter(w.t.Context(), filter.Change{Filter: f}); err != nil {
		w.t.Fatal(err)
	}
	return f
}

// serves waits until replays are served.
func serves(t testing.TB, c *replay.Client) {
	t.Helper()
	testenv.Eventually(t, patience, func() error {
		s, err := c.Open(t.Context(), replay.Request{Subscriber: "nobody", Since: time.Now()})
		if err != nil {
			return err
		}
		defer s.Close()
		_, err = s.Next()
		if err != io.EOF {
			return fmt.Errorf("a replay for nobody: %w", err)
		}
		return nil
	})
}

// replayed is what came of a request.
type replayed struct {
	from, to []int64
	offsets  [][]int64 // by partition
	data     map[event.ID]string
	lost     []replay.Lost
	batches  int
}

// ask makes a request and reads all of the answer.
func ask(ctx context.Context, c *replay.Client, r replay.Request) (replayed, error) {
	s, err := c.Open(ctx, r)
	if err != nil {
		return replayed{}, err
	}
	defer s.Close()
	return readAll(s)
}

func readAll(s *replay.Stream) (replayed, error) {
	got := replayed{from: s.From(), to: s.To(), lost: slices.Clone(s.Lost()), offsets: make([][]int64, len(s.From())), data: make(map[event.ID]string)}
	for {
		b, err := s.Next()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got.batches++
		if b.Lost != nil {
			got.lost = append(got.lost, *b.Lost)
		}
		if len(b.Entry) == 0 {
			continue
		}
		var u lane.Unpacker
		for u.Open(b.Entry); u.Next(); {
			if u.Offset >= b.Next {
				return got, fmt.Errorf("offset %d in a batch up to %d", u.Offset, b.Next)
			}
			got.offsets[b.Partition] = append(got.offsets[b.Partition], u.Offset)
			got.data[event.ID{Partition: b.Partition, Offset: u.Offset}] = string(u.Data)
		}
		if u.Err() != nil {
			return got, u.Err()
		}
	}
}

// mustAsk is ask, where it has to succeed.
func mustAsk(t testing.TB, c *replay.Client, r replay.Request) replayed {
	t.Helper()
	got, err := ask(t.Context(), c, r)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	return got
}

func span(from, to int64) (list []int64) {
	for o := from; o < to; o++ {
		list = append(list, o)
	}
	return list
}

// onBothKafkas runs a test with the embedded broker, and with Kafka itself.
func onBothKafkas(t *testing.T, partitions int32, test func(t *testing.T, w *world)) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(t, partitions))
	})
	t.Run("kafka", func(t *testing.T) {
		t.Parallel()
		kcfg := topic.Config{Brokers: testenv.Kafka(t), Topic: testenv.Topic(t), Partitions: partitions}
		kcfg.Group = kcfg.Topic
		test(t, worldOf(t, kcfg, lane.NewMemory()))
	})
}

func TestReplay(t *testing.T) {
	onBothKafkas(t, 3, func(t *testing.T, w *world) {
		w.produce(0, slices.Concat(values("a", 100), []string{"no JSON", ""}, values("b", 100), values("a", 50))...)
		w.produce(1, values("b", 30)...)
		w.write(&kgo.Record{Partition: 2, Value: []byte(`{"x":1}`), Headers: []kgo.RecordHeader{ // a CloudEvent
			{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_type", Value: []byte("a")}, {Key: "ce_id", Value: []byte("7")},
		}})
		s := w.start()
		c := s.client(t)
		serves(t, c)
		since := replay.Request{Subscriber: "ann", Since: time.Now().Add(-time.Hour)}

		if got := mustAsk(t, c, since); len(got.data) != 0 || got.batches != 0 || len(got.from) != 3 || got.to[0] != 252 {
			t.Errorf("without filters: got %+v, want nothing, and that it is complete", got)
		}
		w.want(filter.Spec{SubscriberID: "ann", EventTypes: []string{"a"}})
		want := slices.Concat(span(0, 100), span(202, 252))
		got := mustAsk(t, c, since)
		if !slices.Equal(got.offsets[0], want) || len(got.offsets[1]) != 0 || !slices.Equal(got.offsets[2], span(0, 1)) || len(got.lost) > 0 {
			t.Errorf("got %v, lost %v; want %v, nothing, and 0", got.offsets, got.lost, want)
		}
		if data := got.data[event.ID{Partition: 2}]; !strings.Contains(data, `"event_id":"7"`) {
			t.Errorf("a CloudEvent came as %s", data)
		}
		// Filters are those at the time of the request.
		b := w.want(filter.Spec{SubscriberID: "ann", EventTypes: []string{"b"}})
		if got := mustAsk(t, c, since); len(got.offsets[1]) != 30 {
			t.Errorf("with another filter: got %v of partition 1, want 30", got.offsets[1])
		}
		if _, err := w.store.PublishFilter(t.Context(), filter.Change{Filter: filter.Filter{ID: b.ID, Revision: b.Revision + 1, Spec: b.Spec}, Deleted: true}); err != nil {
			t.Fatal(err)
		}
		offsets := replay.Request{Subscriber: "ann", Topic: w.topic.ID, From: []int64{50, 3}, To: []int64{210, 10}}
		if got := mustAsk(t, c, offsets); !slices.Equal(got.offsets[0], slices.Concat(span(50, 100), span(202, 210))) || len(got.data) != 58 ||
			!slices.Equal(got.to, []int64{210, 10, 0}) {
			t.Errorf("by offsets: got %v up to %v", got.offsets, got.to)
		}
		if got := mustAsk(t, c, replay.Request{Subscriber: "ann", From: []int64{240}}); len(got.offsets[0]) != 12 || len(got.offsets[2]) != 1 {
			t.Errorf("to the ends: got %v, want 12 of partition 0, and 1 of partition 2, which is not named", got.offsets)
		}
	})
}

func TestReplayByTime(t *testing.T) {
	onBothKafkas(t, 1, func(t *testing.T, w *world) {
		begin := time.Now().Add(-2 * time.Hour).Truncate(time.Second)
		for i := range 100 {
			w.write(&kgo.Record{Timestamp: begin.Add(time.Duration(i) * time.Minute), Value: []byte(`{"event_type":"a"}`)})
		}
		w.cfg.ReplayMaxAge = 100 * time.Minute
		s := w.start()
		c := s.client(t)
		serves(t, c)
		w.want(filter.Spec{SubscriberID: "ann", MatchAll: true})
		at := func(minutes int) time.Time { return begin.Add(time.Duration(minutes) * time.Minute) }
		got := mustAsk(t, c, replay.Request{Subscriber: "ann", Since: at(50), Until: at(70)})
		if !slices.Equal(got.offsets[0], span(50, 70)) || len(got.lost) > 0 {
			t.Errorf("got %v, lost %v, want 50 to 69", got.offsets, got.lost)
		}
		got = mustAsk(t, c, replay.Request{Subscriber: "ann", Since: at(10)})
		limit := int64(21) // the first that is not older than 100 minutes
		if !slices.Equal(got.offsets[0], span(limit, 100)) || !slices.Equal(got.lost, []replay.Lost{{From: 10, To: limit, Reason: wire.GapLimit}}) {
			t.Errorf("got %v, lost %v, want those from %d on, and that those before are too old", got.offsets, got.lost, limit)
		}
	})
}

func TestReplayTrimmed(t *testing.T) {
	onBothKafkas(t, 1, func(t *testing.T, w *world) {
		for range 10 { // not all in one batch
			w.produce(0, values("a", 100)...)
		}
		w.deleteBefore(0, 300)
		w.admin(func(ctx context.Context, adm *kadm.Client) error { // bounded by time only
			none := "-1"
			_, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.bytes", Value: &none}}, w.kafka.Topic)
			return err
		})
		deleted := make(chan struct{})
		w.wrap = func(k Kafka) Kafka { // more is deleted while it is read
			return tap{k, func(from int64) {
				if from >= 400 {
					return
				}
				select {
				case <-deleted:
				default:
					close(deleted)
					w.deleteBefore(0, 600)
				}
			}}
		}
		s := w.start()
		c := s.client(t)
		serves(t, c)
		w.want(filter.Spec{SubscriberID: "ann", MatchAll: true})
		got := mustAsk(t, c, replay.Request{Subscriber: "ann", From: []int64{100}})
		if !slices.Equal(got.offsets[0], span(600, 1000)) {
			t.Errorf("got %v, want 600 to 999", got.offsets)
		}
		if want := []replay.Lost{{From: 100, To: 300, Reason: wire.GapTrimmed}, {From: 300, To: 600, Reason: wire.GapTrimmed}}; !slices.Equal(got.lost, want) {
			t.Errorf("lost %v, want %v", got.lost, want)
		}
		if got := mustAsk(t, c, replay.Request{Subscriber: "ann", Since: time.Now().Add(-time.Hour)}); !slices.Equal(got.offsets[0], span(600, 1000)) || len(got.lost) > 0 {
			t.Errorf("since an hour ago: got %v, lost %v; Kafka keeps records for longer, so none is lost", got.offsets, got.lost)
		}
	})
}

// tap is told of each read.
type tap struct {
	Kafka
	before func(from int64)
}

func (k tap) ReadAt(ctx context.Context, partition int32, from int64) (topic.Past, error) {
	k.before(from)
	return k.Kafka.ReadAt(ctx, partition, from)
}

// A topic that is bounded by bytes may have lost any record.
func TestReplaySinceBytesRanOut(t *testing.T) {
	t.Parallel()
	b, err := topic.StartBroker(topic.EmbeddedConfig{Topic: "events", Partitions: 2, RetentionBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	w := worldOf(t, topic.Config{Brokers: []string{b.Addr()}, Topic: "events", Group: "g", Partitions: 2}, lane.NewMemory())
	w.produce(0, values("a", 10)...)
	w.produce(1, values("a", 10)...)
	w.deleteBefore(0, 4)
	s := w.start()
	c := s.client(t)
	serves(t, c)
	w.want(filter.Spec{SubscriberID: "ann", MatchAll: true})
	got := mustAsk(t, c, replay.Request{Subscriber: "ann", Since: time.Now().Add(-time.Hour)})
	if want := []replay.Lost{{From: 0, To: 4, Reason: wire.GapTrimmed}}; !slices.Equal(got.lost, want) || len(got.data) != 16 {
		t.Errorf("got %v, lost %v, want 16 events, lost %v", got.offsets, got.lost, want)
	}
}

func TestReplayMaxBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.produce(0, values("a", 1000)...)
	w.produce(1, values("a", 10)...)
	w.cfg.ReplayMaxBytes = 5000
	s := w.start()
	c := s.client(t)
	serves(t, c)
	w.want(filter.Spec{SubscriberID: "ann", MatchAll: true})
	got := mustAsk(t, c, replay.Request{Subscriber: "ann", From: []int64{0, 0}})
	n := int64(len(got.offsets[0]))
	want := []replay.Lost{{Partition: 0, From: n, To: 1000, Reason: wire.GapLimit}, {Partition: 1, From: 0, To: 10, Reason: wire.GapLimit}}
	if n < 50 || n > 250 || !slices.Equal(got.offsets[0], span(0, n)) || !slices.Equal(got.lost, want) {
		t.Errorf("got %d events, lost %v, want about 200, and the rest lost: %v", n, got.lost, want)
	}
}

func TestReplayRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.produce(0, values("a", 10)...)
	w.filters.set(errors.New("down"))
	w.cfg.MaxReplays = 1
	hold := make(chan struct{})
	w.wrap = func(k Kafka) Kafka { return tap{k, func(int64) { <-hold }} }
	s := w.start()
	c := s.client(t)
	refused := func(r replay.Request, want error, text string) {
		t.Helper()
		if _, err := ask(t.Context(), c, r); !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: got %v, want %v, %s", r, err, want, text)
		}
	}
	all := replay.Request{Subscriber: "ann", From: []int64{0}}
	refused(all, replay.ErrUnavailable, "filters are not loaded yet")
	w.filters.set(nil)
	serves(t, c)
	refused(replay.Request{Subscriber: "ann", Topic: event.TopicID{1}, From: []int64{0}}, replay.ErrOtherTopic, "topic")
	refused(replay.Request{Subscriber: "ann", From: []int64{11}}, replay.ErrBeyondEnd, "ends at 10")
	refused(replay.Request{Subscriber: "ann", From: []int64{0, 0}}, replay.ErrUnavailable, "the topic is known to have 1") // a gateway may be faster
	refused(replay.Request{Subscriber: "ann", From: []int64{11}, To: []int64{11}}, replay.ErrBeyondEnd, "ends at 10")

	w.want(filter.Spec{SubscriberID: "ann", MatchAll: true})
	first, err := c.Open(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	refused(all, replay.ErrUnavailable, "1 replays are under way")
	close(hold)
	if got, err := readAll(first); err != nil || len(got.data) != 10 {
		t.Errorf("got %v, %v, want 10 events", got.offsets, err)
	}
	testenv.Eventually(t, patience, func() error { // its place is free again
		_, err := ask(t.Context(), c, all)
		return err
	})
	// Up to beyond the end: what Kafka has comes, and the rest is told as lost.
	got := mustAsk(t, c, replay.Request{Subscriber: "ann", From: []int64{0}, To: []int64{11}})
	if want := []replay.Lost{{From: 10, To: 11, Reason: wire.GapLost}}; !slices.Equal(got.lost, want) || len(got.data) != 10 {
		t.Errorf("got %v, lost %v, want 10 events, lost %v", got.offsets, got.lost, want)
	}
	// A client of a lane that had more may have been further than what Kafka has now.
	got = mustAsk(t, c, replay.Request{Subscriber: "ann", From: []int64{11}, To: []int64{12}})
	if want := []replay.Lost{{From: 10, To: 12, Reason: wire.GapLost}}; !slices.Equal(got.lost, want) || len(got.data) != 0 {
		t.Errorf("got %v, lost %v, want no events, lost %v", got.offsets, got.lost, want)
	}
	w.filters.set(filter.ErrUnknown)
	testenv.Eventually(t, patience, func() error {
		if s.routes.understood() == nil {
			return errors.New("the filter is not known to be unknown")
		}
		return nil
	})
	refused(all, replay.ErrUnavailable, "upgraded")
}

// While nothing is found, the asker is told how far it is.
func TestReplayProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.produce(0, values("a", 10)...)
	w.produce(0, values("a", 10)...)
	release := make(chan struct{})
	w.wrap = func(k Kafka) Kafka {
		return tap{k, func(from int64) {
			if from > 0 {
				<-release
			}
		}}
	}
	s := w.start()
	c := s.client(t)
	serves(t, c)
	w.want(filter.Spec{SubscriberID: "ann", EventTypes: []string{"b"}})
	stream, err := c.Open(t.Context(), replay.Request{Subscriber: "ann", From: []int64{0}})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	// Somebody else's matches don't keep ann from being told.
	b, err := stream.Next()
	if err != nil || len(b.Entry) > 0 || b.Next < 10 && b.Next != 0 {
		t.Errorf("got %+v, %v, want an empty batch", b, err)
	}
	close(release)
	if _, err := readAll(stream); err != nil {
		t.Error(err)
	}
}

// One who takes nothing holds up nobody else, nor the service's end, which it is
// told of.
func TestReplaySlowAsker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	padding := strings.Repeat("x", 10_000)
	for range 20 {
		var vs []string
		for range 50 {
			vs = append(vs, fmt.Sprintf(`{"event_type":"a","padding":%q}`, padding))
		}
		w.produce(0, vs...)
	}
	s := w.start()
	c := s.client(t)
	serves(t, c)
	for _, who := range []string{"slow", "prompt"} {
		w.want(filter.Spec{SubscriberID: who, MatchAll: true})
	}
	slow, err := c.Open(t.Context(), replay.Request{Subscriber: "slow", From: []int64{0}})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	for range 2 {
		if got := mustAsk(t, c, replay.Request{Subscriber: "prompt", From: []int64{0}}); !slices.Equal(got.offsets[0], span(0, 1000)) {
			t.Fatalf("got %d events, want 1000", len(got.data))
		}
	}
	s.stop()
	if got, err := readAll(slow); err == nil {
		t.Errorf("the service has stopped, and the slow asker got all %d events", len(got.data))
	}
	if _, err := ask(t.Context(), c, replay.Request{Subscriber: "slow", From: []int64{0}}); !errors.Is(err, replay.ErrUnavailable) {
		t.Errorf("after the end: got %v, want %v", err, replay.ErrUnavailable)
	}
}

// Those who are served, and fail, are told why.
func TestReplayKafkaFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.produce(0, values("a", 10)...)
	w.wrap = func(k Kafka) Kafka { return broken{k} }
	s := w.start()
	c := s.client(t)
	serves(t, c)
	w.want(filter.Spec{SubscriberID: "ann", MatchAll: true})
	if _, err := ask(t.Context(), c, replay.Request{Subscriber: "ann", From: []int64{0}}); !errors.Is(err, replay.ErrBroken) || !strings.Contains(err.Error(), "injected") {
		t.Errorf("got %v, want %v, injected", err, replay.ErrBroken)
	}
}

type broken struct{ Kafka }

func (broken) ReadAt(context.Context, int32, int64) (topic.Past, error) {
	return topic.Past{}, errInjected
}

// TestReplayAgainstReference lets random askers with random filters ask for random
// ranges at random times, some of them reading slowly, and compares what each gets
// with trying all events one by one.
func TestReplayAgainstReference(t *testing.T) {
	t.Parallel()
	const partitions, askers = 3, 100
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t, partitions)
	w.cfg.ReplayMemory = 1 // the smallest batches
	events := make([][]sample, partitions)
	for p := range int32(partitions) {
		for range 10 {
			vs := make([]string, 100)
			for i := range vs {
				vs[i] = anyEvent(rng)
				events[p] = append(events[p], sampleOf(vs[i]))
			}
			w.produce(p, vs...)
		}
	}
	specs := make([][]filter.Spec, askers)
	for i := range specs {
		for range 1 + rng.IntN(3) {
			spec := anySpec(rng, fmt.Sprintf("user_%d", i))
			specs[i] = append(specs[i], spec)
			w.want(spec)
		}
	}
	s := w.start()
	c := s.client(t)
	serves(t, c)
	var asking sync.WaitGroup
	for i := range askers {
		from, to := randomRange(rng, events)
		wait, slow := time.Duration(rng.IntN(300))*time.Millisecond, rng.IntN(5) == 0
		asking.Go(func() {
			sleep(t.Context(), wait)
			req := replay.Request{Subscriber: specs[i][0].SubscriberID, From: from, To: to}
			stream, err := c.Open(t.Context(), req)
			if err != nil {
				t.Error(err)
				return
			}
			defer stream.Close()
			if slow {
				sleep(t.Context(), 200*time.Millisecond)
			}
			got, err := readAll(stream)
			if err != nil {
				t.Error(err)
				return
			}
			for p := range events {
				if want := matching(specs[i], events[p], from[p], to[p]); !slices.Equal(got.offsets[p], want) {
					t.Errorf("%+v, partition %d from %d to %d: got %v, want %v", specs[i], p, from[p], to[p], got.offsets[p], want)
				}
				for _, o := range got.offsets[p] {
					if data := got.data[event.ID{Partition: int32(p), Offset: o}]; data != events[p][o].raw {
						t.Errorf("%d-%d came as %s, want %s", p, o, data, events[p][o].raw)
					}
				}
			}
		})
	}
	asking.Wait()
	testenv.Eventually(t, patience, func() error {
		if n := s.replays.running.Load(); n != 0 {
			return fmt.Errorf("%d replays are still running", n)
		}
		return nil
	})
}

func randomRange(rng *rand.Rand, events [][]sample) (from, to []int64) {
	for _, evs := range events {
		a, b := rng.IntN(len(evs)+1), rng.IntN(len(evs)+1)
		from, to = append(from, int64(min(a, b))), append(to, int64(max(a, b)))
	}
	return from, to
}

func anyEvent(rng *rand.Rand) string {
	if rng.IntN(20) == 0 {
		return []string{"no JSON", `{"no":"type"}`, `[]`, `{"event_type":""}`}[rng.IntN(4)]
	}
	return fmt.Sprintf(`{"event_type":%q,"user_tier":%q,"amount":%d,"items":[{"sku":"s%d"},{"sku":"s%d"}],"pad":%q}`,
		string("abcd"[rng.IntN(4)]), string("xyz"[rng.IntN(3)]), rng.IntN(100), rng.IntN(10), rng.IntN(10), strings.Repeat("p", rng.IntN(400)))
}

func anySpec(rng *rand.Rand, subscriber string) filter.Spec {
	s := filter.Spec{SubscriberID: subscriber}
	if rng.IntN(2) == 0 {
		s.EventTypes = []string{string("abcd"[rng.IntN(4)])}
	}
	if rng.IntN(3) == 0 {
		s.UserTiers = []string{string("xyz"[rng.IntN(3)])}
	}
	if rng.IntN(3) == 0 {
		s.MinAmount = new(float64(rng.IntN(100)))
	}
	if rng.IntN(3) == 0 {
		s.Where = filter.Where{"items.sku": {Eq: new(filter.Text(fmt.Sprintf("s%d", rng.IntN(10))))}}
	}
	s.MatchAll = s.EventTypes == nil && s.UserTiers == nil && s.MinAmount == nil && s.Where == nil
	return s
}

// sample is what was produced.
type sample struct {
	raw string
	ev  map[string]any // nil if it is no event
}

func sampleOf(raw string) sample {
	ev, err := filter.DecodeEvent([]byte(raw))
	if name, _ := ev["event_type"].(string); err != nil || name == "" {
		return sample{raw, nil}
	}
	return sample{raw, ev}
}

// matching is the plain loop.
func matching(specs []filter.Spec, events []sample, from, to int64) (offsets []int64) {
	for o := from; o < to; o++ {
		ev := events[o].ev
		if ev != nil && slices.ContainsFunc(specs, func(s filter.Spec) bool { return s.Match(ev) }) {
			offsets = append(offsets, o)
		}
	}
	return offsets
}
