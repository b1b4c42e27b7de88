package pipeline

import (
	"cmp"
	"math/bits"
	"slices"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/cow"
	"eventstream/lane"
)

// places tells the seats of each slot. The writer changes it in place; a copy is
// a snapshot once the writer has gone on to another generation.
type places struct {
	blocks cow.Vector[*block]
}

// block is the seats of 64 slots in a row. Subscribers mostly get their slots in
// the order in which they get their seats, so that a slot's seat is its distance
// from the block's first slot, counted from the block's first seat. Those of
// which this holds are regular; the seats of 64 of them are found in one step.
type block struct {
	gen     cow.Gen
	gateway event.Gateway // of the regular ones
	first   int64         // seat of the first slot, if it is regular
	regular uint64        // a bit for each slot
	others  []placed      // all other seats, ascending by slot
}

type placed struct {
	at   uint8 // of the slot in the block
	seat event.Address
}

func (p *places) at(base filter.Slot) *block { return p.blocks.At(uint32(base) / 64) }

// own returns the block of s for the writer.
func (p *places) own(g cow.Gen, s filter.Slot) (b *block, at uint8) {
	i := uint32(s) / 64
	b = p.blocks.At(i)
	switch {
	case b == nil:
		b = &block{gen: g}
	case b.gen != g:
		c := *b
		c.gen, c.others = g, slices.Clone(b.others)
		b = &c
	}
	p.blocks.Set(g, i, b)
	return b, uint8(s % 64)
}

// add gives a slot one more seat.
func (p *places) add(g cow.Gen, s filter.Slot, a event.Address) {
	b, at := p.own(g, s)
	if !b.addRegular(at, a) {
		i, _ := slices.BinarySearchFunc(b.others, at, func(o placed, at uint8) int { return cmp.Compare(o.at, at) })
		b.others = slices.Insert(b.others, i, placed{at, a})
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

// remove takes a seat from a slot that has it, and reports whether it has others.
func (p *places) remove(g cow.Gen, s filter.Slot, a event.Address) (more bool) {
	b, at := p.own(g, s)
	if b.regular>>at&1 == 1 && b.gateway == a.Gateway && b.first+int64(at) == int64(a.Seat) {
		if b.regular &^= 1 << at; b.regular == 0 {
			b.settle()
		}
	} else {
		b.others = slices.DeleteFunc(b.others, func(o placed) bool { return o.at == at && o.seat == a })
	}
	return b.regular>>at&1 == 1 || slices.ContainsFunc(b.others, func(o placed) bool { return o.at == at })
}

// settle makes regular what it can of a block without regular seats.
func (b *block) settle() {
	b.others = slices.DeleteFunc(b.others, func(o placed) bool { return b.addRegular(o.at, o.seat) })
}

// resolver finds the recipients of events and owns the memory of the result. One
// resolver serves one goroutine. The zero value works.
type resolver struct {
	matcher filter.Matcher
	groups  []lane.Group
	open    int // the group that got the last seat
	sorter  seatSorter
}

// recipients returns where ev goes, grouped by gateway, and how many seats these
// are. It is valid until the next call. ev must have been decoded with the paths
// of the view's snapshot.
func (v *resolver) recipients(w *view, ev *event.Event) (groups []lane.Group, seats int) {
	v.groups, v.open = v.groups[:0], 0
	v.matcher.Match(w.index, ev)
	for base, mask := range v.matcher.All() {
		b := w.places.at(base)
		if b == nil {
			continue
		}
		if regular := mask & b.regular; regular != 0 {
			seats += bits.OnesCount64(regular)
			low := bits.TrailingZeros64(regular)
			v.add(b.gateway, lane.Run{First: event.Seat(b.first + int64(low)), Mask: regular >> low})
		}
		for _, o := range b.others {
			if mask>>o.at&1 == 1 {
				seats++
				v.add(o.seat.Gateway, lane.Run{First: o.seat.Seat, Mask: 1})
			}
		}
	}
	for i := range v.groups {
		v.sorter.sort(&v.groups[i])
	}
	return v.groups, seats
}

// add notes seats of a gateway. There are few gateways: a scan beats a map.
func (v *resolver) add(g event.Gateway, r lane.Run) {
	if v.open >= len(v.groups) || v.groups[v.open].Gateway != g {
		v.open = slices.IndexFunc(v.groups, func(o lane.Group) bool { return o.Gateway == g })
		if v.open < 0 {
			v.open = len(v.groups)
			if v.open < cap(v.groups) {
				v.groups = v.groups[:v.open+1] // with the memory of an earlier event's runs
			} else {
				v.groups = append(v.groups, lane.Group{})
			}
			v.groups[v.open].Gateway, v.groups[v.open].Runs = g, v.groups[v.open].Runs[:0]
		}
	}
	group := &v.groups[v.open]
	group.Runs = append(group.Runs, r)
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
