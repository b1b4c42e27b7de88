package filter

import "bytes"

// conditions holds the Conditions of an Index. There are no pointers in their
// memory: among a million of them a garbage collection has nothing to follow.
type conditions struct {
	slabs  []*[slabLen]Condition
	used   uint32 // numbers given out, free ones too; 0 is no number
	free   uint32 // the first free one
	byHash map[uint32]uint32
	n      int
	texts  texts
}

const slabLen = 1024

func newConditions() conditions { return conditions{byHash: make(map[uint32]uint32)} }

func (h *conditions) at(number uint32) *Condition { return &h.slabs[number/slabLen][number%slabLen] }

// parts returns the plans of c and what comes after them. They are not to be changed.
func (h *conditions) parts(c *Condition) (plans, alternatives []byte) {
	text := h.texts.at(c.text, c.size)
	size, n := shortUvarint(text)
	return text[n : n+int(size)], text[n+int(size):]
}

// find returns the Condition with these alternatives, nil if there is none.
func (h *conditions) find(alternatives []byte) *Condition {
	for i := h.byHash[hash(alternatives)]; i != 0; i = h.at(i).next {
		if _, held := h.parts(h.at(i)); bytes.Equal(held, alternatives) {
			return h.at(i)
		}
	}
	return nil
}

// add returns a new Condition, whose text is head and then alternatives.
func (h *conditions) add(head, alternatives []byte) *Condition {
	number := h.free
	if number == 0 {
		h.used++
		number = h.used
		if int(number/slabLen) == len(h.slabs) {
			h.slabs = append(h.slabs, new([slabLen]Condition))
		}
	}
	c, key := h.at(number), hash(alternatives)
	h.free = c.next // 0 in one never used
	*c = Condition{
		text: h.texts.put(head, alternatives), size: uint32(len(head) + len(alternatives)),
		word: nobody, users: 1, next: h.byHash[key],
	}
	h.byHash[key] = number
	h.n++
	return c
}

// remove takes c out, which is there.
func (h *conditions) remove(c *Condition) {
	_, alternatives := h.parts(c)
	number := h.unlink(hash(alternatives), c)
	h.texts.drop(c.text, c.size)
	*c = Condition{next: h.free}
	h.free = number
	h.n--
}

// unlink takes c out of those with a hash, and returns its number.
func (h *conditions) unlink(key uint32, c *Condition) (number uint32) {
	number = h.byHash[key]
	if h.at(number) == c {
		if h.byHash[key] = c.next; c.next == 0 {
			delete(h.byHash, key)
		}
		return number
	}
	for {
		before := h.at(number)
		number = before.next
		if h.at(number) == c {
			before.next = c.next
			return number
		}
	}
}
