package pipeline

import (
	"cmp"
	"slices"

	"eventstream/event"
	"eventstream/internal/cow"
)

// crowd is the seats of one slot that has many: a client that reconnects without
// end leaves one each time. They are in order, in chunks, so that a change copies
// one chunk at most, and a snapshot of them none.
type crowd struct {
	gen    cow.Gen
	chunks []*chunk // none is empty
}

type chunk struct {
	gen   cow.Gen
	seats []event.Address
}

// chunkMost is how many seats a chunk has at most.
const chunkMost = 128

// add adds a seat that is not there, for the writer, who is in generation g.
func (c *crowd) add(g cow.Gen, a event.Address) {
	if len(c.chunks) == 0 {
		*c = crowd{g, []*chunk{{g, []event.Address{a}}}}
		return
	}
	i := max(c.chunkOf(a), 0)
	k := c.own(g, i)
	at, _ := slices.BinarySearchFunc(k.seats, a, compareAddress)
	k.seats = slices.Insert(k.seats, at, a)
	if len(k.seats) <= chunkMost {
		return
	}
	keep := chunkMost / 2
	if at == chunkMost { // seats mostly come in order: full chunks stay full
		keep = chunkMost
	}
	c.chunks = slices.Insert(c.chunks, i+1, &chunk{g, slices.Clone(k.seats[keep:])})
	k.seats = k.seats[:keep]
}

// remove takes out a seat, if it is there, and reports whether none is left.
func (c *crowd) remove(g cow.Gen, a event.Address) (empty bool) {
	i := c.chunkOf(a)
	if i < 0 {
		return false
	}
	at, found := slices.BinarySearchFunc(c.chunks[i].seats, a, compareAddress)
	if !found {
		return false
	}
	k := c.own(g, i)
	if k.seats = slices.Delete(k.seats, at, at+1); len(k.seats) == 0 {
		c.chunks = slices.Delete(c.chunks, i, i+1)
	}
	return len(c.chunks) == 0
}

// last returns the last seat. There must be one.
func (c *crowd) last() event.Address {
	seats := c.chunks[len(c.chunks)-1].seats
	return seats[len(seats)-1]
}

// chunkOf returns the chunk that a is in, or belongs into; -1 if it is before all.
func (c *crowd) chunkOf(a event.Address) int {
	i, found := slices.BinarySearchFunc(c.chunks, a, func(k *chunk, a event.Address) int { return compareAddress(k.seats[0], a) })
	if found {
		return i
	}
	return i - 1
}

// own returns chunk i to change.
func (c *crowd) own(g cow.Gen, i int) *chunk {
	if c.gen != g {
		c.gen, c.chunks = g, slices.Clone(c.chunks)
	}
	if k := c.chunks[i]; k.gen != g {
		c.chunks[i] = &chunk{g, slices.Clone(k.seats)}
	}
	return c.chunks[i]
}

func compareAddress(a, b event.Address) int {
	return cmp.Or(cmp.Compare(a.Gateway, b.Gateway), cmp.Compare(a.Seat, b.Seat))
}
