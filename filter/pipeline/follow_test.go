package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/bubble"
	"eventstream/internal/testenv"
	"eventstream/lane"
)

// In these tests time is that of synctest, and the store is in memory.

// following is a follower and what it works with.
type following struct {
	*follower
	store   *faulty
	memory  *lane.Memory
	refresh error // what the filter store answers at the start
	stop    func()

	failing   atomic.Pointer[error] // what it answers later
	slow      atomic.Int64          // how long it takes
	refreshed atomic.Int64          // how often it was asked
}

// fail makes the filter store answer with an error, or without one.
func (f *following) fail(err error) { f.failing.Store(&err) }

// follow starts a follower. It must be stopped.
func follow(t *testing.T) *following {
	f := newFollowing(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.run(ctx) })
	f.stop = func() { cancel(); running.Wait() }
	return f
}

func newFollowing(t *testing.T) *following {
	memory := lane.NewMemory()
	f := &following{store: &faulty{backend: memory}, memory: memory}
	routes := newRoutes(lane.Shard{})
	m := newMetrics(prometheus.NewRegistry(), routes, new(atomic.Int64))
	f.follower = newFollower(f.store, routes, f.answer, 2500*time.Millisecond, m, testenv.Log(t))
	return f
}

func (f *following) answer(context.Context) error {
	f.refreshed.Add(1)
	time.Sleep(time.Duration(f.slow.Load()))
	if err := f.failing.Load(); err != nil {
		return *err
	}
	return f.refresh
}

func (f *following) announce(t *testing.T, a lane.Announcement) lane.ControlID {
	t.Helper()
	a.TTL = 5 * time.Minute
	at, err := f.memory.Announce(t.Context(), a)
	if err != nil && !errors.Is(err, lane.ErrForgotten) {
		t.Fatal(err)
	}
	return at
}

func (f *following) synced(t *testing.T) lane.ControlID {
	t.Helper()
	at, err := f.sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// knows checks which seats are known.
func (f *following) knows(t *testing.T, want ...event.Address) {
	t.Helper()
	f.routes.mu.Lock()
	defer f.routes.mu.Unlock()
	n := 0
	for _, seats := range f.routes.gateways {
		n += len(seats)
	}
	for _, a := range want {
		if _, ok := f.routes.gateways[a.Gateway][a.Seat]; !ok {
			t.Errorf("seat %v is not known", a)
		}
	}
	if n != len(want) {
		t.Errorf("%d seats are known, want %d", n, len(want))
	}
}

func TestSyncsShareReads(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := follow(t)
		defer f.stop()
		f.synced(t)
		var reads atomic.Int64
		f.store.set(func(op string) error {
			if op == "since" {
				reads.Add(1)
				time.Sleep(time.Second)
			}
			return nil
		}, nil)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { f.synced(t) })
		}
		all.Wait()
		if n := reads.Load(); n > 3 { // one without being asked, too
			t.Errorf("%d reads for 100 syncs, want at most 3", n)
		}
	})
}

// A sync ends with its own context, and says what it waited for.
func TestSyncGivesUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := follow(t)
		defer f.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.sync(ctx); !errors.Is(err, context.DeadlineExceeded) || err.Error() == ctx.Err().Error() {
			t.Errorf("sync = %v, want one that says what it waited for", err)
		}
	})
}

// What was acknowledged before a sync began is applied when it returns.
func TestSyncAppliesWhatWasAcknowledged(t *testing.T) {
	f := newFollowing(t)
	f.grace = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.run(ctx) })
	f.synced(t) // filters from before come from the filter store
	var all sync.WaitGroup
	for g := range event.Gateway(8) {
		all.Go(func() {
			for i := range event.Seat(200) {
				who := fmt.Sprint("s", g, "-", i)
				at := f.announce(t, lane.Announcement{Gateway: g + 1, Seq: uint64(i) + 1, Joined: []lane.Seated{{Seat: i, Subscriber: who}}})
				id := filter.ID(who)
				c, err := f.memory.PublishFilter(ctx, filter.Change{Filter: filter.Filter{ID: id, Revision: 1, Spec: filter.Spec{SubscriberID: who}}})
				if err != nil {
					t.Error(err)
				}
				got := f.synced(t)
				if got.Compare(c) < 0 || got.Compare(at) < 0 {
					t.Errorf("synced up to %v, after a change at %v", got, c)
				}
				f.routes.mu.Lock()
				_, seated := f.routes.gateways[g+1][i]
				_, filed := f.routes.filters[keyOf(id)]
				f.routes.mu.Unlock()
				if !seated || !filed {
					t.Errorf("%s: seat is known: %t, filter is known: %t", who, seated, filed)
				}
			}
		})
	}
	all.Wait()
	cancel()
	running.Wait()
	if got, want := f.routes.counts(), (counts{active: 1600, filters: 1600, indexed: 1600, conditions: 1}); got != want {
		t.Errorf("counts = %+v, want %+v", got, want)
	}
}

// A gateway announces seats while the service starts: each is found in the hash
// or in the stream.
func TestBootstrapRace(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 4))
		f := newFollowing(t)
		f.grace = time.Duration(rng.IntN(1000)) * time.Microsecond
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		const n = 200
		announced := make(chan struct{})
		go func() {
			defer close(announced)
			for i := range event.Seat(n) {
				f.announce(t, lane.Announcement{Gateway: 1, Seq: uint64(i) + 1, Joined: []lane.Seated{{Seat: i, Subscriber: "s"}}})
			}
		}()
		running.Go(func() { f.run(ctx) })
		f.synced(t)
		<-announced
		f.synced(t)
		all := make([]event.Address, n)
		for i := range all {
			all[i] = event.Address{Gateway: 1, Seat: event.Seat(i)}
		}
		f.knows(t, all...)
		cancel()
		running.Wait()
	}
}

// A store that is emptied is not believed before gateways had time to announce
// themselves, and nothing known is lost.
func TestWipedStoreIsWaitedFor(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := follow(t)
		defer f.stop()
		f.announce(t, lane.Announcement{Gateway: 1, Seq: 1, Joined: []lane.Seated{{Seat: 1, Subscriber: "s"}}})
		f.synced(t)
		f.announce(t, lane.Announcement{Gateway: 2, Seq: 1, Joined: []lane.Seated{{Seat: 5, Subscriber: "s"}}}) // nobody has read it
		f.memory.Wipe()
		go func() {
			time.Sleep(time.Second)
			f.announce(t, lane.Announcement{Gateway: 2, Seq: 2, All: true, Joined: []lane.Seated{{Seat: 5, Subscriber: "s"}}})
		}()
		began := time.Now()
		f.synced(t)
		if waited := time.Since(began); waited != f.grace {
			t.Errorf("waited for %v, want %v", waited, f.grace)
		}
		f.knows(t, event.Address{Gateway: 1, Seat: 1}, event.Address{Gateway: 2, Seat: 5})
	})
}

// A service that starts can't tell whether the store has just lost writes.
func TestStartWaitsForGateways(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFollowing(t)
		f.memory.Epoch(t.Context()) // another process was here first
		var running sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		running.Go(func() { f.run(ctx) })
		go func() {
			time.Sleep(time.Second)
			f.announce(t, lane.Announcement{Gateway: 2, Seq: 2, All: true, Joined: []lane.Seated{{Seat: 5, Subscriber: "s"}}})
		}()
		f.synced(t)
		f.knows(t, event.Address{Gateway: 2, Seat: 5})
		cancel()
		running.Wait()
	})
}

// Redis goes down and comes back without its last second, in which a gateway
// had announced a seat. Nothing shows that, except that a call failed.
func TestFailedCallIsAReasonForDoubt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := follow(t)
		defer f.stop()
		f.announce(t, lane.Announcement{Gateway: 1, Seq: 1, Joined: []lane.Seated{{Seat: 1, Subscriber: "s"}}})
		f.synced(t)
		f.store.down()
		if _, err := f.sync(t.Context()); !errors.Is(err, errInjected) {
			t.Errorf("sync = %v, want %v", err, errInjected)
		}
		f.store.up()
		go func() {
			time.Sleep(time.Second)
			f.announce(t, lane.Announcement{Gateway: 1, Seq: 2, Joined: []lane.Seated{{Seat: 2, Subscriber: "s"}}})
		}()
		f.synced(t)
		f.knows(t, event.Address{Gateway: 1, Seat: 1}, event.Address{Gateway: 1, Seat: 2})
	})
}

// A doubt is settled only when presence has been read to its end after it.
func TestDoubtOutlivesFailures(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := follow(t)
		defer f.stop()
		f.synced(t)
		for _, op := range []string{"end", "gateways"} {
			f.doubt()
			f.store.set(func(o string) error {
				if o == op {
					return errInjected
				}
				return nil
			}, nil)
			if _, err := f.sync(t.Context()); !errors.Is(err, errInjected) {
				t.Errorf("%s: sync = %v, want %v", op, err, errInjected)
			}
			var read atomic.Int64
			f.store.set(func(o string) error {
				if o == "gateways" {
					if read.Add(1) == 1 {
						f.doubt() // while it reads
					}
				}
				return nil
			}, nil)
			f.synced(t)
			f.synced(t)
			f.synced(t)
			if n := read.Load(); n != 2 {
				t.Errorf("%s: presence was read %d times, want 2", op, n)
			}
		}
	})
}

// The control stream is lost again and again: that ends with an error, not with
// trying for ever.
func TestControlLostForEver(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := follow(t)
		defer f.stop()
		f.store.set(func(op string) error {
			if op == "since" {
				return lane.ErrControlLost
			}
			return nil
		}, nil)
		if _, err := f.sync(t.Context()); !errors.Is(err, lane.ErrControlLost) {
			t.Errorf("sync = %v, want %v", err, lane.ErrControlLost)
		}
		f.store.up()
		f.synced(t)
	})
}

// Filters that changed while the control stream was lost come from the filter
// store. Without it matching doesn't begin, but goes on.
func TestFilterStoreIsDown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFollowing(t)
		f.refresh = filter.ErrUnavailable
		if err := f.read(t.Context()); !errors.Is(err, filter.ErrUnavailable) {
			t.Errorf("first read = %v, want %v", err, filter.ErrUnavailable)
		}
		f.refresh = nil
		if err := f.read(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.refresh = filter.ErrUnavailable
		f.announce(t, lane.Announcement{Gateway: 1, Seq: 1, Joined: []lane.Seated{{Seat: 1, Subscriber: "s"}}})
		f.read(t.Context())
		f.memory.Wipe()
		if err := f.read(t.Context()); err != nil {
			t.Errorf("read = %v, want none", err)
		}
		f.knows(t, event.Address{Gateway: 1, Seat: 1})
	})
}

func TestExpire(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFollowing(t)
		ctx := t.Context()
		for g := range event.Gateway(3) {
			f.announce(t, lane.Announcement{Gateway: g + 1, Seq: 1, Joined: []lane.Seated{{Seat: 1, Subscriber: "s"}}})
		}
		if err := f.read(ctx); err != nil {
			t.Fatal(err)
		}
		all := []event.Address{{Gateway: 1, Seat: 1}, {Gateway: 2, Seat: 1}, {Gateway: 3, Seat: 1}}
		f.memory.Wipe()
		f.announce(t, lane.Announcement{Gateway: 1, Seq: 2, All: true, Joined: []lane.Seated{{Seat: 1, Subscriber: "s"}}})
		f.expire(ctx)
		f.knows(t, all...) // a suspicion isn't enough
		f.store.down()
		f.expire(ctx)
		f.store.up()
		f.knows(t, all...)
		f.announce(t, lane.Announcement{Gateway: 2, Seq: 2, All: true, Joined: []lane.Seated{{Seat: 1, Subscriber: "s"}}})
		f.expire(ctx)
		f.dropAll()
		f.knows(t, all[:2]...)
		f.expire(ctx)
		f.dropAll()
		f.knows(t, all[:2]...)
	})
}

func (f *following) dropAll() {
	for len(f.gone) > 0 {
		f.drop()
	}
}

// A gateway that announces itself while it is being dropped keeps all its seats.
func TestBackWhileDropped(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFollowing(t)
		ctx := t.Context()
		seated := make([]lane.Seated, 3*dropAtOnce)
		all := make([]event.Address, len(seated))
		for i := range seated {
			seated[i] = lane.Seated{Seat: event.Seat(i + 1), Subscriber: "s"}
			all[i] = event.Address{Gateway: 1, Seat: event.Seat(i + 1)}
		}
		f.announce(t, lane.Announcement{Gateway: 1, Seq: 1, Joined: seated})
		if err := f.read(ctx); err != nil {
			t.Fatal(err)
		}
		f.knows(t, all...)
		f.memory.Wipe()
		f.expire(ctx)
		f.expire(ctx)
		f.drop()
		if n := len(f.routes.gateways[1]); n != 2*dropAtOnce {
			t.Fatalf("%d seats are left after the first step, want %d", n, 2*dropAtOnce)
		}
		f.announce(t, lane.Announcement{Gateway: 1, Seq: 2, All: true, Joined: seated})
		if err := f.read(ctx); err != nil {
			t.Fatal(err)
		}
		f.dropAll()
		f.knows(t, all...)
	})
}

// Redis restarts while nobody asks, and the client connects anew by itself.
func TestNoticesARestartWhenIdle(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(f *following)
	}{
		{"calls fail", func(f *following) {
			f.store.down()
			time.Sleep(2 * readEvery)
			f.store.up()
		}},
		{"we were not running", func(f *following) {
			f.store.set(func(string) error { time.Sleep(2 * readAtLeast); return nil }, nil)
			time.Sleep(2 * readEvery)
			f.store.up()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				f := follow(t)
				defer f.stop()
				f.synced(t)
				tt.before(f)
				go func() {
					time.Sleep(2 * time.Second)
					f.announce(t, lane.Announcement{Gateway: 1, Seq: 2, Joined: []lane.Seated{{Seat: 2, Subscriber: "s"}}})
				}()
				f.synced(t)
				f.knows(t, event.Address{Gateway: 1, Seat: 2})
			})
		})
	}
}

// A store that is full refuses to write its epoch, and still tells presence.
func TestEpochCantBeWritten(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFollowing(t)
		f.store.set(func(op string) error {
			if op == "epoch" {
				return errInjected
			}
			return nil
		}, nil)
		f.announce(t, lane.Announcement{Gateway: 1, Seq: 1, Joined: []lane.Seated{{Seat: 1, Subscriber: "s"}}})
		if err := f.read(t.Context()); err != nil {
			t.Error(err)
		}
		f.knows(t, event.Address{Gateway: 1, Seat: 1})
	})
}

// The store loses writes again while gateways are being waited for: they need
// their time from then on.
func TestWaitBeginsAnew(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(f *following)
	}{
		{"restart", func(f *following) {
			f.store.down()
			time.Sleep(2 * readEvery)
			f.store.up()
		}},
		{"wipe", func(f *following) { f.memory.Wipe() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				f := follow(t)
				defer f.stop()
				f.announce(t, lane.Announcement{Gateway: 1, Seq: 1, Joined: []lane.Seated{{Seat: 1, Subscriber: "s"}}})
				f.synced(t)
				f.memory.Wipe()
				go func() {
					time.Sleep(2 * time.Second)
					tt.lose(f)
					time.Sleep(2 * time.Second)
					f.announce(t, lane.Announcement{Gateway: 1, Seq: 2, Joined: []lane.Seated{{Seat: 2, Subscriber: "s"}}})
				}()
				for {
					if _, err := f.sync(t.Context()); err == nil {
						break
					}
					time.Sleep(readEvery)
				}
				f.knows(t, event.Address{Gateway: 1, Seat: 1}, event.Address{Gateway: 1, Seat: 2})
			})
		})
	}
}

// A change in bulk is fetched from the filter store before a sync returns, and
// while that can't be, syncs fail: an event would be matched without it. Redis
// is not suspected for that.
func TestBulkChanges(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := follow(t)
		defer f.stop()
		f.synced(t)
		doubts := f.doubts.Load()
		at, err := f.memory.PublishBulk(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before := f.refreshed.Load()
		if got := f.synced(t); got != at || f.refreshed.Load() != before+1 {
			t.Errorf("synced to %s after %d looks into the filter store, want %s after 1", got, f.refreshed.Load()-before, at)
		}
		f.synced(t)
		if n := f.refreshed.Load() - before; n != 1 {
			t.Errorf("%d looks into the filter store for one bulk change", n)
		}
		f.fail(errInjected)
		if at, err = f.memory.PublishBulk(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if _, err := f.sync(t.Context()); !errors.Is(err, errBulk) || !errors.Is(err, errInjected) {
				t.Errorf("sync = %v while the filter store is down, want errBulk", err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		f.fail(nil)
		if got := f.synced(t); got != at {
			t.Errorf("synced to %s when the filter store is back, want %s", got, at)
		}
		if n := f.doubts.Load(); n != doubts {
			t.Errorf("Redis was doubted %d times", n-doubts)
		}
	})
}

// Redis is not suspected because a change in bulk takes long to fetch, but it is if
// it fails meanwhile.
func TestBulkChangesTakeLong(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := follow(t)
		defer f.stop()
		f.synced(t)
		f.slow.Store(int64(4 * readAtLeast))
		bulk := func() (doubts uint64, took time.Duration) {
			t.Helper()
			before, began := f.doubts.Load(), time.Now()
			if _, err := f.memory.PublishBulk(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.synced(t)
			f.synced(t)
			return f.doubts.Load() - before, time.Since(began)
		}
		if doubts, took := bulk(); doubts != 0 || took >= f.grace+4*readAtLeast {
			t.Errorf("Redis was doubted %d times, and matching waited for %v", doubts, took)
		}
		f.store.set(func(op string) error {
			if op == "end" {
				f.store.set(nil, nil)
				return errInjected
			}
			return nil
		}, nil)
		if doubts, _ := bulk(); doubts != 1 {
			t.Errorf("Redis was doubted %d times after it failed, want 1", doubts)
		}
	})
}
