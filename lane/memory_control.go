package lane

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"eventstream/event"
	"eventstream/filter"
)

// memoryControl is the part of a Memory that gateways and filter services know
// each other by. Entries are kept encoded: what readers get is their own.
type memoryControl struct {
	entries  []memoryChange
	end      ControlID // of the last entry
	used     ControlID // highest ID ever, also before Wipe
	gateways map[event.Gateway]*memoryGateway
}

type memoryChange struct {
	id    ControlID
	field string
	value []byte
}

// memoryGateway is what a gateway announced. It counts as gone after expires.
type memoryGateway struct {
	seq     uint64
	seats   map[event.Seat]string
	expires time.Time
}

// gatewayLocked returns nil if there is none or its time is over.
func (m *Memory) gatewayLocked(g event.Gateway) *memoryGateway {
	h := m.gateways[g]
	if h != nil && !time.Now().Before(h.expires) {
		delete(m.gateways, g)
		return nil
	}
	return h
}

// Announce is Redis.Announce.
func (m *Memory) Announce(_ context.Context, a Announcement) (ControlID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.gatewayLocked(a.Gateway)
	if h == nil || a.All {
		old := h
		h = &memoryGateway{seats: make(map[event.Seat]string)}
		if old != nil {
			h.seq = old.seq
		}
		m.gateways[a.Gateway] = h
	}
	forgotten := !a.All && h.seq != a.Seq && h.seq+1 != a.Seq
	h.seq, h.expires = a.Seq, time.Now().Add(a.TTL)
	for _, s := range a.Joined {
		h.seats[s.Seat] = s.Subscriber
	}
	for _, s := range a.Vacated {
		delete(h.seats, s)
	}
	var id ControlID
	for _, b := range seatEntries(a.Gateway, a.Joined, a.Forgot) {
		id = m.controlAddLocked(seatsField, b)
	}
	if forgotten {
		return id, ErrForgotten
	}
	return id, nil
}

// Heartbeat is Redis.Heartbeat.
func (m *Memory) Heartbeat(_ context.Context, g event.Gateway, ttl time.Duration) (Beat, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	beat := Beat{Epoch: m.epoch}
	if h := m.gatewayLocked(g); h != nil {
		h.expires = time.Now().Add(ttl)
		beat.Seq = h.seq
	}
	return beat, nil
}

// Occupant returns the subscriber that sits, or sat, at an address.
func (m *Memory) Occupant(_ context.Context, a event.Address) (subscriber string, ok bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.gatewayLocked(a.Gateway); h != nil {
		subscriber, ok = h.seats[a.Seat]
	}
	return subscriber, ok, nil
}

// Gateways returns the gateways whose time isn't over.
func (m *Memory) Gateways(context.Context) ([]event.Gateway, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []event.Gateway
	for _, g := range slices.Sorted(maps.Keys(m.gateways)) {
		if m.gatewayLocked(g) != nil {
			out = append(out, g)
		}
	}
	return out, nil
}

// Seats passes the seats of a gateway on, none if it is gone.
func (m *Memory) Seats(_ context.Context, g event.Gateway, sink func([]Seated) error) error {
	for page := range slices.Chunk(m.seats(g), hashChunk) {
		if err := sink(page); err != nil {
			return err
		}
	}
	return nil
}

func (m *Memory) seats(g event.Gateway) []Seated {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.gatewayLocked(g)
	if h == nil {
		return nil
	}
	out := make([]Seated, 0, len(h.seats))
	for seat, subscriber := range h.seats {
		out = append(out, Seated{seat, subscriber})
	}
	return out
}

// PublishFilter appends a filter's change to the control stream.
func (m *Memory) PublishFilter(_ context.Context, c filter.Change) (ControlID, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return ControlID{}, fmt.Errorf("publish filter %s: %w", c.ID, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.controlAddLocked(filterField, b), nil
}

// PublishBulk is Redis.PublishBulk.
func (m *Memory) PublishBulk(context.Context) (ControlID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.controlAddLocked(bulkField, nil), nil
}

func (m *Memory) controlAddLocked(field string, value []byte) ControlID {
	now := uint64(time.Now().UnixMilli())
	m.used.Seq++
	if now > m.used.Ms {
		m.used = ControlID{Ms: now}
	}
	m.end = m.used
	m.trimControlLocked()
	m.entries = append(m.entries, memoryChange{m.end, field, value})
	return m.end
}

// trimControlLocked drops what is too old and not where readers are: an entry
// goes when the one after it has been there for controlTrimEvery.
func (m *Memory) trimControlLocked() {
	const keep, settle = uint64(ControlRetention / time.Millisecond), uint64(controlTrimEvery / time.Millisecond)
	n := 0
	for n+1 < len(m.entries) && m.entries[n].id.Ms+keep < m.end.Ms && m.entries[n+1].id.Ms+settle < m.end.Ms {
		n++
	}
	clear(m.entries[:n])
	m.entries = m.entries[n:]
}

// ControlEnd returns the ID of the last change ever appended to the control
// stream, zero if there is none.
func (m *Memory) ControlEnd(context.Context) (ControlID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.end, nil
}

// ControlSince is Redis.ControlSince.
func (m *Memory) ControlSince(_ context.Context, after ControlID) (changes []Change, last ControlID, err error) {
	entries, err := m.controlFrom(after)
	if err != nil {
		return nil, after, err
	}
	last = after
	for _, e := range entries {
		c, err := decodeChange(e.id, e.field, e.value)
		if err != nil {
			return nil, after, err // our own bytes: can't happen
		}
		changes, last = append(changes, c), e.id
	}
	return changes, last, nil
}

func (m *Memory) controlFrom(after ControlID) ([]memoryChange, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if after == m.end {
		return nil, nil
	}
	if after == (ControlID{}) {
		return slices.Clone(m.entries), nil
	}
	i, found := slices.BinarySearchFunc(m.entries, after, func(e memoryChange, id ControlID) int { return e.id.Compare(id) })
	if !found {
		return nil, fmt.Errorf("control stream after %s, now at %s: %w", after, m.end, ErrControlLost)
	}
	return slices.Clone(m.entries[i+1:]), nil
}
