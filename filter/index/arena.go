package index

import (
	"bytes"
	"unsafe"
)

// arena holds the Conditions of an Index, each with its text behind it, in chunks without
// pointers, so that a garbage collection has nothing to follow among a million of them. A
// Condition takes some units of a chunk. Units that are given back are used again for
// Conditions of the same size. A long Condition has a chunk of its own.
type arena struct {
	chunks    [][]Condition        // one Condition is a unit
	open, end uint32               // units from open to end were never used
	free      [sharedMost][]uint32 // places, by their units less one
	spare     []uint32             // places of chunks that are gone
	byHash    map[uint32]uint32    // places; 0 is none
	n         int
}

const (
	unitBytes  = uint32(unsafe.Sizeof(Condition{}))
	chunkUnits = 4096
	sharedMost = 64 // units of a Condition that shares its chunk
)

func newArena() arena {
	return arena{byHash: make(map[uint32]uint32), chunks: make([][]Condition, 1)} // nothing has place 0
}

func (h *arena) at(place uint32) *Condition {
	return &h.chunks[place/chunkUnits][place%chunkUnits]
}

// text returns the text of c, which must not be changed.
func (c *Condition) text() []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(c), unitBytes)), c.size)
}

// parts returns the plans of c, and its alternatives, which follow them.
func (c *Condition) parts() (plans, alternatives []byte) {
	text := c.text()
	size, n := shortUvarint(text)
	return text[n : n+int(size)], text[n+int(size):]
}

func unitsOf(size uint32) uint32 { return 1 + (size+unitBytes-1)/unitBytes }

// find returns the Condition with these alternatives, whose hash is key; nil if
// there is none.
func (h *arena) find(key uint32, alternatives []byte) *Condition {
	for place := h.byHash[key]; place != 0; place = h.at(place).next {
		if _, held := h.at(place).parts(); bytes.Equal(held, alternatives) {
			return h.at(place)
		}
	}
	return nil
}

// add returns a new Condition with the text head, then alternatives. key is the hash of
// the alternatives.
func (h *arena) add(key uint32, head, alternatives []byte) *Condition {
	size := uint32(len(head) + len(alternatives))
	place := h.allocate(unitsOf(size))
	c := h.at(place)
	*c = Condition{size: size, recipient: nobody, users: 1, next: h.byHash[key]}
	text := c.text()
	copy(text[copy(text, head):], alternatives)
	h.byHash[key] = place
	h.n++
	return c
}

// remove takes out c, which must be in the arena.
func (h *arena) remove(c *Condition) {
	_, alternatives := c.parts()
	h.giveBack(h.unlink(hash(alternatives), c), unitsOf(c.size))
	h.n--
}

// unlink removes c from the list of its hash, and returns its place.
func (h *arena) unlink(key uint32, c *Condition) (place uint32) {
	place = h.byHash[key]
	if h.at(place) == c {
		if h.byHash[key] = c.next; c.next == 0 {
			delete(h.byHash, key)
		}
		return place
	}
	for {
		before := h.at(place)
		place = before.next
		if h.at(place) == c {
			before.next = c.next
			return place
		}
	}
}

// allocate returns the place of units that are not in use.
func (h *arena) allocate(units uint32) (place uint32) {
	if units > sharedMost {
		return h.chunk(units)
	}
	if place, ok := pop(&h.free[units-1]); ok {
		return place
	}
	if left := h.end - h.open; left < units {
		if left > 0 {
			h.free[left-1] = append(h.free[left-1], h.open)
		}
		h.open = h.chunk(chunkUnits)
		h.end = h.open + chunkUnits
	}
	h.open += units
	return h.open - units
}

// giveBack gives back the units at a place.
func (h *arena) giveBack(place, units uint32) {
	if units <= sharedMost {
		h.free[units-1] = append(h.free[units-1], place)
		return
	}
	h.chunks[place/chunkUnits] = nil
	h.spare = append(h.spare, place)
}

// chunk makes a chunk of so many units, and returns where it begins.
func (h *arena) chunk(units uint32) (place uint32) {
	place, ok := pop(&h.spare)
	if !ok {
		place = uint32(len(h.chunks)) * chunkUnits
		h.chunks = append(h.chunks, nil)
	}
	h.chunks[place/chunkUnits] = make([]Condition, units)
	return place
}

// pop takes the last item off a list, if there is one.
func pop[T any](list *[]T) (last T, ok bool) {
	n := len(*list)
	if n == 0 {
		return last, false
	}
	last = (*list)[n-1]
	*list = (*list)[:n-1]
	return last, true
}
