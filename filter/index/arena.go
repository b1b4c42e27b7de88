package index

import (
	"bytes"
	"unsafe"
)

// conditions holds the Conditions of an Index, each with its text behind it, in
// chunks without pointers: among a million of them a garbage collection has nothing
// to follow. A Condition takes some units of a chunk, and what it gives back is room
// for others that take as many; a long one has a chunk of its own.
type conditions struct {
	chunks    [][]Condition        // one Condition is a unit
	open, end uint32               // units that were never used
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

func newConditions() conditions {
	return conditions{byHash: make(map[uint32]uint32), chunks: make([][]Condition, 1)} // nothing has place 0
}

func (h *conditions) at(place uint32) *Condition {
	return &h.chunks[place/chunkUnits][place%chunkUnits]
}

// text returns the text of c. It is not to be changed.
func (c *Condition) text() []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(c), unitBytes)), c.size)
}

// parts returns the plans of c and what comes after them.
func (c *Condition) parts() (plans, alternatives []byte) {
	text := c.text()
	size, n := shortUvarint(text)
	return text[n : n+int(size)], text[n+int(size):]
}

func unitsOf(size uint32) uint32 { return 1 + (size+unitBytes-1)/unitBytes }

// find returns the Condition with these alternatives, whose hash is key; nil if
// there is none.
func (h *conditions) find(key uint32, alternatives []byte) *Condition {
	for place := h.byHash[key]; place != 0; place = h.at(place).next {
		if _, held := h.at(place).parts(); bytes.Equal(held, alternatives) {
			return h.at(place)
		}
	}
	return nil
}

// add returns a new Condition, whose text is head and then alternatives, whose
// hash is key.
func (h *conditions) add(key uint32, head, alternatives []byte) *Condition {
	size := uint32(len(head) + len(alternatives))
	place := h.room(unitsOf(size))
	c := h.at(place)
	*c = Condition{size: size, word: nobody, users: 1, next: h.byHash[key]}
	text := c.text()
	copy(text[copy(text, head):], alternatives)
	h.byHash[key] = place
	h.n++
	return c
}

// remove takes c out, which is there.
func (h *conditions) remove(c *Condition) {
	_, alternatives := c.parts()
	h.drop(h.unlink(hash(alternatives), c), unitsOf(c.size))
	h.n--
}

// unlink takes c out of those with a hash, and returns its place.
func (h *conditions) unlink(key uint32, c *Condition) (place uint32) {
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

// room returns the place of so many units that nobody has.
func (h *conditions) room(units uint32) (place uint32) {
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

// drop gives back the units at a place.
func (h *conditions) drop(place, units uint32) {
	if units <= sharedMost {
		h.free[units-1] = append(h.free[units-1], place)
		return
	}
	h.chunks[place/chunkUnits] = nil
	h.spare = append(h.spare, place)
}

// chunk makes a chunk of so many units, and returns where it begins.
func (h *conditions) chunk(units uint32) (place uint32) {
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
