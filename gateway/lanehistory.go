package gateway

import (
	"context"
	"errors"
	"slices"

	"eventstream/event"
	"eventstream/internal/scan"
	"eventstream/lane"
	"eventstream/wire"
)

// past is what one partition of the lanes still holds: in our ring, or in the
// store. All who catch up read it in shared passes.
type past struct {
	reader    *reader
	partition int32

	wanted   map[event.Gateway]map[event.Seat][]*pastRequest
	unpacker lane.Unpacker
	seats    []event.Seat
}

// pastRequest asks for what is addressed to one of some seats.
type pastRequest = scan.Request[[]event.Address, *message]

type pastScan = scan.Scan[[]event.Address, *message]

func newPast(r *reader, partition int32) *pastScan {
	return scan.New(&past{reader: r, partition: partition, wanted: make(map[event.Gateway]map[event.Seat][]*pastRequest)})
}

// Board is for scan.Log.
func (l *past) Board(r *pastRequest) {
	for _, a := range r.Key {
		if l.wanted[a.Gateway] == nil {
			l.wanted[a.Gateway] = make(map[event.Seat][]*pastRequest)
		}
		l.wanted[a.Gateway][a.Seat] = append(l.wanted[a.Gateway][a.Seat], r)
	}
}

// Leave is for scan.Log.
func (l *past) Leave(r *pastRequest) {
	for _, a := range r.Key {
		seats := l.wanted[a.Gateway]
		rest := slices.DeleteFunc(seats[a.Seat], func(other *pastRequest) bool { return other == r })
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
func (l *past) Step(ctx context.Context, from, to int64) (next, first int64, err error) {
	entries, ok := l.reader.ring.read(l.partition, from, pageEntries)
	more := len(entries) == pageEntries
	if !ok {
		to = min(to, l.reader.ring.from(l.partition))
		entries, first, more, err = l.fetch(ctx, from, to)
	}
	if err != nil {
		return 0, 0, err
	}
	for i, e := range entries {
		switch err := l.entry(e, from); {
		case err == nil:
		case !l.reader.gw.cfg.SkipMalformed:
			return 0, 0, err
		case i > 0: // it is the first of the next step
			return entries[i-1].Last + 1, first, nil
		default: // it counts as trimmed
			return e.Last + 1, e.Last + 1, nil
		}
	}
	if !more {
		return to, first, nil
	}
	return entries[len(entries)-1].Last + 1, first, nil
}

var errPageFull = errors.New("page is full")

// fetch reads a page of the lane, from where on it was complete, and whether there is more.
func (l *past) fetch(ctx context.Context, from, to int64) (entries []lane.Entry, first int64, more bool, err error) {
	bytes := 0
	gw := l.reader.gw
	ctx, cancel := context.WithTimeout(ctx, gw.timeout)
	defer cancel()
	first, err = gw.lanes.Range(ctx, l.reader.shard, l.partition, from, to, func(e lane.Entry) error {
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

// entry gives the events of an entry to those who ask for them.
func (l *past) entry(e lane.Entry, from int64) error {
	u := &l.unpacker
	u.Open(e.Blob)
	if !l.concerned(u.Gateways) {
		return u.Err() // whom it concerns is not known if it can't be read
	}
	for u.Next() {
		if u.Offset >= from {
			l.give(u)
		}
	}
	return u.Err()
}

func (l *past) concerned(gateways []event.Gateway) bool {
	return slices.ContainsFunc(gateways, func(g event.Gateway) bool { return l.wanted[g] != nil })
}

// fewWanted is up to how many seats are looked for one by one in a list.
const fewWanted = 4

// give gives the event that u is at to those who ask for it. An event can have far
// more recipients than there are who ask, or far fewer.
func (l *past) give(u *lane.Unpacker) {
	var msg *message
	for i, encoded := range u.Groups() {
		wanted := l.wanted[u.Gateways[i]]
		switch {
		case len(wanted) == 0:
		case encoded.Cheap() || len(wanted) <= fewWanted:
			for seat, requests := range wanted {
				if encoded.Has(seat) {
					msg = l.giveTo(requests, u, msg)
				}
			}
		default:
			l.seats = encoded.Append(l.seats[:0])
			for _, seat := range l.seats {
				msg = l.giveTo(wanted[seat], u, msg)
			}
		}
	}
}

// giveTo gives the event to requests that want it. msg is nil until it is encoded.
func (l *past) giveTo(requests []*pastRequest, u *lane.Unpacker, msg *message) *message {
	for _, r := range requests {
		if !r.Wants(u.Offset) {
			continue
		}
		if msg == nil {
			msg = newMessage(event.ID{Partition: l.partition, Offset: u.Offset}, u)
		}
		r.Give(u.Offset, msg, len(msg.json))
	}
	return msg
}

// newMessage encodes the event that u is at.
func newMessage(id event.ID, u *lane.Unpacker) *message {
	return &message{id: id, ts: u.TimeMs, json: wire.AppendEvent(make([]byte, 0, len(u.Data)+64), id, u.TimeMs, u.Data)}
}
