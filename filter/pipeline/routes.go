package pipeline

import (
	"slices"
	"sync"
	"time"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/lane"
)

// routes knows every filter and where the active subscribers sit. Only active
// subscribers' filters are in the index: those with at least one seat. Workers
// match side by side under the read lock; changes take the write lock.
type routes struct {
	mu      sync.RWMutex
	index   *filter.Index
	filters map[filter.ID]*known
	owned   map[string][]filter.ID // by subscriber: the filters that are not deleted
	live    int                    // filters that are not deleted
	tombs   []tomb                 // of deleted filters, by time

	slots    map[string]filter.Slot
	active   []subscriber // by slot
	free     []filter.Slot
	gateways map[event.Gateway]map[event.Seat]filter.Slot
}

// known is a filter, or the tombstone of one. A tombstone keeps an older change
// that arrives late from bringing the filter back.
type known struct {
	filter.Filter
	deleted bool
}

type tomb struct {
	id filter.ID
	at time.Time
}

type subscriber struct {
	id    string
	seats []event.Address
}

func newRoutes() *routes {
	return &routes{
		index:    filter.NewIndex(),
		filters:  make(map[filter.ID]*known),
		owned:    make(map[string][]filter.ID),
		slots:    make(map[string]filter.Slot),
		gateways: make(map[event.Gateway]map[event.Seat]filter.Slot),
	}
}

// setFilter applies a change unless a later one is known already: the changes
// of two API processes may come in either order, and come again when the store
// is read.
func (r *routes) setFilter(c filter.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setFilterLocked(c)
}

func (r *routes) setFilterLocked(c filter.Change) {
	old := r.filters[c.ID]
	if old != nil && old.Revision >= c.Revision {
		return
	}
	if old != nil && !old.deleted {
		r.disownLocked(&old.Filter)
	}
	if c.Deleted {
		r.filters[c.ID] = &known{Filter: filter.Filter{ID: c.ID, Revision: c.Revision}, deleted: true}
		r.tombs = append(r.tombs, tomb{c.ID, time.Now()})
		return
	}
	now := &known{Filter: c.Filter}
	r.filters[c.ID] = now
	r.live++
	r.owned[c.SubscriberID] = append(r.owned[c.SubscriberID], c.ID)
	if slot, ok := r.slots[c.SubscriberID]; ok {
		r.index.Add(&now.Filter, slot)
	}
}

func (r *routes) disownLocked(f *filter.Filter) {
	r.index.Remove(f.ID)
	r.live--
	rest := slices.DeleteFunc(r.owned[f.SubscriberID], func(id filter.ID) bool { return id == f.ID })
	if len(rest) == 0 {
		delete(r.owned, f.SubscriberID)
		return
	}
	r.owned[f.SubscriberID] = rest
}

// filterIDs returns the IDs of all filters that are not deleted.
func (r *routes) filterIDs() map[filter.ID]bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	ids := make(map[filter.ID]bool, len(r.filters))
	for id, f := range r.filters {
		if !f.deleted {
			ids[id] = true
		}
	}
	return ids
}

// dropFilters drops the filters with these IDs.
func (r *routes) dropFilters(ids map[filter.ID]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range ids {
		if f := r.filters[id]; f != nil && !f.deleted {
			r.disownLocked(&f.Filter)
			delete(r.filters, id)
		}
	}
}

// prune drops tombstones from before the given time.
func (r *routes) prune(before time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for ; n < len(r.tombs) && r.tombs[n].at.Before(before); n++ {
		if f := r.filters[r.tombs[n].id]; f != nil && f.deleted {
			delete(r.filters, f.ID)
		}
	}
	r.tombs = slices.Delete(r.tombs, 0, n)
}

// apply applies changes of the control stream, in order.
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
	}
}

// join makes seats known; those known already are left as they are.
func (r *routes) join(g event.Gateway, seated []lane.Seated) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joinLocked(g, seated)
}

func (r *routes) joinLocked(g event.Gateway, seated []lane.Seated) {
	if len(seated) == 0 {
		return
	}
	seats := r.gateways[g]
	if seats == nil {
		seats = make(map[event.Seat]filter.Slot)
		r.gateways[g] = seats
	}
	for _, s := range seated {
		if _, ok := seats[s.Seat]; ok {
			continue
		}
		slot := r.activateLocked(s.Subscriber)
		seats[s.Seat] = slot
		sub := &r.active[slot]
		sub.seats = append(sub.seats, event.Address{Gateway: g, Seat: s.Seat})
	}
}

func (r *routes) activateLocked(id string) filter.Slot {
	if slot, ok := r.slots[id]; ok {
		return slot
	}
	var slot filter.Slot
	if n := len(r.free); n > 0 {
		slot, r.free = r.free[n-1], r.free[:n-1]
	} else {
		slot = filter.Slot(len(r.active))
		r.active = append(r.active, subscriber{})
	}
	r.active[slot] = subscriber{id: id}
	r.slots[id] = slot
	for _, fid := range r.owned[id] {
		r.index.Add(&r.filters[fid].Filter, slot)
	}
	return slot
}

func (r *routes) forgetLocked(a event.Address) {
	slot, ok := r.gateways[a.Gateway][a.Seat]
	if !ok {
		return
	}
	delete(r.gateways[a.Gateway], a.Seat)
	if len(r.gateways[a.Gateway]) == 0 {
		delete(r.gateways, a.Gateway)
	}
	sub := &r.active[slot]
	sub.seats = slices.DeleteFunc(sub.seats, func(b event.Address) bool { return a == b })
	if len(sub.seats) > 0 {
		return
	}
	for _, fid := range r.owned[sub.id] {
		r.index.Remove(fid)
	}
	delete(r.slots, sub.id)
	r.active[slot] = subscriber{}
	r.free = append(r.free, slot)
}

// dropGateway forgets all seats of g.
func (r *routes) dropGateway(g event.Gateway) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for seat := range r.gateways[g] {
		r.forgetLocked(event.Address{Gateway: g, Seat: seat})
	}
}

// knownGateways lists the gateways with seats.
func (r *routes) knownGateways() []event.Gateway {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]event.Gateway, 0, len(r.gateways))
	for g := range r.gateways {
		all = append(all, g)
	}
	return all
}

// counts returns the number of active subscribers, of filters that are not
// deleted, and of those in the index.
func (r *routes) counts() (active, filters, indexed int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.slots), r.live, r.index.Len()
}

// resolver finds the recipients of events and owns the memory of the result.
// One resolver serves one goroutine, which holds the read lock meanwhile.
type resolver struct {
	routes  *routes
	matcher *filter.Matcher
	groups  []lane.Group
}

func (r *routes) newResolver() *resolver {
	return &resolver{routes: r, matcher: filter.NewMatcher(r.index)}
}

// recipients returns where ev goes, grouped by gateway with ascending seats, and
// how many seats these are. It is valid until the next call.
func (v *resolver) recipients(ev *event.Event) (groups []lane.Group, seats int) {
	v.groups = v.groups[:0]
	for _, slot := range v.matcher.Match(ev) {
		for _, a := range v.routes.active[slot].seats {
			g := v.group(a.Gateway)
			g.Seats = append(g.Seats, a.Seat)
			seats++
		}
	}
	for _, g := range v.groups {
		slices.Sort(g.Seats)
	}
	return v.groups, seats
}

// group returns gateway g's group, empty if it is new. There are few gateways:
// a scan beats a map.
func (v *resolver) group(g event.Gateway) *lane.Group {
	for i := range v.groups {
		if v.groups[i].Gateway == g {
			return &v.groups[i]
		}
	}
	n := len(v.groups)
	if n < cap(v.groups) {
		v.groups = v.groups[:n+1] // with the memory of an earlier event's seats
	} else {
		v.groups = append(v.groups, lane.Group{})
	}
	v.groups[n].Gateway, v.groups[n].Seats = g, v.groups[n].Seats[:0]
	return &v.groups[n]
}
