package reader

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
	"eventstream/gateway/history"
	"eventstream/gateway/uptime"
	"eventstream/lane"
)

// worker keeps what was last posted.
type worker struct{ last Post }

func (w *worker) Post(p Post) { w.last = p }

// newTest returns a reader that does not run, of a topic with two partitions, and its workers.
func newTest(workers int) (*Reader, []*worker) {
	counter := func() prometheus.Counter { return prometheus.NewCounter(prometheus.CounterOpts{}) }
	cfg := Config{
		Gateway: 7, History: history.Config{RingBytes: 1 << 20, Timeout: 5 * time.Second},
		Sure: func(context.Context, time.Time) {}, Missed: func() {}, Lost: func(*Reader, Losses) {},
		Failures: counter(), Malformed: counter(), Misses: counter(),
	}
	var all []*worker
	for range workers {
		w := &worker{}
		all, cfg.Workers = append(all, w), append(cfg.Workers, w)
	}
	r := New(lane.NewMemory(), 0, lane.Shard{Of: 1}, 2, cfg, slog.New(slog.DiscardHandler))
	r.Start([]lane.Position{{Partition: 0}, {Partition: 1}})
	return r, all
}

// Each seat's events go to its worker, once, and those of an old seat to who follows it.
func TestSeatsOfWorkers(t *testing.T) {
	r, workers := newTest(3)
	old := event.Address{Gateway: 8, Seat: 2}
	r.Join(5, old, func() {})
	var p lane.Packer
	p.Add(3, 1, []byte("{}"), []lane.Group{{Gateway: 7, Runs: lane.RunsOf(3, 4)}, {Gateway: 8, Runs: lane.RunsOf(2, 9)}})
	if err := r.Batch(lane.Batch{Entries: []lane.Entry{{Last: 3, Blob: p.Bytes()}}}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []event.Seat{3, 4, 5} {
		got := workers[i].last
		if len(got.Deliveries) != 1 || len(got.Deliveries[0].Seats) != 1 || got.Deliveries[0].Seats[0] != want || got.Next[0] != 4 {
			t.Errorf("worker %d: got %+v, want an event for seat %d", i, got, want)
		}
	}
	if r.Unfollow(old, 5); r.Followed() != 0 {
		t.Error("the old seat is followed by nobody, and still there")
	}
}

// Entries without anything for this gateway cost next to nothing.
func TestForeignEntryAllocs(t *testing.T) {
	r, _ := newTest(1)
	var p lane.Packer
	for i := range int64(1000) {
		p.Add(i, 1, []byte(`{"event_id":"e1"}`), []lane.Group{{Gateway: 8, Runs: lane.RunsOf(1, 2, 3)}})
	}
	entry := lane.Batch{Entries: []lane.Entry{{Last: 999, Blob: p.Bytes()}}}
	allocs := testing.AllocsPerRun(50, func() {
		r.next = []int64{0, 0}
		if err := r.Batch(entry); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 10 {
		t.Errorf("an entry of 1000 events for others: %.0f allocations", allocs)
	}
}

func TestSilence(t *testing.T) {
	r, _ := newTest(1)
	r.heard.Store(int64(uptime.Now() - time.Minute))
	if s := r.Silence(); s < time.Minute {
		t.Errorf("Silence = %v, want a minute", s)
	}
	r.Batch(lane.Batch{})
	if s := r.Silence(); s >= time.Minute {
		t.Errorf("Silence = %v after an answer", s)
	}
	r.heard.Store(0) // it is not read yet
	if s := r.Silence(); s != 0 {
		t.Errorf("Silence = %v of lanes that nobody reads", s)
	}
}

// Positions of older filter services don't say where Kafka ends.
func TestFromNowOnUnknown(t *testing.T) {
	r, _ := newTest(1)
	r.Batch(lane.Batch{Positions: []lane.Position{{Partition: 0, Next: 5}, {Partition: 1, Next: 3, End: 2}}})
	if live, now := r.Join(1, event.Address{}, func() {}); now != nil || !slices.Equal(live, []int64{5, 3}) {
		t.Errorf("join = %v, %v, want [5 3] and nothing from before", live, now)
	}
}
