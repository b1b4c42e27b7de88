package filter

// texts is memory for many short texts, without pointers in it: chunks, of which
// each text takes some units. What is given back is room for other texts of as
// many units. A long text has a chunk of its own.
type texts struct {
	chunks    [][]byte
	open, end uint32               // units that were never used
	free      [sharedMost][]uint32 // places, by their units less one
	spare     []uint32             // places of chunks that are gone
}

const (
	unitBytes  = 16
	chunkUnits = 4096
	sharedMost = 64 // units of a text that shares its chunk
)

func unitsOf(size uint32) uint32 { return (size + unitBytes - 1) / unitBytes }

// at returns the text of so many bytes at a place.
func (t *texts) at(place, size uint32) []byte {
	from := place % chunkUnits * unitBytes
	return t.chunks[place/chunkUnits][from : from+size : from+size]
}

// put keeps a text of two parts, which has a byte at least, and returns its place.
func (t *texts) put(a, b []byte) (place uint32) {
	size := uint32(len(a) + len(b))
	place = t.room(size)
	text := t.at(place, size)
	copy(text[copy(text, a):], b)
	return place
}

func (t *texts) room(size uint32) (place uint32) {
	units := unitsOf(size)
	if units > sharedMost {
		return t.chunk(size)
	}
	if place, ok := pop(&t.free[units-1]); ok {
		return place
	}
	if left := t.end - t.open; left < units {
		if left > 0 {
			t.free[left-1] = append(t.free[left-1], t.open)
		}
		t.open = t.chunk(chunkUnits * unitBytes)
		t.end = t.open + chunkUnits
	}
	t.open += units
	return t.open - units
}

// chunk makes a chunk of so many bytes, and returns where it begins.
func (t *texts) chunk(size uint32) (place uint32) {
	place, ok := pop(&t.spare)
	if !ok {
		place = uint32(len(t.chunks)) * chunkUnits
		t.chunks = append(t.chunks, nil)
	}
	t.chunks[place/chunkUnits] = make([]byte, size)
	return place
}

// drop gives back the room of a text.
func (t *texts) drop(place, size uint32) {
	if units := unitsOf(size); units <= sharedMost {
		t.free[units-1] = append(t.free[units-1], place)
		return
	}
	t.chunks[place/chunkUnits] = nil
	t.spare = append(t.spare, place)
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
