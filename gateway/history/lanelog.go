package history

import (
	"context"
	"errors"
	"slices"

	"eventstream/event"
	"eventstream/internal/scan"
	"eventstream/lane"
)

// laneLog is one partition of the lanes, as scan reads it. All who want something of it read
// it in shared passes.
type laneLog struct {
	lanes     *Lanes
	partition int32

	wanted   map[event.Gateway]map[event.Seat][]*request
	unpacker lane.Unpacker
	seats    []event.Seat
}

// request asks for what is addressed to one of some seats.
type request = scan.Request[[]event.Address, *Event]

type laneScan = scan.Scan[[]event.Address, *Event]

// Board is for scan.Log.
func (l *laneLog) Board(r *request) {
	for _, a := range r.Key {
		if l.wanted[a.Gateway] == nil {
			l.wanted[a.Gateway] = make(map[event.Seat][]*request)
		}
		l.wanted[a.Gateway][a.Seat] = append(l.wanted[a.Gateway][a.Seat], r)
	}
}

// Leave is for scan.Log.
func (l *laneLog) Leave(r *request) {
	for _, a := range r.Key {
		seats := l.wanted[a.Gateway]
		rest := slices.DeleteFunc(seats[a.Seat], func(other *request) bool { return other == r })
		if len(rest) > 0 {
			seats[a.Seat] = rest
			continue
		}
		if delete(seats, a.Seat); len(seats) == 0 {
			delete(l.wanted, a.Gateway)
		}
	}
}

// pageEntries and pageBytes bound the entries of one step.
const (
	pageEntries = 128
	pageBytes   = 4 << 20
)

// Step is for scan.Log.
func (l *laneLog) Step(ctx context.Context, from, to int64) (next, first int64, err error) {
	entries, ok := l.lanes.ring.read(l.partition, from, pageEntries)
	more := len(entries) == pageEntries
	if !ok {
		to = min(to, l.lanes.ring.from(l.partition))
		entries, first, more, err = l.fetch(ctx, from, to)
	}
	if err != nil {
		return 0, 0, err
	}
	for i, e := range entries {
		switch err := l.entry(e, from); {
		case err == nil:
		case !l.lanes.cfg.SkipMalformed:
			return 0, 0, err
		case i > 0: // it is the first of the next step
			return entries[i-1].Last + 1, first, nil
		default: // as if it were trimmed
			return e.Last + 1, e.Last + 1, nil
		}
	}
	if !more {
		return to, first, nil
	}
	return entries[len(entries)-1].Last + 1, first, nil
}

var errPageFull = errors.New("page is full")

// fetch reads a page of the lane from the store. first is from where on the lane was
// complete, and more whether there is another page.
func (l *laneLog) fetch(ctx context.Context, from, to int64) (entries []lane.Entry, first int64, more bool, err error) {
	bytes := 0
	ctx, cancel := context.WithTimeout(ctx, l.lanes.cfg.Timeout)
	defer cancel()
	first, err = l.lanes.store.Range(ctx, l.lanes.shard, l.partition, from, to, func(e lane.Entry) error {
		entries, bytes = append(entries, e), bytes+len(e.Blob)
		if len(entries) == pageEntries || bytes >= pageBytes {
			return errPageFull
		}
		return nil
	})
	if more = errors.Is(err, errPageFull); more {
		err = nil
	}
	if err == nil && first < 0 {
		err = lane.ErrBehind
	}
	return entries, first, more, err
}

// entry gives the events of an entry to the requests that want them.
func (l *laneLog) entry(e lane.Entry, from int64) error {
	u := &l.unpacker
	u.Open(e.Blob)
	if !l.concerned(u.Gateways) {
		return u.Err() // if it can't be read, it is not known whom it concerns
	}
	for u.Next() {
		if u.Offset >= from {
			l.give(u)
		}
	}
	return u.Err()
}

func (l *laneLog) concerned(gateways []event.Gateway) bool {
	return slices.ContainsFunc(gateways, func(g event.Gateway) bool { return l.wanted[g] != nil })
}

// fewWanted is up to how many seats are looked for one by one in a list.
const fewWanted = 4

// give gives the event that u is at to the requests that want it. An event can have far
// more recipients than there are requests, or far fewer.
func (l *laneLog) give(u *lane.Unpacker) {
	var ev *Event
	for i, encoded := range u.Groups() {
		wanted := l.wanted[u.Gateways[i]]
		switch {
		case len(wanted) == 0:
		case encoded.Cheap() || len(wanted) <= fewWanted:
			for seat, requests := range wanted {
				if encoded.Has(seat) {
					ev = l.giveTo(requests, u, ev)
				}
			}
		default:
			l.seats = encoded.Append(l.seats[:0])
			for _, seat := range l.seats {
				ev = l.giveTo(wanted[seat], u, ev)
			}
		}
	}
}

// giveTo gives the event to requests that want it. ev is nil until the event is encoded.
func (l *laneLog) giveTo(requests []*request, u *lane.Unpacker, ev *Event) *Event {
	for _, r := range requests {
		if !r.Wants(u.Offset) {
			continue
		}
		if ev == nil {
			ev = NewEvent(event.ID{Partition: l.partition, Offset: u.Offset}, u)
		}
		r.Give(u.Offset, ev, len(ev.JSON))
	}
	return ev
}
