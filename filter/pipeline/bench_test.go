package pipeline

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/perf/workload"
	"eventstream/store"
	"eventstream/topic"
)

// filled returns the view of routes with a subscriber for each spec, which has
// its seat at one of the gateways. They took their seats in order, or have all
// moved since.
func filled(specs []filter.Spec, gateways int, moved bool) *view {
	r := newRoutes(lane.Shard{})
	for i := range specs {
		f := filter.Filter{ID: filter.ID(fmt.Sprintf("00000000-0000-7000-8000-%012x", i)), Revision: 1, Spec: specs[i]}
		r.setFilter(filter.Change{Filter: f})
	}
	given := make([]event.Seat, gateways)
	seatOf := make([]event.Address, len(specs))
	sit := func(order []int) {
		for _, i := range order {
			g := i % gateways
			given[g]++
			seatOf[i] = event.Address{Gateway: event.Gateway(g + 1), Seat: given[g]}
			r.join(seatOf[i].Gateway, []lane.Seated{{Seat: seatOf[i].Seat, Subscriber: specs[i].SubscriberID}})
		}
	}
	order := make([]int, len(specs))
	for i := range order {
		order[i] = i
	}
	sit(order)
	if moved {
		rng := rand.New(rand.NewPCG(1, 1))
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		before := slices.Clone(seatOf)
		sit(order)
		for _, a := range before {
			r.forgetLocked(a)
		}
	}
	r.publish()
	return r.view()
}

// BenchmarkEvent is the whole way of an event in the filter service, but for
// Kafka and Redis: its JSON in, the bytes of a lane entry with all recipients out.
func BenchmarkEvent(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		for _, matches := range []int{0, 10, 1000, n / 10} {
			if matches > n/10 {
				continue
			}
			w := workload.For(n, matches)
			var v *view
			b.Run(fmt.Sprintf("filters=%d/matches=%d", n, matches), func(b *testing.B) {
				if v == nil {
					v = filled(w.Specs(n), 1, false)
				}
				benchEvent(b, v, w.Event(matches, n))
			})
		}
	}
}

// BenchmarkEventScattered does it with seats that are not in the order of the
// subscribers.
func BenchmarkEventScattered(b *testing.B) {
	const n = 1_000_000
	for _, s := range []struct {
		name     string
		gateways int
		moved    bool
	}{{"gateways=4", 4, false}, {"moved", 1, true}} {
		for _, matches := range []int{10, n / 10} {
			w := workload.For(n, matches)
			var v *view
			b.Run(fmt.Sprintf("filters=%d/matches=%d/%s", n, matches, s.name), func(b *testing.B) {
				if v == nil {
					v = filled(w.Specs(n), s.gateways, s.moved)
				}
				benchEvent(b, v, w.Event(matches, n))
			})
		}
	}
}

// BenchmarkEventParallel does it on all cores at once, over one view.
func BenchmarkEventParallel(b *testing.B) {
	const n, matches = 1_000_000, 10
	w := workload.For(n, matches)
	var v *view
	b.Run(fmt.Sprintf("filters=%d/matches=%d", n, matches), func(b *testing.B) {
		if v == nil {
			v = filled(w.Specs(n), 1, false)
		}
		raw := w.Event(matches, n)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			var p path
			for pb.Next() {
				p.pass(b, v, raw)
			}
		})
	})
}

func benchEvent(b *testing.B, v *view, raw []byte) {
	var p path
	p.pass(b, v, raw)
	b.ReportAllocs()
	p.seats = 0
	for b.Loop() {
		p.pass(b, v, raw)
	}
	b.ReportMetric(float64(p.seats)/float64(b.N), "seats/op")
}

// path is what a worker needs to take events from their JSON to an entry.
type path struct {
	decoder  event.Decoder
	resolver resolver
	packer   lane.Packer
	seats    int
}

func (p *path) pass(b testing.TB, v *view, raw []byte) {
	ev, err := p.decoder.Decode(raw, v.index.Paths())
	if err != nil {
		b.Fatal(err)
	}
	groups, n := p.resolver.recipients(v, ev)
	p.seats += n
	p.packer.Reset()
	if n > 0 {
		p.packer.Add(1, 1_700_000_000_000, raw, groups)
	}
}

// BenchmarkService is the whole filter service over real Kafka and Redis: events
// that wait in Kafka, until their matches stand in the lanes, with 100,000
// active subscribers. It reports the process's CPU time, since most of the time
// by the clock is spent in Kafka and Redis on the same machine.
func BenchmarkService(b *testing.B) {
	const n, events, partitions = 100_000, 2_000_000, 4
	for _, matches := range []int{0, 10} {
		b.Run(fmt.Sprintf("subscribers=%d/matches=%d", n, matches), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				w := newRealWorld(b, testenv.Redis(b), partitions)
				w.cfg.VerifyEvery = time.Second
				seated := make([]lane.Seated, n)
				for i, s := range workload.Narrow.Specs(n) {
					if _, err := w.filters.Create(b.Context(), s); err != nil {
						b.Fatal(err)
					}
					seated[i] = lane.Seated{Seat: event.Seat(i + 1), Subscriber: s.SubscriberID}
				}
				w.announce(1, seated...)
				raw := workload.Narrow.Event(matches, n)
				for i := 0; i < events; i += 1000 {
					records := make([]*kgo.Record, 1000)
					for j := range records {
						records[j] = &kgo.Record{Partition: int32(j % partitions), Value: raw}
					}
					w.write(records...)
				}
				gate := make(chan struct{})
				w.wrap = func(k Kafka) Kafka { return gated{k, gate} }
				s := w.start()
				if _, err := s.follower.sync(b.Context()); err != nil {
					b.Fatal(err)
				}
				if got := s.routes.counts(); got.indexed != n {
					b.Fatalf("routes hold %+v, want %d filters indexed", got, n)
				}
				w.filters.set(filter.ErrUnavailable) // a service's filters are not in its own memory twice
				w.filters.filterStore = &store.Memory{}
				runtime.GC()
				before := cpu(b)
				b.StartTimer()
				close(gate)
				testenv.Eventually(b, time.Minute, func() error { return w.done(events) })
				b.ReportMetric(float64(events)/(cpu(b)-before).Seconds(), "events/CPU-s")
			}
		})
	}
}

// gated keeps partitions from being worked on until the gate is open.
type gated struct {
	Kafka
	gate chan struct{}
}

func (g gated) Run(ctx context.Context, work func(context.Context, *topic.Partition) error) error {
	<-g.gate
	return g.Kafka.Run(ctx, work)
}

// done tells how many of the events are not in the lanes yet.
func (w *world) done(events int64) error {
	all, err := w.store.Positions(context.Background(), lane.Shard{}, w.topic.Partitions)
	if err != nil {
		return err
	}
	for _, p := range all {
		events -= p.Next
	}
	if events > 0 {
		return fmt.Errorf("%d events are not done", events)
	}
	return nil
}

// cpu returns the CPU time that this process has taken.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
