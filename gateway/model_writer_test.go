package gateway

import (
	"context"
	"errors"
	"slices"
	"testing/synctest"
	"time"

	"eventstream/event"
	"eventstream/lane"
)

// modelWriter is what a filter service does for one partition, step by step:
// filter/pipeline's worker and follower, told plainly. Anything may happen between
// two steps.
type modelWriter struct {
	m      *model
	p      int32
	name   int
	zombie bool // it has lost its partition and does not know it

	// As a follower.
	routes   map[string]map[event.Address]bool // by subscriber
	at       lane.ControlID
	lost     bool
	doubts   int
	settled  int
	outages  int       // of the store, as far as noticed
	last     time.Time // when it last read the control stream
	wait     *modelWait
	expired  time.Time
	suspects map[event.Gateway]bool

	// As a worker.
	stage   modelStage
	next    int64
	claimed bool
	until   int64 // of the batch
	end     int64 // of the partition when it was taken
	synced  lane.ControlID
	packer  lane.Packer
}

// modelWait is a wait for gateways to announce their seats.
type modelWait struct {
	over   time.Time
	doubts int
	began  modelGlimpse
	seen   modelGlimpse
}

type modelGlimpse struct {
	epoch string
	end   lane.ControlID
}

type modelStage int

const (
	toPrepare modelStage = iota // bring presence up to date
	toClaim
	toTake
	toSync
	toMatch
	toAppend
)

var modelStages = [...]string{"sync, to claim", "claim", "take", "sync", "match", "append"}

// mistake is one that a model writer can be made to make.
type mistake int

const (
	noMistake      mistake = iota
	ownMemory              // after a rollback, go on where it was itself
	controlFirst           // read the control stream before the batch is taken
	noVerification         // do nothing when there are no records
	noGrace                // read presence at once after a doubt
)

// announceGrace is how long a filter service waits for gateways after a doubt.
const announceGrace = 2500 * time.Millisecond

func (m *model) writer(p int32) *modelWriter {
	m.names++
	return &modelWriter{
		m: m, p: p, name: m.names, routes: make(map[string]map[event.Address]bool), lost: true, doubts: 1,
		outages: m.store.outages, last: time.Now(), expired: time.Now(),
	}
}

// step does the next thing.
func (w *modelWriter) step() {
	m := w.m
	if m.store.down() {
		w.fail("the store is down")
		return
	}
	m.trace("  writer %d of partition %d: %s", w.name, w.p, modelStages[w.stage])
	switch w.stage {
	case toPrepare:
		if w.sync() {
			w.stage = toClaim
		}
	case toClaim:
		w.claim()
	case toTake:
		w.take()
	case toSync:
		if w.sync() {
			w.synced = w.at
			w.stage = toMatch
		}
	case toMatch:
		if m.mistake == controlFirst {
			w.until = w.batchEnd()
		}
		w.match()
		w.stage = toAppend
	case toAppend:
		w.append()
	}
}

// fail is an error: the worker begins anew, and what the store has is in doubt.
func (w *modelWriter) fail(why string) {
	w.m.trace("  writer %d of partition %d fails: %s", w.name, w.p, why)
	w.doubts++
	w.stage = toPrepare
}

func (w *modelWriter) claim() {
	ctx, m := context.Background(), w.m
	m.store.SetTopic(ctx, lane.Topic{ID: testTopic, Partitions: int32(len(m.kafka))})
	start := m.trimmed[w.p]
	if w.claimed {
		start = min(start, w.next)
	}
	next, _ := m.store.Claim(ctx, lane.Shard{}, w.p, testTopic, start, int64(len(m.kafka[w.p])))
	if m.mistake != ownMemory || !w.claimed {
		w.next = next
	}
	w.claimed = true
	w.stage = toTake
}

func (w *modelWriter) take() {
	w.stage = toSync
	w.until, w.end = w.batchEnd(), int64(len(w.m.kafka[w.p]))
	if w.until == w.next && w.m.mistake == noVerification {
		w.stage = toTake
	}
}

func (w *modelWriter) batchEnd() int64 {
	return min(int64(len(w.m.kafka[w.p])), w.next+3)
}

func (w *modelWriter) match() {
	w.packer.Reset()
	for o := w.next; o < w.until; o++ {
		r := w.m.kafka[w.p][o]
		if groups := w.recipients(r); len(groups) > 0 {
			w.packer.Add(o, r.at.UnixMilli(), r.data, groups)
		}
	}
}

func (w *modelWriter) recipients(r modelRecord) (groups []lane.Group) {
	seats := make(map[event.Gateway][]event.Seat)
	var gateways []event.Gateway
	for _, s := range r.to {
		for a := range w.routes[s] {
			if seats[a.Gateway] == nil {
				gateways = append(gateways, a.Gateway)
			}
			seats[a.Gateway] = append(seats[a.Gateway], a.Seat)
		}
	}
	slices.Sort(gateways)
	for _, g := range gateways {
		slices.Sort(seats[g])
		groups = append(groups, lane.Group{Gateway: g, Runs: lane.RunsOf(seats[g]...)})
	}
	return groups
}

func (w *modelWriter) append() {
	m := w.m
	a := lane.Append{
		Partition: w.p, Topic: testTopic, Expect: w.next, Next: w.until,
		TrimBefore: min(m.trimmed[w.p], w.next), Synced: w.synced, End: w.end,
	}
	if m.mistake == ownMemory {
		if at, _ := m.store.Positions(context.Background(), lane.Shard{}, int32(len(m.kafka))); at[w.p].Next < w.next {
			a.Expect = at[w.p].Next
		}
	}
	if w.packer.Count() > 0 {
		a.Entry, a.Last = w.packer.Bytes(), w.packer.Last()
	}
	got, err := m.store.Append(context.Background(), a)
	synctest.Wait()
	m.trace("    from %d to %d with %d events, synced %s: at %d, %v", a.Expect, a.Next, w.packer.Count(), a.Synced, got, err)
	switch {
	case err != nil:
		w.fail("append: " + err.Error())
	case got == w.until:
		w.next, w.stage = w.until, toTake
		m.gone[w.p] = max(m.gone[w.p], a.TrimBefore)
	case got == w.next:
		w.fail("refused")
		w.doubts-- // that says nothing of the store
	default:
		if got < w.next {
			w.doubts++
		}
		w.stage = toPrepare
	}
}

// sync applies what is new in the control stream. false: it isn't done yet.
func (w *modelWriter) sync() bool {
	paused := w.zombie && time.Since(w.last) > time.Second
	if w.outages != w.m.store.outages || paused {
		w.outages = w.m.store.outages
		w.doubts++
	}
	w.last = time.Now()
	if time.Since(w.expired) >= 30*time.Second {
		w.expire()
	}
	settled := w.settled
	for {
		if !w.restarted() {
			return false
		}
		changes, at, err := w.m.store.ControlSince(context.Background(), w.at)
		if err == nil {
			w.apply(changes)
			w.at = at
			return true
		}
		if !errors.Is(err, lane.ErrControlLost) {
			w.m.fail("control stream: %v", err)
			return false
		}
		w.lost = true
		if settled == w.settled {
			w.doubts++
		}
	}
}

// restarted reports whether presence need not be read again, or was.
func (w *modelWriter) restarted() bool {
	if !w.lost && w.doubts == w.settled {
		return true
	}
	now := w.look()
	if w.wait == nil {
		w.wait = &modelWait{over: time.Now(), doubts: w.doubts, began: now, seen: now}
		if w.doubts != w.settled && w.m.mistake != noGrace {
			w.wait.over = time.Now().Add(announceGrace)
		}
	}
	again := w.wait.doubts != w.doubts || now.end.Compare(w.wait.seen.end) < 0 || now.epoch != w.wait.seen.epoch
	w.wait.seen = now
	switch {
	case again:
		w.wait = nil
		w.fail("the store lost writes again")
		return false
	case time.Now().Before(w.wait.over):
		return false
	}
	if w.lost {
		w.at = w.wait.began.end
	}
	w.lost, w.settled, w.wait = false, w.wait.doubts, nil
	w.readSeats()
	return true
}

func (w *modelWriter) look() (g modelGlimpse) {
	g.end, _ = w.m.store.ControlEnd(context.Background())
	g.epoch, _, _ = w.m.store.Epoch(context.Background())
	return g
}

func (w *modelWriter) readSeats() {
	ctx := context.Background()
	gateways, _ := w.m.store.Gateways(ctx)
	for _, g := range gateways {
		w.m.store.Seats(ctx, g, func(seats []lane.Seated) error {
			w.join(g, seats)
			return nil
		})
	}
}

func (w *modelWriter) join(g event.Gateway, seats []lane.Seated) {
	for _, s := range seats {
		if w.routes[s.Subscriber] == nil {
			w.routes[s.Subscriber] = make(map[event.Address]bool)
		}
		w.routes[s.Subscriber][event.Address{Gateway: g, Seat: s.Seat}] = true
	}
}

func (w *modelWriter) apply(changes []lane.Change) {
	for _, c := range changes {
		w.join(c.Gateway, c.Joined)
		for _, seat := range c.Forgot {
			for _, addresses := range w.routes {
				delete(addresses, event.Address{Gateway: c.Gateway, Seat: seat})
			}
		}
	}
}

// expire drops the gateways that had no hash twice in a row.
func (w *modelWriter) expire() {
	w.expired = time.Now()
	alive, _ := w.m.store.Gateways(context.Background())
	missing := make(map[event.Gateway]bool)
	for _, addresses := range w.routes {
		for a := range addresses {
			switch {
			case slices.Contains(alive, a.Gateway):
			case w.suspects[a.Gateway]:
				delete(addresses, a)
			default:
				missing[a.Gateway] = true
			}
		}
	}
	w.suspects = missing
}
