package index

import (
	"math/bits"
	"slices"

	"eventstream/internal/cow"
)

// Slot is a number that the Index's owner gives to a subscriber. It should be small, as
// Matchers have a bit for each, and is at most MaxSlot.
type Slot uint32

// MaxSlot is the largest Slot.
const MaxSlot Slot = 1<<31 - 2

// recipient is the recipients of an entry in four bytes: a Slot, or, with the highest bit
// set, the number of a posting.
type recipient uint32

const (
	shared recipient = 1 << 31
	nobody           = recipient(MaxSlot) + 1
)

// posting is the set of Slots of a Condition that has more than one: a list, or, for many,
// chunks that each cover 4096 Slots.
type posting struct {
	gen    cow.Gen
	n      int
	list   []Slot // ascending
	chunks []*chunk
}

// chunk is the Slots of a range from base on: a list of distances from base, or a bit for each.
type chunk struct {
	gen  cow.Gen
	base Slot
	n    int
	list []uint16
	bits *[chunkSlots / 64]uint64
}

const (
	chunkSlots = 4096
	listMost   = chunkSlots / 16 // as many take as much memory as the bits
)

func (p *posting) own(g cow.Gen) *posting {
	if p.gen == g {
		return p
	}
	return &posting{gen: g, n: p.n, list: cloneWithRoom(p.list), chunks: cloneWithRoom(p.chunks)}
}

func (c *chunk) own(g cow.Gen) *chunk {
	if c.gen == g {
		return c
	}
	o := &chunk{gen: g, base: c.base, n: c.n, list: cloneWithRoom(c.list)}
	if c.bits != nil {
		b := *c.bits
		o.bits = &b
	}
	return o
}

// add adds s to p, which is the writer's. It returns false if s is there already.
func (p *posting) add(by *writer, s Slot) bool {
	if p.chunks != nil {
		return p.addToChunk(by.gen, s)
	}
	i, found := slices.BinarySearch(p.list, s)
	if found {
		return false
	}
	p.list = slices.Insert(p.list, i, s)
	if p.n++; p.n > by.sizes.PostingSlots {
		list := p.list
		p.list, p.n = nil, 0
		for _, s := range list {
			p.addToChunk(by.gen, s)
		}
	}
	return true
}

func (p *posting) addToChunk(g cow.Gen, s Slot) bool {
	i, found := p.chunkOf(s)
	if !found {
		p.chunks = slices.Insert(p.chunks, i, &chunk{gen: g, base: s &^ (chunkSlots - 1)})
	}
	c := p.chunks[i].own(g)
	p.chunks[i] = c
	if !c.add(uint16(s - c.base)) {
		return false
	}
	p.n++
	return true
}

func (p *posting) chunkOf(s Slot) (int, bool) {
	return slices.BinarySearchFunc(p.chunks, s&^(chunkSlots-1), func(c *chunk, base Slot) int { return int(c.base) - int(base) })
}

func (c *chunk) add(at uint16) bool {
	if c.bits != nil {
		w, bit := at/64, uint64(1)<<(at%64)
		if c.bits[w]&bit != 0 {
			return false
		}
		c.bits[w] |= bit
		c.n++
		return true
	}
	i, found := slices.BinarySearch(c.list, at)
	if found {
		return false
	}
	c.list = slices.Insert(c.list, i, at)
	if c.n++; c.n > listMost {
		c.bits = new([chunkSlots / 64]uint64)
		for _, at := range c.list {
			c.bits[at/64] |= 1 << (at % 64)
		}
		c.list = nil
	}
	return true
}

// remove removes s from p, which is the writer's. It returns false if it is not there.
func (p *posting) remove(by *writer, s Slot) bool {
	if p.chunks == nil {
		i, found := slices.BinarySearch(p.list, s)
		if found {
			p.list = slices.Delete(p.list, i, i+1)
			p.n--
		}
		return found
	}
	i, found := p.chunkOf(s)
	if !found {
		return false
	}
	c := p.chunks[i].own(by.gen)
	p.chunks[i] = c
	if !c.remove(uint16(s - c.base)) {
		return false
	}
	p.n--
	if c.n == 0 {
		p.chunks = slices.Delete(p.chunks, i, i+1)
	}
	if p.n <= by.sizes.PostingSlots/2 {
		p.list, p.chunks = p.appendTo(make([]Slot, 0, p.n+1)), nil
	}
	return true
}

func (c *chunk) remove(at uint16) bool {
	if c.bits == nil {
		i, found := slices.BinarySearch(c.list, at)
		if found {
			c.list = slices.Delete(c.list, i, i+1)
			c.n--
		}
		return found
	}
	w, bit := at/64, uint64(1)<<(at%64)
	if c.bits[w]&bit == 0 {
		return false
	}
	c.bits[w] &^= bit
	if c.n--; c.n <= listMost/2 {
		list := make([]uint16, 0, c.n+1)
		for i, w := range c.bits {
			for ; w != 0; w &= w - 1 {
				list = append(list, uint16(i*64+bits.TrailingZeros64(w)))
			}
		}
		c.list, c.bits = list, nil
	}
	return true
}

// appendTo appends all Slots, ascending.
func (p *posting) appendTo(dst []Slot) []Slot {
	dst = append(dst, p.list...)
	for _, c := range p.chunks {
		for _, at := range c.list {
			dst = append(dst, c.base+Slot(at))
		}
		if c.bits == nil {
			continue
		}
		for i, w := range c.bits {
			for ; w != 0; w &= w - 1 {
				dst = append(dst, c.base+Slot(i*64+bits.TrailingZeros64(w)))
			}
		}
	}
	return dst
}
