package reader

import (
	"fmt"
	"slices"
	"time"

	"eventstream/event"
	"eventstream/gateway/history"
	"eventstream/gateway/uptime"
	"eventstream/lane"
)

// Batch posts what a batch holds for this gateway. Run calls it.
func (r *Reader) Batch(b lane.Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trimmed(b.Positions)
	next := slices.Clone(r.next)
	var malformed error
	for i, e := range b.Entries {
		if err := r.entry(e, next); err != nil {
			malformed = r.malformed(e, next, err)
		}
		if malformed != nil { // what came before it counts
			b.Entries, b.Positions = b.Entries[:i], nil
			break
		}
	}
	r.unreadable.Store(malformed != nil)
	r.past.Add(b.Entries)
	for _, p := range b.Positions {
		if int(p.Partition) < len(next) {
			if p.Next < next[p.Partition] { // the store lost them: they are matched again, with those who came since
				r.past.Cut(p.Partition, next[p.Partition])
			}
			next[p.Partition] = max(next[p.Partition], p.Next)
			r.synced[p.Partition], r.ends[p.Partition] = p.Synced, p.End
			if b := &r.beats[p.Partition]; b.value != p.Beat {
				*b = beat{p.Beat, time.Now()}
			}
		}
	}
	r.next = next
	if lost := r.noteLost(b.Positions); lost != nil {
		r.cfg.Lost(r, lost) // before events that come after it
	}
	p := Post{Reader: r.index, Next: next}
	if len(b.Positions) > 0 {
		p.Settled = slices.MinFunc(r.synced, lane.ControlID.Compare)
		close(r.news)
		r.news = make(chan struct{})
	}
	for i, w := range r.cfg.Workers {
		p.Deliveries, r.deliveries[i] = r.deliveries[i], nil
		w.Post(p)
	}
	r.heard.Store(int64(uptime.Now()))
	return malformed
}

// malformed deals with an entry that can't be read. To skip it would lose events without a
// word: so it is tried again, and calls for help, unless an operator wants it to count as
// trimmed.
func (r *Reader) malformed(e lane.Entry, next []int64, err error) error {
	r.cfg.Malformed.Inc()
	for i := range r.deliveries { // a part of it may have been read
		r.deliveries[i] = slices.DeleteFunc(r.deliveries[i], func(d Delivery) bool {
			return d.Event.ID.Partition == e.Partition && d.Event.ID.Offset >= next[e.Partition]
		})
	}
	err = fmt.Errorf("lane entry %d of partition %d can't be read: %w", e.Last, e.Partition, err)
	if !r.cfg.History.SkipMalformed {
		return err
	}
	r.log.Error("skipping what can't be read", "err", err)
	r.missed(e.Partition, e.Last+1)
	next[e.Partition] = max(next[e.Partition], e.Last+1)
	return nil
}

// trimmed looks whether a lane was trimmed past our position.
func (r *Reader) trimmed(positions []lane.Position) {
	for _, p := range positions {
		if int(p.Partition) < len(r.next) && p.First > r.next[p.Partition] {
			r.missed(p.Partition, p.First)
		}
	}
}

// missed tells that a lane was trimmed past our position, up to the given one. The clients
// have to come back with cursors from before.
func (r *Reader) missed(partition int32, upTo int64) {
	r.cfg.Misses.Inc()
	r.log.Error("events were trimmed before they were read; closing all connections",
		"lane", partition, "pos", r.next[partition], "first", upTo)
	r.past.Cut(partition, upTo)
	r.cfg.Missed()
}

// entry collects the deliveries of one entry.
func (r *Reader) entry(e lane.Entry, next []int64) error {
	if int(e.Partition) >= len(next) {
		return fmt.Errorf("partition %d of a topic that has %d", e.Partition, len(next))
	}
	if e.After > next[e.Partition] {
		r.missed(e.Partition, e.After)
	}
	r.follows.mu.Lock()
	defer r.follows.mu.Unlock()
	u := &r.unpacker
	u.Open(e.Blob)
	wanted := r.wanted(u.Gateways)
	for u.Next() {
		if u.Offset < next[e.Partition] {
			continue // the store lost writes and was filled again: we had this
		}
		if !wanted {
			continue
		}
		r.seats = r.seats[:0]
		for g, seats := range u.Groups() {
			r.collect(u.Gateways[g], seats)
		}
		if len(r.seats) > 0 {
			id := event.ID{Partition: e.Partition, Offset: u.Offset}
			r.deliver(id, u)
		}
	}
	if u.Err() != nil {
		return u.Err()
	}
	next[e.Partition] = max(next[e.Partition], e.Last+1)
	return nil
}

// wanted reports whether an entry can have recipients here.
func (r *Reader) wanted(gateways []event.Gateway) bool {
	return slices.ContainsFunc(gateways, func(g event.Gateway) bool { return g == r.cfg.Gateway || r.follows.seats[g] != nil })
}

// collect adds our seats among those of one gateway's group.
func (r *Reader) collect(g event.Gateway, encoded lane.Seats) {
	follow := r.follows.seats[g]
	if g != r.cfg.Gateway && follow == nil {
		return
	}
	first := len(r.seats)
	r.seats = encoded.Append(r.seats)
	all := r.seats[first:]
	if follow == nil {
		return
	}
	var more []event.Seat
	for _, seat := range all {
		more = append(more, follow[seat]...)
	}
	if g != r.cfg.Gateway {
		r.seats = r.seats[:first] // their numbers mean nothing here
	}
	r.seats = append(r.seats, more...)
}

// deliver adds one event to the deliveries of its recipients' workers.
func (r *Reader) deliver(id event.ID, u *lane.Unpacker) {
	e := history.NewEvent(id, u)
	n := event.Seat(len(r.deliveries))
	for i := range r.deliveries {
		r.deliveries[i] = append(r.deliveries[i], Delivery{Event: e})
	}
	for _, seat := range r.seats {
		d := r.deliveries[seat%n]
		d[len(d)-1].Seats = append(d[len(d)-1].Seats, seat)
	}
	for i, d := range r.deliveries {
		if len(d[len(d)-1].Seats) == 0 {
			r.deliveries[i] = d[:len(d)-1]
		}
	}
}
