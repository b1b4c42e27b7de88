package pipeline

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/filter/index"
	"eventstream/internal/cow"
	"eventstream/lane"
)

// routes knows every filter of a shard and where its active subscribers sit. Only active
// subscribers' filters are in the index: those with at least one seat. Workers
// match side by side on the view that was published last, without locks; changes
// are made one after the other.
type routes struct {
	shard     lane.Shard // others' filters and seats are left out
	published atomic.Pointer[view]

	mu          sync.Mutex
	index       *index.Index
	places      places
	gen         cow.Gen // of places
	filters     map[key]known
	tombs       []tomb // of deleted filters, by time
	live        int    // filters that are not deleted
	subscribers map[string]*subscriber
	active      int // subscribers with a seat
	next        index.Slot
	free        []index.Slot
	print       filter.Fingerprint // of filters that are not deleted
	watching    *watch             // nil unless the store is being read as the truth
	unknown     error              // a filter that this version doesn't understand is among the changes
	unknowns    int                // how often there was one
	gateways    map[event.Gateway]map[event.Seat]*subscriber
}

// view is what workers match with: the routes as they were at one moment.
type view struct {
	index  *index.Snapshot
	places places
}

// key is a filter's ID in 16 bytes.
type key [16]byte

// keyOf returns the key of an ID, also of one that is no UUID.
func keyOf(id filter.ID) key {
	u, err := uuid.Parse(string(id))
	if err != nil {
		u = uuid.NewSHA1(uuid.Nil, []byte(id))
	}
	return key(u)
}

// known is a filter, or the tombstone of one. A tombstone keeps an older change
// that arrives late from bringing the filter back.
type known struct {
	revision   int64
	condition  *index.Condition // nil in a tombstone
	subscriber *subscriber
}

type tomb struct {
	key key
	at  time.Time
}

// subscriber is one that has filters, seats, or both.
type subscriber struct {
	id    string
	wants wants
	slot  index.Slot
	seats int
}

func newRoutes(sh lane.Shard) *routes {
	r := &routes{
		shard:       sh,
		index:       index.New(index.Options{}),
		gen:         1,
		filters:     make(map[key]known),
		subscribers: make(map[string]*subscriber),
		gateways:    make(map[event.Gateway]map[event.Seat]*subscriber),
	}
	r.publishLocked()
	return r
}

// mostExpected bounds what an estimate that is wrong takes: some 90 bytes for each.
const mostExpected = 2 << 20

// expect makes room for about so many filters, of as many subscribers, if there are
// none yet: maps of a million cost more to grow than to fill.
func (r *routes) expect(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n = min(n, mostExpected); len(r.filters) == 0 {
		r.filters = make(map[key]known, n)
		subscribers := make(map[string]*subscriber, n)
		maps.Copy(subscribers, r.subscribers) // those with seats
		r.subscribers = subscribers
	}
}

// view returns the routes as they were published last.
func (r *routes) view() *view { return r.published.Load() }

// publish makes the changes so far what workers match with.
func (r *routes) publish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.publishLocked()
}

func (r *routes) publishLocked() {
	r.published.Store(&view{r.index.Snapshot(), r.places})
	r.gen++
}

// setFilter takes in a change unless a later one is known already: the changes
// of two API processes may come in either order, and come again when the store
// is read. It counts once it is published.
func (r *routes) setFilter(c filter.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setFilterLocked(c)
}

func (r *routes) setFilterLocked(c filter.Change) {
	if !c.Deleted && !r.shard.Holds(c.SubscriberID) { // a filter never changes its subscriber
		return
	}
	k := keyOf(c.ID)
	if r.watching != nil {
		r.watching.note(k, c)
	}
	if r.filters[k].revision <= c.Revision {
		r.putLocked(k, c)
	}
}

// putLocked makes a filter what c says, and reports whether it was something else. Two
// changes with one revision differ only if the store was put back to an earlier state
// between them: then the later word counts.
func (r *routes) putLocked(k key, c filter.Change) (news bool) {
	old, exists := r.filters[k]
	now := known{revision: c.Revision}
	if !c.Deleted {
		now.condition = r.index.Intern(&c.Spec)
	}
	if exists && old.revision == now.revision && old.condition == now.condition {
		if now.condition != nil {
			r.index.Release(now.condition)
		}
		return false
	}
	if c.Deleted {
		r.tombs = append(r.tombs, tomb{k, time.Now()})
	} else {
		now.subscriber = r.subscriberLocked(c.SubscriberID)
		r.wantLocked(k, now)
	}
	r.filters[k] = now
	r.dropLocked(k, old) // after the new one came: a condition that stays is not built anew
	return true
}

// wantLocked notes one more filter of a subscriber.
func (r *routes) wantLocked(k key, f known) {
	r.live++
	r.print.Add(k, f.revision)
	if f.subscriber.wants.add(f.condition) && f.subscriber.seats > 0 {
		r.index.Add(f.condition, f.subscriber.slot)
	}
}

// dropLocked undoes wantLocked, and gives up the filter's condition.
func (r *routes) dropLocked(k key, f known) {
	if f.condition == nil {
		return
	}
	r.live--
	r.print.Remove(k, f.revision)
	s := f.subscriber
	if s.wants.remove(f.condition) && s.seats > 0 {
		r.index.Remove(f.condition, s.slot)
	}
	r.index.Release(f.condition)
	r.forgetIdleLocked(s)
}

func (r *routes) subscriberLocked(id string) *subscriber {
	s := r.subscribers[id]
	if s == nil {
		s = &subscriber{id: id}
		r.subscribers[id] = s
	}
	return s
}

func (r *routes) forgetIdleLocked(s *subscriber) {
	if s.seats == 0 && s.wants.none() {
		delete(r.subscribers, s.id)
	}
}

// prune drops tombstones from before the given time.
func (r *routes) prune(before time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for ; n < len(r.tombs) && r.tombs[n].at.Before(before); n++ {
		if f, ok := r.filters[r.tombs[n].key]; ok && f.condition == nil {
			delete(r.filters, r.tombs[n].key)
		}
	}
	r.tombs = slices.Delete(r.tombs, 0, n)
}

// apply takes in changes of the control stream, in order, and publishes them at
// once.
func (r *routes) apply(changes []lane.Change) {
	if len(changes) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range changes {
		r.joinLocked(c.Gateway, c.Joined)
		for _, seat := range c.Forgot {
			r.forgetLocked(event.Address{Gateway: c.Gateway, Seat: seat})
		}
		if c.Filter != nil {
			r.setFilterLocked(*c.Filter)
		}
		if c.Unknown != nil {
			r.unknown = c.Unknown
			r.unknowns++
		}
	}
	r.publishLocked()
}

// understood returns why events can't be matched, or nil: a filter that this
// version doesn't understand could match them. It is asked after the changes
// were applied.
func (r *routes) understood() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unknown == nil {
		return nil
	}
	return fmt.Errorf("events wait until this process is upgraded, or the filter is changed: %w", r.unknown)
}

// reading notes that all changes are about to be read from the store. The result
// of that is for the function returned.
func (r *routes) reading() (read func(error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.unknowns
	return func(err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case errors.Is(err, filter.ErrUnknown):
			r.unknown = err
		case err == nil && before == r.unknowns: // whatever it was is changed or deleted
			r.unknown = nil
		}
	}
}

// join makes seats known; those known already are left as they are. It counts
// once it is published.
func (r *routes) join(g event.Gateway, seated []lane.Seated) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joinLocked(g, seated)
}

func (r *routes) joinLocked(g event.Gateway, seated []lane.Seated) {
	seats := r.gateways[g]
	for _, joined := range seated {
		if seats[joined.Seat] != nil || !r.shard.Holds(joined.Subscriber) {
			continue
		}
		if seats == nil {
			seats = make(map[event.Seat]*subscriber)
			r.gateways[g] = seats
		}
		s := r.subscriberLocked(joined.Subscriber)
		seats[joined.Seat] = s
		if s.seats++; s.seats == 1 {
			r.activateLocked(s)
		}
		r.places.add(r.gen, s.slot, event.Address{Gateway: g, Seat: joined.Seat})
	}
}

// activateLocked gives s a slot, and its filters a place in the index.
func (r *routes) activateLocked(s *subscriber) {
	r.active++
	if n := len(r.free); n > 0 {
		s.slot, r.free = r.free[n-1], r.free[:n-1]
	} else {
		s.slot = r.next
		r.next++
	}
	for c := range s.wants.all() {
		r.index.Add(c, s.slot)
	}
}

func (r *routes) forgetLocked(a event.Address) {
	s := r.gateways[a.Gateway][a.Seat]
	if s == nil {
		return
	}
	delete(r.gateways[a.Gateway], a.Seat)
	if len(r.gateways[a.Gateway]) == 0 {
		delete(r.gateways, a.Gateway)
	}
	r.places.remove(r.gen, s.slot, a)
	if s.seats--; s.seats > 0 {
		return
	}
	r.active--
	for c := range s.wants.all() {
		r.index.Remove(c, s.slot)
	}
	r.free = append(r.free, s.slot)
	r.forgetIdleLocked(s)
}

// dropSeats forgets seats of g, n at most, and reports whether there are more: the
// last seat of a subscriber takes its filters out of the index, and a gateway may
// have a hundred thousand.
func (r *routes) dropSeats(g event.Gateway, n int) (more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for seat := range r.gateways[g] {
		if n--; n < 0 {
			break
		}
		r.forgetLocked(event.Address{Gateway: g, Seat: seat})
	}
	r.publishLocked()
	return len(r.gateways[g]) > 0
}

// knownGateways lists the gateways with seats.
func (r *routes) knownGateways() []event.Gateway {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]event.Gateway, 0, len(r.gateways))
	for g := range r.gateways {
		all = append(all, g)
	}
	return all
}

// mostConditions returns the active subscriber with the most different conditions.
func (r *routes) mostConditions() (id string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.subscribers {
		if m := len(s.wants.few) + len(s.wants.many); s.seats > 0 && m > n {
			id, n = s.id, m
		}
	}
	return id, n
}

// counts is what routes hold.
type counts struct {
	active     int // subscribers with a seat
	filters    int // not deleted
	indexed    int // of active subscribers, the same filter of one subscriber once
	conditions int // different ones
}

func (r *routes) counts() counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return counts{active: r.active, filters: r.live, indexed: r.index.Len(), conditions: r.index.Conditions()}
}
