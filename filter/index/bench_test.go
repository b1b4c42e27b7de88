package index_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/filter/index"
	"eventstream/perf/workload"
)

// filled returns an Index with each spec for a slot of its own, and their
// conditions.
func filled(specs []filter.Spec) (*index.Index, []*index.Condition) {
	x := index.New(index.Options{})
	conditions := make([]*index.Condition, len(specs))
	for i := range specs {
		conditions[i] = x.Intern(&specs[i])
		x.Add(conditions[i], index.Slot(i))
	}
	x.Snapshot()
	return x, conditions
}

func snapshot(specs []filter.Spec) *index.Snapshot {
	x, _ := filled(specs)
	return x.Snapshot()
}

// The whole way, from an event's JSON to encoded recipients, is in
// filter/pipeline; this is the index alone.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		for _, matches := range []int{0, 10, 1000, n / 10} {
			w := workload.For(n, matches)
			var snap *index.Snapshot
			b.Run(fmt.Sprintf("filters=%d/matches=%d", n, matches), func(b *testing.B) {
				if snap == nil {
					snap = snapshot(w.Specs(n))
				}
				benchMatch(b, snap, w.Event(matches, n))
			})
		}
	}
}

func BenchmarkMatchUsers(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		var snap *index.Snapshot
		b.Run(fmt.Sprintf("filters=%d", n), func(b *testing.B) {
			if snap == nil {
				snap = snapshot(workload.Users(n))
			}
			benchMatch(b, snap, []byte(`{"event_type":"type_3","user_id":"user_321"}`))
		})
	}
}

func benchMatch(b *testing.B, snap *index.Snapshot, raw []byte) {
	var d event.Decoder
	var m index.Matcher
	ev, err := d.Decode(raw, snap.Paths())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Match(snap, ev)
		for range m.All() {
		}
	}
	b.ReportMetric(float64(m.Matches)/float64(b.N), "matches/op")
	b.ReportMetric(float64(m.Candidates)/float64(b.N), "candidates/op")
}

// BenchmarkBuild tells also what filters take: "source" is the conditions
// themselves, which a filter service keeps for all filters; "index" is what the
// index adds for those of active subscribers.
func BenchmarkBuild(b *testing.B) {
	const n = 1_000_000
	same := workload.Narrow.Specs(10_000)
	for name, specs := range map[string][]filter.Spec{
		"different": workload.Narrow.Specs(n), "users": workload.Users(n), "of-10000": repeated(same, n),
	} {
		b.Run(fmt.Sprintf("filters=%d/%s", n, name), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				x := index.New(index.Options{})
				conditions := make([]*index.Condition, n)
				before := heap()
				b.StartTimer()
				for i := range specs {
					conditions[i] = x.Intern(&specs[i])
				}
				b.StopTimer()
				interned := heap()
				b.StartTimer()
				for i, c := range conditions {
					x.Add(c, index.Slot(i))
				}
				x.Snapshot()
				b.StopTimer()
				b.ReportMetric(float64(interned-before)/float64(n), "source-B/filter")
				b.ReportMetric(float64(heap()-interned)/float64(n), "index-B/filter")
				runtime.KeepAlive(x)
				b.StartTimer()
			}
		})
	}
}

func repeated(specs []filter.Spec, n int) []filter.Spec {
	out := make([]filter.Spec, n)
	for i := range out {
		out[i] = specs[i%len(specs)]
	}
	return out
}

// heap returns the bytes of what is in use.
func heap() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// BenchmarkUpdate replaces filters among a million, and publishes each change by
// itself or several together, as a filter service does with what came since its
// last batch of events.
func BenchmarkUpdate(b *testing.B) {
	const n = 1_000_000
	for name, specs := range map[string]func(int) []filter.Spec{"different": workload.Narrow.Specs, "users": workload.Users} {
		x, conditions := filled(specs(n))
		rng := rand.New(rand.NewPCG(5, 6))
		for _, together := range []int{1, 32} {
			b.Run(fmt.Sprintf("filters=%d/%s/together=%d", n, name, together), func(b *testing.B) {
				b.ReportAllocs()
				updates, at := 0, make([]int, together)
				for b.Loop() { // an update is a removal, or an addition
					for i := range at {
						at[i] = rng.IntN(n)
						x.Remove(conditions[at[i]], index.Slot(at[i]))
					}
					x.Snapshot()
					for _, i := range at {
						x.Add(conditions[i], index.Slot(i))
					}
					x.Snapshot()
					updates += 2 * together
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(updates), "ns/update")
			})
		}
	}
}

// BenchmarkMatchDuringUpdates tells what matching costs while another goroutine
// replaces filters at a rate, against matching alone. Both take turns, so that
// what else happens on the machine hits both.
func BenchmarkMatchDuringUpdates(b *testing.B) {
	const n = 1_000_000
	x, conditions := filled(workload.Narrow.Specs(n))
	var published atomic.Pointer[index.Snapshot]
	published.Store(x.Snapshot())
	for _, rate := range []int{5_000, 50_000} {
		b.Run(fmt.Sprintf("filters=%d/updates=%d", n, rate), func(b *testing.B) {
			u := updater{x: x, conditions: conditions, published: &published}
			var d event.Decoder
			var m index.Matcher
			ev, err := d.Decode(workload.Narrow.Event(1000, n), x.Snapshot().Paths())
			if err != nil {
				b.Fatal(err)
			}
			var spent [2]time.Duration // alone, during updates
			turn := func(during int) {
				stop := u.start(rate * during)
				defer stop()
				began := time.Now()
				for range 2000 {
					m.Match(published.Load(), ev)
					for range m.All() {
					}
				}
				spent[during] += time.Since(began)
			}
			for b.Loop() {
				turn(0)
				turn(1)
			}
			b.ReportMetric(100*(spent[1].Seconds()/spent[0].Seconds()-1), "%-slower")
		})
	}
}

// updater replaces filters and publishes each change by itself.
type updater struct {
	x          *index.Index
	conditions []*index.Condition
	published  *atomic.Pointer[index.Snapshot]
}

// start makes rate changes a second until stop.
func (u *updater) start(rate int) (stop func()) {
	if rate == 0 {
		return func() {}
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		rng := rand.New(rand.NewPCG(7, 8))
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			for range rate / 1000 {
				i := rng.IntN(len(u.conditions))
				u.x.Remove(u.conditions[i], index.Slot(i))
				u.x.Add(u.conditions[i], index.Slot(i))
				u.published.Store(u.x.Snapshot())
			}
		}
	}()
	return func() { close(done); <-stopped }
}
