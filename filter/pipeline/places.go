package pipeline

import (
	"iter"
	"math/bits"
	"slices"

	"eventstream/event"
	"eventstream/filter/index"
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
	irregular *irregular    // the other seats, nil if there are none
}

// irregular is seats of the slots of a block that are not regular. Like the parts
// of package cow it belongs to a generation, which changes it in place.
type irregular struct {
	gen      cow.Gen
	gateways []event.Gateway // few
	has      uint64          // the slots with one of these:
	seats    [64]event.Seat  // by slot
	at       [64]uint8       // its gateway's place in gateways
	several  uint64          // the slots that have more than that:
	more     []crowd         // by slot, of those in several
}

// of returns the block of the 64 slots from base on, nil if they never had seats.
func (p *places) of(base index.Slot) *block { return p.blocks.At(uint32(base) / 64) }

// add gives a slot a seat that it does not have. It takes O(log n) of the n seats
// of the slot.
func (p *places) add(g cow.Gen, s index.Slot, a event.Address) {
	b, at := p.blocks.Own(g, uint32(s)/64), uint8(s%64)
	if !b.addRegular(at, a) {
		b.own(g).add(at, a)
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

// own returns the irregular seats for the writer, who is in generation g, to change.
func (b *block) own(g cow.Gen) *irregular {
	switch r := b.irregular; {
	case r == nil:
		b.irregular = &irregular{gen: g}
	case r.gen != g:
		c := *r
		c.gen, c.gateways, c.more = g, slices.Clone(r.gateways), slices.Clone(r.more)
		b.irregular = &c
	}
	return b.irregular
}

// remove takes a seat from a slot that has it. It takes as long as add.
func (p *places) remove(g cow.Gen, s index.Slot, a event.Address) {
	b, at := p.blocks.Own(g, uint32(s)/64), uint8(s%64)
	if b.regular>>at&1 == 0 || b.gateway != a.Gateway || b.first+int64(at) != int64(a.Seat) {
		b.own(g).remove(at, a)
	} else if b.regular &^= 1 << at; b.regular == 0 && b.irregular != nil {
		b.promote(g)
	}
	if b.irregular != nil && b.irregular.has == 0 {
		b.irregular = nil
	}
}

// promote makes seats regular that may be so, now that none is.
func (b *block) promote(g cow.Gen) {
	r := b.own(g)
	for has := r.has; has != 0; has &= has - 1 {
		at := uint8(bits.TrailingZeros64(has))
		if a := r.first(at); b.addRegular(at, a) {
			r.remove(at, a)
		}
	}
}

// first returns the seat of a slot that has one outside of more.
func (r *irregular) first(at uint8) event.Address {
	return event.Address{Gateway: r.gateways[r.at[at]], Seat: r.seats[at]}
}

func (r *irregular) add(at uint8, a event.Address) {
	if r.has>>at&1 == 0 {
		r.setFirst(at, a)
		return
	}
	i := r.crowdOf(at)
	if r.several>>at&1 == 0 {
		r.several |= 1 << at
		r.more = slices.Insert(r.more, i, crowd{})
	}
	r.more[i].add(r.gen, a)
}

// setFirst puts a seat into the slot's place outside of more.
func (r *irregular) setFirst(at uint8, a event.Address) {
	g := slices.Index(r.gateways, a.Gateway)
	if g < 0 {
		g = len(r.gateways) // below 64: each of them has a slot
		r.gateways = append(r.gateways, a.Gateway)
	}
	r.has |= 1 << at
	r.seats[at], r.at[at] = a.Seat, uint8(g)
}

// crowdOf returns where in more the slot's seats are, or belong.
func (r *irregular) crowdOf(at uint8) int { return bits.OnesCount64(r.several & (1<<at - 1)) }

func (r *irregular) remove(at uint8, a event.Address) {
	i := r.crowdOf(at)
	if r.has>>at&1 == 1 && r.first(at) == a {
		r.dropFirst(at)
		if r.several>>at&1 == 0 {
			return
		}
		a = r.more[i].last()
		r.setFirst(at, a)
	}
	if r.several>>at&1 == 1 && r.more[i].remove(r.gen, a) {
		r.several &^= 1 << at
		r.more = slices.Delete(r.more, i, i+1)
	}
}

// dropFirst empties the slot's place outside of more, and forgets a gateway that
// no other slot has there.
func (r *irregular) dropFirst(at uint8) {
	r.has &^= 1 << at
	gone, last := r.at[at], uint8(len(r.gateways)-1)
	for has := r.has; has != 0; has &= has - 1 {
		if r.at[bits.TrailingZeros64(has)] == gone {
			return
		}
	}
	r.gateways[gone] = r.gateways[last]
	r.gateways = r.gateways[:last]
	for has := r.has; has != 0; has &= has - 1 {
		if other := &r.at[bits.TrailingZeros64(has)]; *other == last {
			*other = gone
		}
	}
}

// all yields the seats of the slots in mask.
func (r *irregular) all(mask uint64) iter.Seq[event.Address] {
	return func(yield func(event.Address) bool) {
		for has := r.has & mask; has != 0; has &= has - 1 {
			if !yield(r.first(uint8(bits.TrailingZeros64(has)))) {
				return
			}
		}
		for several := r.several & mask; several != 0; several &= several - 1 {
			for _, c := range r.more[r.crowdOf(uint8(bits.TrailingZeros64(several)))].chunks {
				for _, a := range c.seats {
					if !yield(a) {
						return
					}
				}
			}
		}
	}
}

// resolver finds the recipients of events and owns the memory of the result. One
// resolver serves one goroutine. The zero value works.
type resolver struct {
	matcher index.Matcher
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
		for a := range b.irregular.all(mask) {
			seats++
			v.add(a.Gateway, lane.Run{First: a.Seat, Mask: 1})
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
