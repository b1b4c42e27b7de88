package index

import (
	"iter"
	"math"
	"math/bits"
	"slices"
	"sort"

	"eventstream/event"
)

// Matcher matches events and owns the memory of the results. It serves one goroutine. The
// zero value works.
type Matcher struct {
	Candidates uint64 // entries tested since it was last set to 0
	Matches    uint64 // Slots found since it was last set to 0
	Digests    uint64 // attributes digested since it was last set to 0

	snap  *Snapshot
	sizes *Options
	ev    *event.Event
	seen  []uint64 // a bit for each Slot found
	some  []uint64 // a bit for each word of seen that is not 0
	tops  []uint64 // a bit for each word of some that is not 0
	found int      // Slots noted; one that was noted twice counts twice
	many  bool     // so many were found that reading all of seen costs less than keeping some and tops

	digests map[event.Attr]*digest // of large attributes
	effort  int                    // see Effort

	keys    []uint64           // scratch: the values of one attribute
	visited map[*node]struct{} // nodes that several values of one attribute may lead to
}

// Match finds the Slots with a condition that matches ev, which must have been
// decoded with s.Paths(). All reads them, until the next Match.
func (m *Matcher) Match(s *Snapshot, ev *event.Event) {
	for range m.All() { // clears results that were not read
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

// Effort estimates the work of the last Match: the bytes of large attributes that were read,
// as often as they were. Small attributes are left out.
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
			m.many = false // after this loop all results are cleared
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

// take notes the Slot or the posting w.
func (m *Matcher) take(w recipient) {
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

// expect prepares for n more Slots to be noted.
func (m *Matcher) expect(n int) {
	m.found += n
	m.many = m.found > m.sizes.DenseMatches+len(m.seen)/4
}

// note notes the Slots of mask at an index of seen.
func (m *Matcher) note(at uint32, mask uint64) {
	if !m.many && m.seen[at] == 0 {
		m.some[at/64] |= 1 << (at % 64)
		m.tops[at/4096] |= 1 << (at / 64 % 64)
	}
	m.seen[at] |= mask
}

func (m *Matcher) takeAll(words []recipient) {
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
	seen := m.seen // the same, without the summaries
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
	for rest := n.entries; len(rest) > 0; {
		var e entry
		if e, rest = nextEntry(rest); m.run(e.code) {
			m.take(e.recipient)
		}
	}
	for i := range n.trees {
		m.search(&n.trees[i])
	}
	if n.byAttr != nil {
		m.visitByAttr(n.byAttr)
		return
	}
	if attrs := m.ev.Attrs(); len(n.tables) > 2*len(attrs)+8 {
		for _, a := range attrs {
			i := sort.Search(len(n.tables), func(i int) bool { return n.tables[i].attr >= a })
			for ; i < len(n.tables) && n.tables[i].attr == a; i++ {
				m.follow(&n.tables[i])
			}
		}
		return
	}
	for i := range n.tables {
		m.follow(&n.tables[i])
	}
}

func (m *Matcher) visitByAttr(w *attrIndex) {
	for _, a := range m.ev.Attrs() {
		of := w.children.At(uint32(a))
		if of == nil {
			continue
		}
		for i := range of.trees {
			m.search(&of.trees[i])
		}
		for i := range of.tables {
			m.follow(&of.tables[i])
		}
	}
}

// follow visits the nodes of d that the event's values lead to.
func (m *Matcher) follow(d *table) {
	v := m.ev.First(d.attr)
	if v == nil {
		return
	}
	if d.op == opExists {
		m.visit(d.keys.get(hash(nil), nil))
		return
	}
	if v.Size() >= m.sizes.DigestBytes {
		if in := m.digest(d.attr, v); in != nil && in.count*max(1, len(d.lengths)) > d.keys.n {
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
			for _, l := range d.lengths {
				if l.bytes > len(v.Text) {
					break
				}
				key := v.Text[:l.bytes]
				m.enter(d.keys.get(hash(key), key), several)
			}
		}
	}
}

// enter visits n if it is not nil. If several values may lead to it, it is visited once.
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

// search takes the entries of t whose interval contains a value of the event.
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
		if k, ok := intervalKey(v, t.kind); ok {
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

// stab takes the entries below n whose interval contains v (a stabbing query).
func (m *Matcher) stab(n *treeNode, v uint64) {
	end := sort.Search(len(n.from), func(i int) bool { return n.from[i] > v })
	if n.kids == nil {
		m.stabLeaf(n, end, v)
		return
	}
	m.stabKids(n, end, v, end-1)
}

// stabKids does stab below the first end kids of n. All intervals of a kid before the
// whole-th begin at v or before, since those of the kid after it do.
func (m *Matcher) stabKids(n *treeNode, end int, v uint64, whole int) {
	for i, kid := range n.kids[:end] {
		switch {
		case n.to != nil && n.to[i] < v:
		case i >= whole:
			m.stab(kid, v)
		case kid.kids != nil:
			m.stabKids(kid, len(kid.kids), v, len(kid.kids))
		default:
			m.stabLeaf(kid, len(kid.recipients), v)
		}
	}
}

// stabLeaf does stab for the first end entries of a leaf, whose intervals all begin at v or
// before.
func (m *Matcher) stabLeaf(n *treeNode, end int, v uint64) {
	m.Candidates += uint64(end)
	if n.to == nil && n.rest == nil {
		m.takeAll(n.recipients[:end])
		return
	}
	for i, w := range n.recipients[:end] {
		if (n.to == nil || n.to[i] >= v) && m.run(n.codeOf(i)) {
			m.take(w)
		}
	}
}

// stabAny is stab for several values, which ascend.
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
			m.take(n.recipients[i])
		}
	}
}
