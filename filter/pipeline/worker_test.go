package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/internal/ops"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/topic"
)

var one = event.Address{Gateway: 1, Seat: 1}

// Whatever fails, before or after it took effect, each offset stands in its lane
// once, and in order.
func TestExactlyOnceOverFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.seat(1, 1, "s")
	rng := rand.New(rand.NewPCG(1, 2))
	unlucky := func(n int) func(string) error {
		return func(string) error {
			w.store.mu.Lock()
			defer w.store.mu.Unlock()
			if rng.IntN(n) == 0 {
				return errInjected
			}
			return nil
		}
	}
	w.cfg.AnnounceGrace = time.Millisecond
	w.start()
	w.produce(0, values("a", 1)...)
	w.reaches(0, 1)
	w.store.set(unlucky(40), unlucky(40))
	for range 40 {
		w.produce(0, values("a", 5)...)
		w.produce(1, values("a", 5)...)
	}
	testenv.Eventually(t, patience, func() error { return w.at(0, 50) })
	w.store.up()
	w.reaches(0, 201)
	w.reaches(1, 200)
	w.holds(0, 0, 201, one)
	w.holds(1, 0, 200, one)
}

func (w *world) at(p int32, next int64) error {
	if _, pos := w.lane(p); pos.Next < next {
		return fmt.Errorf("partition %d is at %d, want %d", p, pos.Next, next)
	}
	return nil
}

// Somebody who lost the partition, and doesn't know yet, appends to it.
func TestZombieMovesThePosition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.seat(1, 1, "s")
	w.start()
	w.produce(0, values("a", 3)...)
	w.reaches(0, 3)
	for i := range int64(20) {
		_, pos := w.lane(0)
		if pos.Next != 3+4*i {
			t.Fatalf("round %d: at %d, want %d", i, pos.Next, 3+4*i)
		}
		var p lane.Packer
		p.Add(pos.Next, 1, []byte(`{"event_type":"z"}`), []lane.Group{{Gateway: 1, Runs: lane.RunsOf(1)}})
		end, _ := w.store.ControlEnd(t.Context())
		// The zombie has matched the next event already; the others it hasn't.
		var first int64
		produced := make(chan struct{})
		w.store.set(func(op string) error {
			if op == "append" {
				<-produced
			}
			return nil
		}, nil)
		first = w.produce(0, values("a", 4)...)
		if _, err := w.store.backend.Append(t.Context(), lane.Append{
			Topic: w.topic.ID, Expect: first, Next: first + 1, Entry: p.Bytes(), Last: first, Synced: end,
		}); err != nil {
			t.Fatal(err)
		}
		close(produced)
		w.reaches(0, first+4)
	}
	w.holds(0, 0, 83, one)
}

// A store that is emptied is filled again, also with what the partition had not
// come to, and its gateways are waited for.
func TestStoreWiped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	memory := w.store.backend.(*lane.Memory)
	w.seat(1, 1, "s")
	w.start()
	for round := range int64(5) {
		w.produce(0, values("a", 50)...)
		w.reaches(0, 50*(round+1))
		memory.Wipe()
		w.announce(1, lane.Seated{Seat: 1, Subscriber: "s"})
		w.reaches(0, 50*(round+1)) // idle: only verifying finds out
		w.reaches(1, 0)
		w.holds(0, 0, 50*(round+1), one)
		if got, err := memory.Topic(t.Context()); err != nil || got != w.topic {
			t.Errorf("round %d: topic is %v, %v, want %v", round, got, err, w.topic)
		}
	}
}

// What the store does not hold any more goes on from where the store is.
func TestRolledBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	memory := w.store.backend.(*lane.Memory)
	w.seat(1, 1, "s")
	w.start()
	w.produce(0, values("a", 100)...)
	w.reaches(0, 100)
	old, pos := w.lane(0)
	// The store comes back with half of it.
	memory.Wipe()
	if _, err := memory.Claim(t.Context(), lane.Shard{}, 0, w.topic.ID, 0, 0); err != nil {
		t.Fatal(err)
	}
	var p lane.Packer
	for _, e := range old[:50] {
		p.Add(e.offset, 1, []byte(e.data), []lane.Group{{Gateway: 1, Runs: lane.RunsOf(1)}})
	}
	if _, err := memory.Append(t.Context(), lane.Append{Topic: w.topic.ID, Next: 50, Entry: p.Bytes(), Last: 49}); err != nil {
		t.Fatal(err)
	}
	w.announce(1, lane.Seated{Seat: 1, Subscriber: "s"})
	w.reaches(0, pos.Next)
	w.holds(0, 0, 100, one)
}

func TestUndecodableAndTombstones(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.seat(1, 1, "s")
	s := w.start()
	ce := []kgo.RecordHeader{{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_type", Value: []byte("a")}, {Key: "ce_id", Value: []byte("x")}}
	w.write(
		&kgo.Record{Value: []byte(`{"event_type":"a"}`)},
		&kgo.Record{Value: []byte(`{"event_type":`), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}},
		&kgo.Record{Key: []byte("k")},
		&kgo.Record{Value: []byte(``)},
		&kgo.Record{Headers: ce}, // an event may be only its attributes
		&kgo.Record{Value: []byte(`{"event_type":"a"}`)},
	)
	w.reaches(0, 6)
	evs, _ := w.lane(0)
	var got []int64
	for _, e := range evs {
		got = append(got, e.offset)
	}
	if fmt.Sprint(got) != "[0 4 5]" {
		t.Errorf("lane holds offsets %v, want [0 4 5]", got)
	}
	for name, want := range map[string]float64{
		"events_read_total": 6, "events_dead_lettered_total": 2, "events_tombstones_total": 1,
		"events_matched_total": 3, "events_routed_total": 3,
	} {
		if got := metric(t, s, name); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	letters := w.deadLetters(2)
	for i, want := range []string{"1", "3"} {
		h := headers(letters[i])
		if h["dlq.offset"] != want || h["dlq.partition"] != "0" || h["dlq.topic"] != "events" || h["dlq.stage"] != "decode" || h["dlq.error"] == "" {
			t.Errorf("dead letter %d has headers %v, want those of offset %s", i, h, want)
		}
	}
	if h := headers(letters[0]); h["h"] != "v" {
		t.Errorf("dead letter lost its own headers: %v", h)
	}
}

// deadLetters returns the first n dead letters.
func (w *world) deadLetters(n int) (out []*kgo.Record) {
	w.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.Brokers...), kgo.ConsumeTopics(w.kafka.DLQ()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for len(out) < n {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			w.t.Fatalf("%d dead letters, want %d", len(out), n)
		}
		out = append(out, fetches.Records()...)
	}
	return out
}

func headers(r *kgo.Record) map[string]string {
	out := make(map[string]string)
	for _, h := range r.Headers {
		out[h.Key] = string(h.Value)
	}
	return out
}

// letterBox is DeadLetters that can be down.
type letterBox struct {
	down   atomic.Bool
	denied atomic.Bool
	tries  atomic.Int64
	taken  atomic.Int64
}

func (b *letterBox) DeadLetters(_ context.Context, letters []topic.Letter) {
	b.tries.Add(1)
	for i := range letters {
		switch {
		case b.down.Load():
			letters[i].Err = errors.New("nobody takes dead letters")
		case b.denied.Load():
			letters[i].Err = topic.ErrDenied
		default:
			b.taken.Add(1)
		}
	}
}

// lettersWorld has one partition, a seat, and a box for dead letters.
func lettersWorld(t *testing.T) (*world, *letterBox) {
	t.Helper()
	w, box := newWorld(t, 1), new(letterBox)
	w.dead = box
	w.seat(1, 1, "s")
	return w, box
}

// A record that can't be put aside is not skipped, and what came before it is
// not held up.
func TestDeadLettersDown(t *testing.T) {
	t.Parallel()
	w, box := lettersWorld(t)
	box.down.Store(true)
	s := w.start()
	w.produce(0, append(values("a", 3), "no event", `{"event_type":"a"}`)...)
	w.reaches(0, 3)
	testenv.Eventually(t, patience, func() error {
		if box.tries.Load() < 3 {
			return errors.New("not tried again")
		}
		return nil
	})
	if err := w.at(0, 4); err == nil {
		t.Error("the record was skipped")
	}
	w.unready(s, "dead letters")
	box.down.Store(false)
	w.reaches(0, 5)
	w.ready(s)
	if n := box.taken.Load(); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
	evs, _ := w.lane(0)
	if len(evs) != 4 {
		t.Errorf("lane holds %d events, want 4", len(evs))
	}
}

// TestDeadLettersAtOnce: many are waited for at once, so that they do not hold up the events
// behind them by a wait for each.
func TestDeadLettersAtOnce(t *testing.T) {
	t.Parallel()
	w, box := lettersWorld(t)
	w.start()
	const bad = 3000
	w.produce(0, append(slices.Repeat([]string{"no event"}, bad), values("a", 1)...)...)
	w.reaches(0, bad+1)
	if n, tries := box.taken.Load(), box.tries.Load(); n != bad || tries > bad/20 {
		t.Errorf("%d dead letters in %d goes, want %d in %d at most", n, tries, bad, bad/20)
	}
	if evs, _ := w.lane(0); len(evs) != 1 {
		t.Errorf("lane holds %d events, want 1", len(evs))
	}
}

func (w *world) ready(s *running) {
	w.t.Helper()
	testenv.Eventually(w.t, patience, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		return s.Ready(ctx)
	})
}

// unready waits until the service says that it isn't ready because of why.
func (w *world) unready(s *running, why string) {
	w.t.Helper()
	testenv.Eventually(w.t, patience, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		err := s.Ready(ctx)
		if err == nil || !strings.Contains(err.Error(), why) {
			return fmt.Errorf("Ready = %v, want one that says %q", err, why)
		}
		return nil
	})
}

func metric(t *testing.T, s *running, name string) float64 {
	t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func TestEntrySizes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.MaxEntry = 2000
	w.seat(1, 1, "s")
	w.start()
	huge := fmt.Sprintf(`{"event_type":"a","pad":%q}`, strings.Repeat("x", 900_000))
	all := append(values("a", 500), huge)
	all = append(all, values("a", 500)...)
	w.produce(0, all...)
	w.reaches(0, 1001)
	w.holds(0, 0, 1001, one)
	if evs, _ := w.lane(0); evs[500].data != huge {
		t.Error("the huge event isn't as it was")
	}
	_, err := w.store.Range(t.Context(), lane.Shard{}, 0, 0, 1001, func(e lane.Entry) error {
		if len(e.Blob) > 2200 && len(e.Blob) < len(huge) {
			t.Errorf("entry up to %d has %d bytes, want about 2000", e.Last, len(e.Blob))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Where the lane is counts, not where the retention window begins.
func TestGoesOnAtTheLanesPosition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.seat(1, 1, "s")
	w.produce(0, values("a", 20)...)
	if _, err := w.store.Claim(t.Context(), lane.Shard{}, 0, w.topic.ID, 7, 7); err != nil {
		t.Fatal(err)
	}
	s := w.start()
	w.reaches(0, 20)
	w.holds(0, 7, 20, one)
	if n := metric(t, s, "events_read_total"); n != 13 {
		t.Errorf("%v events read, want 13", n)
	}
	s.stop()
	w.produce(0, values("a", 5)...)
	s = w.start()
	w.reaches(0, 25)
	w.holds(0, 7, 25, one)
	if n := metric(t, s, "events_read_total"); n != 5 {
		t.Errorf("%v events read, want 5", n)
	}
}

// Records without a time, or with one of before 1970, are events like others.
func TestRecordsWithoutTime(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, topic.EmbeddedConfig{Topic: "events", Partitions: 1, Retention: 100 * 365 * 24 * time.Hour})
	w.seat(1, 1, "s")
	if _, err := w.store.Claim(t.Context(), lane.Shard{}, 0, w.topic.ID, 0, 0); err != nil {
		t.Fatal(err)
	}
	for _, v := range values("a", 3) {
		w.write(&kgo.Record{Timestamp: time.UnixMilli(-1), Value: []byte(v)})
	}
	w.start()
	w.reaches(0, 3)
	w.holds(0, 0, 3, one)
}

// Kafka has lost records that the lane holds: new ones would get offsets that
// count as done.
func TestPositionBeyondTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	if _, err := w.store.Claim(t.Context(), lane.Shard{}, 0, w.topic.ID, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	s := w.start()
	w.unready(s, "1000")
}

// Kafka's retention has passed the position: the loss must not look like a lane
// that is complete.
func TestRetentionPassedThePosition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.seat(1, 1, "s")
	w.produce(0, values("a", 30)...)
	w.deleteBefore(0, 20)
	if _, err := w.store.Claim(t.Context(), lane.Shard{}, 0, w.topic.ID, 5, 5); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.reaches(0, 30)
	w.holds(0, 20, 30, one)
	if _, pos := w.lane(0); pos.First != 20 {
		t.Errorf("lane says that it is complete from %d on, want 20", pos.First)
	}
}

// A worker that can't step is told, also while others do.
func TestReadyTellsOfOnePartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	box := &letterBox{}
	box.down.Store(true)
	w.dead = box
	s := w.start()
	w.ready(s)
	w.produce(1, "no event")
	w.unready(s, "partition 1")
}

func TestTrimsByBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.MaxLaneBytes = 50_000
	w.cfg.Retention = time.Hour
	w.cfg.MaxEntry = 2000
	w.seat(1, 1, "s")
	w.start()
	for range 20 {
		w.produce(0, values("a", 500)...)
	}
	w.reaches(0, 10_000)
	evs, pos := w.lane(0)
	bytes := 0
	for _, e := range evs {
		bytes += len(e.data)
	}
	if bytes < 25_000 || bytes > 100_000 {
		t.Errorf("lane holds %d bytes, want about 50000", bytes)
	}
	w.holds(0, pos.First, 10_000, one)
}

// A full store is given room by what retention allows, also when the worker
// fails meanwhile.
func TestFullStoreIsTrimmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.Retention = time.Second
	w.seat(1, 1, "s")
	var full, trimmed atomic.Bool
	w.store.backend = fullStore{w.store.backend, &full, &trimmed}
	w.start()
	w.produce(0, values("a", 10)...)
	w.reaches(0, 10)
	full.Store(true)
	w.produce(0, values("a", 10)...)
	testenv.Eventually(t, patience, func() error {
		if !trimmed.Load() {
			return errors.New("nothing was given up")
		}
		return nil
	})
	full.Store(false)
	w.reaches(0, 20)
}

// fullStore refuses entries while it is full, and notes whether it may trim some.
type fullStore struct {
	backend
	full, trimmed *atomic.Bool
}

func (f fullStore) Append(ctx context.Context, a lane.Append) (int64, error) {
	if len(a.Entry) == 0 || !f.full.Load() {
		return f.backend.Append(ctx, a)
	}
	if a.TrimBefore > 0 {
		f.trimmed.Store(true)
	}
	return 0, fmt.Errorf("test: %w", lane.ErrFull)
}

// Partitions that are added while the service runs are told to the gateways, and begin
// at their start: what was written to them before counts, whatever its time.
func TestPartitionsAreAdded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.kafka.Options = []kgo.Opt{kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(200 * time.Millisecond)}
	w.seat(1, 1, "s")
	s := w.start()
	w.produce(0, values("a", 1)...)
	w.reaches(0, 1)
	w.addPartitions(3)
	recs := make([]*kgo.Record, 10)
	for i := range recs {
		recs[i] = &kgo.Record{Partition: 2, Value: []byte(`{"event_type":"a"}`), Timestamp: time.Now().Add(-time.Hour)}
	}
	testenv.Eventually(t, patience, func() error { // the producer, too, has to know of it
		return w.client.ProduceSync(t.Context(), recs[:1]...).FirstErr()
	})
	w.write(recs[1:]...)
	testenv.Eventually(t, patience, func() error {
		got, err := w.store.backend.(*lane.Memory).Topic(t.Context())
		if err != nil || got.Partitions != 3 {
			return fmt.Errorf("topic is %v, %v, want 3 partitions", got, err)
		}
		return nil
	})
	w.reaches(2, 10)
	w.holds(2, 0, 10, one)
	families, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if n := len(f.Metric); f.GetName() == "kafka_lag_events" && n != 3 {
			t.Errorf("%d partitions have a lag, want 3", n)
		}
	}
}

// All partitions find that the store lost writes; gateways are waited for once,
// not once for each.
func TestOneWaitForAllPartitions(t *testing.T) {
	t.Parallel()
	const partitions = 12
	w := newWorld(t, partitions)
	w.cfg.AnnounceGrace = time.Second
	memory := w.store.backend.(*lane.Memory)
	w.seat(1, 1, "s")
	s := w.start()
	for p := range int32(partitions) {
		w.produce(p, values("a", 1)...)
	}
	for p := range int32(partitions) {
		w.reaches(p, 1)
	}
	w.ready(s)
	var waits atomic.Int64
	w.store.set(func(op string) error {
		if op == "gateways" {
			waits.Add(1)
		}
		return nil
	}, nil)
	memory.Wipe()
	w.announce(1, lane.Seated{Seat: 1, Subscriber: "s"})
	for p := range int32(partitions) {
		w.reaches(p, 1)
		w.holds(p, 0, 1, one)
	}
	if n := waits.Load(); n > 2 {
		t.Errorf("gateways were waited for %d times, want once, or twice if the first one began early", n)
	}
}

// The lane was written with more of the control stream applied than there is:
// the store has lost the end of that stream. It is not asked without a pause, and
// works again when the stream has come further.
func TestRefusedUntilControlCatchesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.seat(1, 1, "s")
	s := w.start()
	w.produce(0, values("a", 1)...)
	w.reaches(0, 1)
	ahead := lane.ControlID{Ms: uint64(time.Now().Add(2 * time.Second).UnixMilli())}
	if _, err := w.store.backend.Append(t.Context(), lane.Append{Topic: w.topic.ID, Expect: 1, Next: 1, Synced: ahead}); err != nil {
		t.Fatal(err)
	}
	var appends atomic.Int64
	w.store.set(func(op string) error {
		if op == "append" {
			appends.Add(1)
		}
		return nil
	}, nil)
	w.produce(0, values("a", 1)...)
	testenv.Eventually(t, patience, func() error {
		w.announce(1, lane.Seated{Seat: 1, Subscriber: "s"})
		return w.at(0, 2)
	})
	w.holds(0, 0, 2, one)
	if n := appends.Load(); n > 100 {
		t.Errorf("%d appends were tried", n)
	}
	w.ready(s)
}

// Where dead letters may not be written, a record that is no event is passed over, which is
// told, so that the events after it come.
func TestDeadLettersDenied(t *testing.T) {
	t.Parallel()
	w, box := lettersWorld(t)
	box.denied.Store(true)
	s := w.start()
	w.produce(0, append(values("a", 3), "no event", `{"event_type":"a"}`)...)
	w.reaches(0, 5)
	testenv.Eventually(t, patience, func() error {
		if err := s.Ready(t.Context()); !ops.IsDegraded(err) || !errors.Is(err, topic.ErrDenied) {
			return fmt.Errorf("readiness is %v, want degraded", err)
		}
		return nil
	})
	if n := metric(t, s, "dead_letters_denied_total"); n != 1 {
		t.Errorf("%v records count as passed over, want 1", n)
	}
	box.denied.Store(false)
	w.produce(0, "no event either")
	w.reaches(0, 6)
	w.ready(s)
	if evs, _ := w.lane(0); len(evs) != 4 || box.taken.Load() != 1 {
		t.Errorf("lane holds %d events, want 4, and %d dead letters, want 1", len(evs), box.taken.Load())
	}
}
