package gateway

import (
	"context"
	"errors"

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

	wanted   map[event.Address][]*pastRequest
	gateways map[event.Gateway]int // how many of wanted are theirs
	unpacker lane.Unpacker
	seats    []event.Seat
}

// pastRequest asks for what is addressed to one of some seats.
type pastRequest = scan.Request[[]event.Address, *message]

type pastScan = scan.Scan[[]event.Address, *message]

func newPast(r *reader, partition int32) *pastScan {
	return scan.New(&past{
		reader: r, partition: partition,
		wanted: make(map[event.Address][]*pastRequest), gateways: make(map[event.Gateway]int),
	})
}

// Board is for scan.Log.
func (l *past) Board(r *pastRequest) {
	for _, a := range r.Key {
		l.wanted[a] = append(l.wanted[a], r)
		l.gateways[a.Gateway]++
	}
}

// Leave is for scan.Log.
func (l *past) Leave(r *pastRequest) {
	for _, a := range r.Key {
		rest := l.wanted[a][:0]
		for _, other := range l.wanted[a] {
			if other != r {
				rest = append(rest, other)
			}
		}
		if l.wanted[a] = rest; len(rest) == 0 {
			delete(l.wanted, a)
		}
		if l.gateways[a.Gateway]--; l.gateways[a.Gateway] == 0 {
			delete(l.gateways, a.Gateway)
		}
	}
}

// pageEntries bounds the entries of one step.
const pageEntries = 128

// Step is for scan.Log.
func (l *past) Step(ctx context.Context, from, to int64) (next, first int64, err error) {
	entries, ok := l.reader.ring.read(l.partition, from, pageEntries)
	if !ok {
		to = min(to, l.reader.ring.from(l.partition))
		entries, first, err = l.fetch(ctx, from, to)
	}
	if err != nil {
		return 0, 0, err
	}
	for _, e := range entries {
		if err := l.entry(e, from); err != nil {
			return 0, 0, err
		}
	}
	if len(entries) < pageEntries {
		return to, first, nil
	}
	return entries[len(entries)-1].Last + 1, first, nil
}

var errPageFull = errors.New("page is full")

// fetch reads a page of the lane, and from where on it was complete.
func (l *past) fetch(ctx context.Context, from, to int64) (entries []lane.Entry, first int64, err error) {
	gw := l.reader.gw
	ctx, cancel := context.WithTimeout(ctx, gw.timeout)
	defer cancel()
	first, err = gw.lanes.Range(ctx, l.reader.shard, l.partition, from, to, func(e lane.Entry) error {
		if entries = append(entries, e); len(entries) == pageEntries {
			return errPageFull
		}
		return nil
	})
	if errors.Is(err, errPageFull) {
		err = nil
	}
	if err == nil && first < 0 {
		err = lane.ErrBehind
	}
	return entries, first, err
}

// entry gives the events of an entry to those who ask for them.
func (l *past) entry(e lane.Entry, from int64) error {
	u := &l.unpacker
	u.Open(e.Blob)
	if !l.concerned(u.Gateways) {
		return nil
	}
	for u.Next() {
		if u.Offset >= from {
			l.give(u)
		}
	}
	return u.Err()
}

func (l *past) concerned(gateways []event.Gateway) bool {
	for _, g := range gateways {
		if l.gateways[g] > 0 {
			return true
		}
	}
	return false
}

func (l *past) give(u *lane.Unpacker) {
	var msg *message
	for i, encoded := range u.Groups() {
		g := u.Gateways[i]
		if l.gateways[g] == 0 {
			continue
		}
		l.seats = encoded.Append(l.seats[:0])
		for _, seat := range l.seats {
			for _, r := range l.wanted[event.Address{Gateway: g, Seat: seat}] {
				if !r.Wants(u.Offset) {
					continue
				}
				if msg == nil {
					msg = newMessage(event.ID{Partition: l.partition, Offset: u.Offset}, u)
				}
				r.Give(u.Offset, msg, len(msg.json))
			}
		}
	}
}

// newMessage encodes the event that u is at.
func newMessage(id event.ID, u *lane.Unpacker) *message {
	return &message{id: id, ts: u.TimeMs, json: wire.AppendEvent(make([]byte, 0, len(u.Data)+64), id, u.TimeMs, u.Data)}
}
