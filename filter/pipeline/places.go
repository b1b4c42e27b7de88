package pipeline

import (
	"iter"
	"math"
	"math/bits"
	"slices"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/cow"
	"eventstream/lane"
)

// places tells the seats of each slot. The writer changes it; a copy is a
// snapshot once the writer has gone on to another generation.
type places struct {
	blocks cow.Vector[block]
}

// block is the seats of 64 slots in a row. Subscribers mostly get their slots in
// the order in which they get their seats, so that a slot's seat is its distance
// from the block's first slot, counted from the block's first seat. Those of
// which this holds are regular; the seats of 64 of them are found in one step.
type block struct {
	gateway   event.Gateway // of the regular ones
	first     int64         // seat of the first slot, if it is regular
	regular   uint64        // a bit for each slot
	irregular *irregular    // the other seats, nil if there are none; each change makes a new one
}

// irregular is seats of the slots of a block that are not regular.
type irregular struct {
	gateways []event.Gateway // few
	has      uint64          // the slots with one of these:
	seats    [64]event.Seat  // by slot
	at       [64]uint8       // its gateway's place in gateways
	more     []placed        // where a slot has several
}

type placed struct {
	at   uint8 // of the slot in the block
	seat event.Address
}

// of returns the block of the 64 slots from base on, nil if they never had seats.
func (p *places) of(base filter.Slot) *block { return p.blocks.At(uint32(base) / 64) }

// add gives a slot one more seat.
func (p *places) add(g cow.Gen, s filter.Slot, a event.Address) {
	b, at := p.blocks.Own(g, uint32(s)/64), uint8(s%64)
	if !b.addRegular(at, a) {
		b.irregular = b.irregular.with(at, a)
	}
}

func (b *block) addRegular(at uint8, a event.Address) bool {
	first := int64(a.Seat) - int64(at)
	if b.regular == 0 {
		b.gateway, b.first = a.Gateway, first
	}
	if b.gateway != a.Gateway || b.first != first || b.regular>>at&1 == 1 {
		return false
	}
	b.regular |= 1 << at
	return true
}

// remove takes a seat from a slot that has it.
func (p *places) remove(g cow.Gen, s filter.Slot, a event.Address) {
	b, at := p.blocks.Own(g, uint32(s)/64), uint8(s%64)
	if b.regular>>at&1 == 0 || b.gateway != a.Gateway || b.first+int64(at) != int64(a.Seat) {
		b.irregular = b.irregular.without(func(o placed) bool { return o.at == at && o.seat == a })
		return
	}
	if b.regular &^= 1 << at; b.regular == 0 { // others may be so now
		b.irregular = b.irregular.without(func(o placed) bool { return b.addRegular(o.at, o.seat) })
	}
}

// with returns a copy of r, which may be nil, with one more seat.
func (r *irregular) with(at uint8, a event.Address) *irregular {
	c := &irregular{}
	if r != nil {
		*c = *r
	}
	c.put(placed{at, a})
	return c
}

// put adds a seat to r, which nobody else has yet.
func (r *irregular) put(p placed) {
	g := slices.Index(r.gateways, p.seat.Gateway)
	if g < 0 {
		g = len(r.gateways)
		r.gateways = append(slices.Clip(r.gateways), p.seat.Gateway)
	}
	if r.has>>p.at&1 == 1 || g > math.MaxUint8 {
		r.more = append(slices.Clip(r.more), p)
		return
	}
	r.has |= 1 << p.at
	r.seats[p.at], r.at[p.at] = p.seat.Seat, uint8(g)
}

// without returns r without what drop wants dropped, nil if nothing is left.
func (r *irregular) without(drop func(placed) bool) *irregular {
	if r == nil {
		return nil
	}
	var c irregular
	for p := range r.all(math.MaxUint64) {
		if !drop(p) {
			c.put(p)
		}
	}
	if c.has == 0 && len(c.more) == 0 {
		return nil
	}
	return &c
}

// all yields the seats of the slots in mask.
func (r *irregular) all(mask uint64) iter.Seq[placed] {
	return func(yield func(placed) bool) {
		for has := r.has & mask; has != 0; has &= has - 1 {
			at := uint8(bits.TrailingZeros64(has))
			if !yield(placed{at, event.Address{Gateway: r.gateways[r.at[at]], Seat: r.seats[at]}}) {
				return
			}
		}
		for _, p := range r.more {
			if mask>>p.at&1 == 1 && !yield(p) {
				return
			}
		}
	}
}

// resolver finds the recipients of events and owns the memory of the result. One
// resolver serves one goroutine. The zero value works.
type resolver struct {
	matcher filter.Matcher
	groups  []lane.Group
	open    *lane.Group // the one that got the last seat
	sorter  seatSorter
}

// recipients returns where ev goes, grouped by gateway, and how many seats these
// are. It is valid until the next call. ev must have been decoded with the paths
// of the view's snapshot.
func (v *resolver) recipients(w *view, ev *event.Event) (groups []lane.Group, seats int) {
	v.groups, v.open = v.groups[:0], nil
	v.matcher.Match(w.index, ev)
	for base, mask := range v.matcher.All() {
		b := w.places.of(base)
		if b == nil {
			continue
		}
		if regular := mask & b.regular; regular != 0 {
			seats += bits.OnesCount64(regular)
			low := bits.TrailingZeros64(regular)
			v.add(b.gateway, lane.Run{First: event.Seat(b.first + int64(low)), Mask: regular >> low})
		}
		if b.irregular == nil {
			continue
		}
		for p := range b.irregular.all(mask) {
			seats++
			v.add(p.seat.Gateway, lane.Run{First: p.seat.Seat, Mask: 1})
		}
	}
	for i := range v.groups {
		v.sorter.sort(&v.groups[i])
	}
	return v.groups, seats
}

// add notes seats of a gateway.
func (v *resolver) add(g event.Gateway, r lane.Run) {
	if v.open == nil || v.open.Gateway != g {
		v.open = v.group(g)
	}
	v.open.Runs = append(v.open.Runs, r)
}

// group returns the group of a gateway. There are few gateways: a scan beats a map.
func (v *resolver) group(g event.Gateway) *lane.Group {
	n := len(v.groups)
	if i := slices.IndexFunc(v.groups, func(o lane.Group) bool { return o.Gateway == g }); i >= 0 {
		return &v.groups[i]
	}
	if n < cap(v.groups) {
		v.groups = v.groups[:n+1] // with the memory of an earlier event's runs
	} else {
		v.groups = append(v.groups, lane.Group{})
	}
	v.groups[n].Gateway, v.groups[n].Runs = g, v.groups[n].Runs[:0]
	return &v.groups[n]
}

// seatSorter puts Runs that don't ascend, or overlap, in order.
type seatSorter struct {
	seats []event.Seat
	bits  []uint64
}

func (s *seatSorter) sort(g *lane.Group) {
	lowest, highest, ordered := g.Runs[0].First, g.Runs[0].Last(), true
	for _, r := range g.Runs[1:] {
		ordered = ordered && r.First > highest
		lowest, highest = min(lowest, r.First), max(highest, r.Last())
	}
	if ordered {
		return
	}
	if width := int(highest-lowest)/64 + 1; width <= 8*len(g.Runs) {
		s.byBits(g, lowest, width)
		return
	}
	s.seats = s.seats[:0]
	for _, r := range g.Runs {
		for mask := r.Mask; mask != 0; mask &= mask - 1 {
			s.seats = append(s.seats, r.First+event.Seat(bits.TrailingZeros64(mask)))
		}
	}
	slices.Sort(s.seats)
	g.Runs = lane.AppendRuns(g.Runs[:0], s.seats)
}

// byBits sorts by a bit for each seat from lowest on, 64 times width of them.
func (s *seatSorter) byBits(g *lane.Group, lowest event.Seat, width int) {
	s.bits = slices.Grow(s.bits[:0], width+1)[:width+1]
	clear(s.bits)
	for _, r := range g.Runs {
		d := r.First - lowest
		s.bits[d/64] |= r.Mask << (d % 64)
		s.bits[d/64+1] |= r.Mask >> 1 >> (63 - d%64)
	}
	g.Runs = g.Runs[:0]
	for i, mask := range s.bits {
		if mask != 0 {
			low := bits.TrailingZeros64(mask)
			g.Runs = append(g.Runs, lane.Run{First: lowest + event.Seat(i*64+low), Mask: mask >> low})
		}
	}
}
