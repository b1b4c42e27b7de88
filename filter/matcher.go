package filter

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
	"sort"

	"eventstream/event"
)

// Matcher runs matches and owns the memory of their results. One Matcher serves
// one goroutine. The zero value works.
type Matcher struct {
	Candidates uint64 // entries looked at, since it was set to 0
	Matches    uint64 // Slots found, since it was set to 0

	snap    *Snapshot
	ev      *event.Event
	seen    []uint64 // a bit for each Slot found
	touched []uint32 // places in seen that are not 0, unless there are too many
	many    bool     // touched doesn't have all

	keys    []uint64           // scratch: the values of one attribute
	visited map[*node]struct{} // by several values of one attribute
}

// touchedMost is how many places of seen are noted; with more, all of seen is
// looked through.
const touchedMost = 256

// Match finds the Slots with a condition that matches ev, which must have been
// decoded with s.Paths(). They are read by All, before the next Match.
func (m *Matcher) Match(s *Snapshot, ev *event.Event) {
	for range m.All() { // what nobody has read
	}
	m.snap, m.ev = s, ev
	if len(m.visited) > 0 {
		clear(m.visited)
	}
	if need := int(s.top)/64 + 1; len(m.seen) < need {
		m.seen = append(m.seen, make([]uint64, need-len(m.seen))...)
	}
	m.visit(s.root)
}

// All yields what Match found, 64 Slots at a time: bit i of the mask stands for
// Slot base+i. No base comes twice. It can be read once.
func (m *Matcher) All() iter.Seq2[Slot, uint64] {
	return func(yield func(base Slot, mask uint64) bool) {
		going := true
		take := func(i int) {
			mask := m.seen[i]
			m.seen[i] = 0
			m.Matches += uint64(bits.OnesCount64(mask))
			going = going && yield(Slot(i*64), mask)
		}
		if m.many {
			for i, mask := range m.seen {
				if mask != 0 {
					take(i)
				}
			}
		} else {
			for _, i := range m.touched {
				take(int(i))
			}
		}
		m.touched, m.many = m.touched[:0], false
	}
}

// take notes the recipients w.
func (m *Matcher) take(w word) {
	if w&shared != 0 {
		m.takePosting(m.snap.postings.At(uint32(w &^ shared)))
		return
	}
	m.or(uint32(w/64), 1<<(w%64))
}

// or notes the Slots of mask at a place of seen.
func (m *Matcher) or(at uint32, mask uint64) {
	if m.seen[at] == 0 && !m.many {
		if len(m.touched) == touchedMost {
			m.many = true
		}
		m.touched = append(m.touched, at)
	}
	m.seen[at] |= mask
}

func (m *Matcher) takeAll(words []word) {
	if len(words) > touchedMost {
		m.many = true
	}
	for _, w := range words {
		if w&shared != 0 || !m.many {
			m.take(w)
			continue
		}
		m.seen[w/64] |= 1 << (w % 64)
	}
}

func (m *Matcher) takePosting(p *posting) {
	for _, s := range p.list {
		m.or(uint32(s/64), 1<<(s%64))
	}
	for _, c := range p.chunks {
		for _, at := range c.list {
			m.or(uint32(c.base)/64+uint32(at)/64, 1<<(at%64))
		}
		if c.bits == nil {
			continue
		}
		m.many = true
		for i, mask := range c.bits {
			m.seen[int(c.base)/64+i] |= mask
		}
	}
}

func (m *Matcher) visit(n *node) {
	m.Candidates += uint64(n.n)
	for few := n.few; len(few) > 0; {
		var e entry
		if e, few = nextEntry(few); run(e.code, m.ev) {
			m.take(e.word)
		}
	}
	for _, t := range n.trees {
		m.search(t)
	}
	if attrs := m.ev.Attrs(); len(n.dirs) > 2*len(attrs)+8 {
		for _, a := range attrs {
			i := sort.Search(len(n.dirs), func(i int) bool { return n.dirs[i].attr >= a })
			for ; i < len(n.dirs) && n.dirs[i].attr == a; i++ {
				m.follow(n.dirs[i])
			}
		}
		return
	}
	for _, d := range n.dirs {
		m.follow(d)
	}
}

// follow visits where the event's values of d's attribute lead.
func (m *Matcher) follow(d *dir) {
	v := m.ev.First(d.attr)
	if v == nil {
		return
	}
	if d.op == opExists {
		m.visit(d.keys.get(m.hash(nil), nil))
		return
	}
	several := m.ev.Next(v) != nil
	for ; v != nil; v = m.ev.Next(v) {
		switch {
		case d.op == opIn && v.Kind == d.kind:
			var buf [8]byte
			key := valueBytes(v, &buf)
			if v.Hash == 0 {
				v.Hash = 1<<32 | uint64(m.hash(key))
			}
			m.enter(d.keys.get(uint32(v.Hash), key), several)
		case d.op == opPrefix && v.Kind == event.String:
			for _, l := range d.lens {
				if l.bytes > len(v.Text) {
					break
				}
				key := v.Text[:l.bytes]
				m.enter(d.keys.get(m.hash(key), key), several)
			}
		}
	}
}

// enter visits n if there is one, and only once for several values that lead there.
func (m *Matcher) enter(n *node, several bool) {
	if n == nil {
		return
	}
	if several {
		if _, been := m.visited[n]; been {
			return
		}
		if m.visited == nil {
			m.visited = make(map[*node]struct{})
		}
		m.visited[n] = struct{}{}
	}
	m.visit(n)
}

func (m *Matcher) hash(key []byte) uint32 { return uint32(maphash.Bytes(m.snap.seed, key)) }

// search takes the entries of t whose interval one of the event's values lies in.
func (m *Matcher) search(t *tree) {
	if t.kind == event.Other {
		m.stab(t.root, 0)
		return
	}
	m.keys = m.keys[:0]
	for v := m.ev.First(t.attr); v != nil; v = m.ev.Next(v) {
		if k, ok := key(v, t.kind); ok {
			m.keys = append(m.keys, k)
		}
	}
	switch len(m.keys) {
	case 0:
	case 1:
		m.stab(t.root, m.keys[0])
	default:
		slices.Sort(m.keys)
		m.stabAny(t.root, slices.Compact(m.keys))
	}
}

// stab takes the entries below n whose interval has v in it.
func (m *Matcher) stab(n *treeNode, v uint64) {
	end := sort.Search(len(n.from), func(i int) bool { return n.from[i] > v })
	if n.kids != nil {
		for i, kid := range n.kids[:end] {
			if n.to == nil || n.to[i] >= v {
				m.stab(kid, v)
			}
		}
		return
	}
	m.Candidates += uint64(end)
	if n.to == nil && n.ends == nil {
		m.takeAll(n.words[:end])
		return
	}
	for i, w := range n.words[:end] {
		if (n.to == nil || n.to[i] >= v) && run(n.codeOf(i), m.ev) {
			m.take(w)
		}
	}
}

// stabAny does the same for several values, which ascend.
func (m *Matcher) stabAny(n *treeNode, values []uint64) {
	last := values[len(values)-1]
	for i, from := range n.from {
		if from > last {
			return
		}
		// A value lies in the interval if the first one that isn't before it does.
		at, _ := slices.BinarySearch(values, from)
		if n.to != nil && n.to[i] < values[at] {
			continue
		}
		if n.kids != nil {
			m.stabAny(n.kids[i], values)
			continue
		}
		m.Candidates++
		if run(n.codeOf(i), m.ev) {
			m.take(n.words[i])
		}
	}
}
