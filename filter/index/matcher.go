package index

import (
	"iter"
	"math"
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
	Digests    uint64 // attributes digested, since it was set to 0

	snap  *Snapshot
	sizes *Options
	ev    *event.Event
	seen  []uint64 // a bit for each Slot found
	some  []uint64 // a bit for each place in seen that is not 0
	tops  []uint64 // a bit for each place in some that is not 0
	found int      // how many were noted, some of them more than once
	many  bool     // too many to keep some and tops, which is dearer than to read all of seen

	digests map[event.Attr]*digest // of what was large enough to be looked for
	effort  int                    // see Effort

	keys    []uint64           // scratch: the values of one attribute
	visited map[*node]struct{} // by several values of one attribute
}

// Match finds the Slots with a condition that matches ev, which must have been
// decoded with s.Paths(). They are read by All, before the next Match.
func (m *Matcher) Match(s *Snapshot, ev *event.Event) {
	for range m.All() { // what nobody has read
	}
	m.snap, m.sizes, m.ev, m.found, m.many = s, s.sizes, ev, 0, false
	clear(m.visited)
	clear(m.digests)
	m.effort = 0
	m.seen = grown(m.seen, int(s.top)/64+1)
	m.some = grown(m.some, len(m.seen)/64+1)
	m.tops = grown(m.tops, len(m.some)/64+1)
	m.visit(s.root)
}

// Effort is about how many bytes of large attributes were looked at for the event
// that was matched last, each as often as it was. Small attributes count as nothing.
func (m *Matcher) Effort() int { return m.effort }

// grown returns list with at least n items.
func grown(list []uint64, n int) []uint64 {
	if len(list) < n {
		list = append(list, make([]uint64, n-len(list))...)
	}
	return list
}

// fill sets the first n bits.
func fill(bits []uint64, n int) {
	for i := range n / 64 {
		bits[i] = math.MaxUint64
	}
	bits[n/64] |= 1<<(n%64) - 1
}

// All yields what Match found, 64 Slots at a time: bit i of the mask stands for
// Slot base+i. Bases ascend. It can be read once.
func (m *Matcher) All() iter.Seq2[Slot, uint64] {
	return func(yield func(base Slot, mask uint64) bool) {
		going := true
		if m.many {
			fill(m.some, len(m.seen))
			fill(m.tops, len(m.some))
			m.many = false // once they are read, there is nothing left
		}
		for t, top := range m.tops {
			for ; top != 0; top &= top - 1 {
				s := t*64 + bits.TrailingZeros64(top)
				for some := m.some[s]; some != 0; some &= some - 1 {
					at := s*64 + bits.TrailingZeros64(some)
					mask := m.seen[at]
					m.seen[at] = 0
					m.Matches += uint64(bits.OnesCount64(mask))
					going = going && (mask == 0 || yield(Slot(at*64), mask))
				}
				m.some[s] = 0
			}
			m.tops[t] = 0
		}
	}
}

// take notes the recipients w.
func (m *Matcher) take(w word) {
	if w&shared == 0 {
		m.note(uint32(w/64), 1<<(w%64))
		return
	}
	p := *m.snap.postings.At(uint32(w &^ shared))
	m.expect(p.n)
	for _, s := range p.list {
		m.note(uint32(s/64), 1<<(s%64))
	}
	for _, c := range p.chunks {
		base := uint32(c.base / 64)
		for _, at := range c.list {
			m.note(base+uint32(at/64), 1<<(at%64))
		}
		if c.bits == nil {
			continue
		}
		for i, mask := range c.bits {
			if mask != 0 {
				m.note(base+uint32(i), mask)
			}
		}
	}
}

// expect is told that n Slots are about to be noted.
func (m *Matcher) expect(n int) {
	m.found += n
	m.many = m.found > m.sizes.DenseMatches+len(m.seen)/4
}

// note notes the Slots of mask at a place of seen.
func (m *Matcher) note(at uint32, mask uint64) {
	if !m.many && m.seen[at] == 0 {
		m.some[at/64] |= 1 << (at % 64)
		m.tops[at/4096] |= 1 << (at / 64 % 64)
	}
	m.seen[at] |= mask
}

func (m *Matcher) takeAll(words []word) {
	m.expect(len(words))
	if !m.many {
		for _, w := range words {
			if w&shared != 0 {
				m.take(w)
			} else {
				m.note(uint32(w/64), 1<<(w%64))
			}
		}
		return
	}
	seen := m.seen // once more, with nothing else to look at
	for _, w := range words {
		if w&shared != 0 {
			m.take(w)
		} else {
			seen[w/64] |= 1 << (w % 64)
		}
	}
}

func (m *Matcher) visit(n *node) {
	m.Candidates += uint64(n.n)
	for few := n.few; len(few) > 0; {
		var e entry
		if e, few = nextEntry(few); m.run(e.code) {
			m.take(e.word)
		}
	}
	for i := range n.trees {
		m.search(&n.trees[i])
	}
	if n.wide != nil {
		m.visitWide(n.wide)
		return
	}
	if attrs := m.ev.Attrs(); len(n.dirs) > 2*len(attrs)+8 {
		for _, a := range attrs {
			i := sort.Search(len(n.dirs), func(i int) bool { return n.dirs[i].attr >= a })
			for ; i < len(n.dirs) && n.dirs[i].attr == a; i++ {
				m.follow(&n.dirs[i])
			}
		}
		return
	}
	for i := range n.dirs {
		m.follow(&n.dirs[i])
	}
}

func (m *Matcher) visitWide(w *wide) {
	for _, a := range m.ev.Attrs() {
		of := w.byAttr.At(uint32(a))
		if of == nil {
			continue
		}
		for i := range of.trees {
			m.search(&of.trees[i])
		}
		for i := range of.dirs {
			m.follow(&of.dirs[i])
		}
	}
}

// follow visits where the event's values of d's attribute lead.
func (m *Matcher) follow(d *dir) {
	v := m.ev.First(d.attr)
	if v == nil {
		return
	}
	if d.op == opExists {
		m.visit(d.keys.get(hash(nil), nil))
		return
	}
	if v.Size() >= m.sizes.DigestBytes {
		if in := m.digest(d.attr, v); in != nil && in.count*max(1, len(d.lens)) > d.keys.n {
			m.followKeys(d, in)
			return
		}
	}
	several := m.ev.Next(v) != nil
	for ; v != nil; v = m.ev.Next(v) {
		switch {
		case d.op == opIn && v.Kind == d.kind:
			var buf [8]byte
			key := valueBytes(v, &buf)
			if v.Hash == 0 {
				v.Hash = 1<<32 | uint64(hash(key))
			}
			m.enter(d.keys.get(uint32(v.Hash), key), several)
		case d.op == opPrefix && v.Kind == event.String:
			for _, l := range d.lens {
				if l.bytes > len(v.Text) {
					break
				}
				key := v.Text[:l.bytes]
				m.enter(d.keys.get(hash(key), key), several)
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

// search takes the entries of t whose interval one of the event's values lies in.
func (m *Matcher) search(t *tree) {
	if t.kind == event.Other {
		m.stab(t.root, 0)
		return
	}
	v := m.ev.First(t.attr)
	if v == nil {
		return
	}
	if v.Size() >= m.sizes.DigestBytes {
		if in := m.digest(t.attr, v); in != nil {
			if keys := in.keys(t.kind); len(keys) > 0 {
				m.stabAny(t.root, keys)
			}
			return
		}
	}
	m.keys = m.keys[:0]
	for ; v != nil; v = m.ev.Next(v) {
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
	if n.kids == nil {
		m.stabLeaf(n, end, v)
		return
	}
	m.stabKids(n, end, v, end-1)
}

// stabKids takes them below the first kids of n. All intervals of a kid before
// the whole-th begin before v, since those of the next one do.
func (m *Matcher) stabKids(n *treeNode, end int, v uint64, whole int) {
	for i, kid := range n.kids[:end] {
		switch {
		case n.to != nil && n.to[i] < v:
		case i >= whole:
			m.stab(kid, v)
		case kid.kids != nil:
			m.stabKids(kid, len(kid.kids), v, len(kid.kids))
		default:
			m.stabLeaf(kid, len(kid.words), v)
		}
	}
}

// stabLeaf takes those of the first entries of a leaf, whose intervals begin
// before v, that don't end before it.
func (m *Matcher) stabLeaf(n *treeNode, end int, v uint64) {
	m.Candidates += uint64(end)
	if n.to == nil && n.rest == nil {
		m.takeAll(n.words[:end])
		return
	}
	for i, w := range n.words[:end] {
		if (n.to == nil || n.to[i] >= v) && m.run(n.codeOf(i)) {
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
		if m.run(n.codeOf(i)) {
			m.take(n.words[i])
		}
	}
}
