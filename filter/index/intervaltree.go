package index

import (
	"bytes"
	"math"
	"slices"

	"eventstream/event"
	"eventstream/internal/cow"
)

// tree is an interval tree (Cormen et al., Introduction to Algorithms, 14.3) as a B+tree:
// entries are ordered by the beginning of their interval, and a branch knows how far the
// intervals below each kid reach. The intervals around a value are found without looking
// at most of the others.
//
// A tree of kind Other has the entries without an interval, which match any value. A tree
// is of its node's generation.
type tree struct {
	attr event.Attr
	kind event.Kind // of the values: Number, or String for timestamps
	root *treeNode
	n    int // entries below root

	pending *pending // to be inserted, see bulkload.go; mostly nil
}

// treeNode is a leaf, or a branch if it has kids. For each entry or kid it has
// the lowest (from, recipient), in this order, and the highest end.
type treeNode struct {
	gen        cow.Gen
	from       []uint64
	recipients []recipient
	to         []uint64 // nil: all are math.MaxUint64

	kids []*treeNode
	rest *rest // of a leaf: the code of its entries; nil if none has any
}

// rest is the code of several entries: the predicates that are still to be tested.
type rest struct {
	code []byte
	ends []uint32 // of each entry's
}

// treeEntry is what a tree holds.
type treeEntry struct {
	from, to  uint64
	recipient recipient
	code      []byte
}

func (t *tree) insert(by *writer, e treeEntry) {
	t.n++
	if t.root == nil {
		t.root = newLeaf(by.gen, 1)
	}
	t.root = t.root.own(by.gen)
	if right := t.root.insert(by, e); right != nil {
		left := t.root
		t.root = newBranch(by.gen, 2)
		t.root.insertKid(0, left)
		t.root.insertKid(1, right)
	}
}

// remove removes one entry equal to e, which must be there.
func (t *tree) remove(by *writer, e treeEntry) {
	t.n--
	t.root = t.root.own(by.gen)
	t.root.remove(by, e)
	for len(t.root.kids) == 1 {
		t.root = t.root.kids[0]
	}
}

func (t *tree) empty() bool { return t.n == 0 && t.pending == nil }

// own returns n if it is of generation g, else a copy that is. Copies of a branch share the
// lists of what it knows of its kids, as these change less often than kids do. A list that
// changes is replaced.
func (n *treeNode) own(g cow.Gen) *treeNode {
	if n.gen == g {
		return n
	}
	var c *treeNode
	if n.kids != nil {
		c = newBranch(g, len(n.kids)+1)
		c.from, c.recipients, c.to = slices.Clip(n.from), slices.Clip(n.recipients), slices.Clip(n.to)
		c.kids = append(c.kids, n.kids...)
		return c
	}
	c = newLeaf(g, len(n.from)+1)
	c.from, c.recipients, c.to = append(c.from, n.from...), append(c.recipients, n.recipients...), cloneWithRoom(n.to)
	if n.rest != nil {
		c.rest = &rest{cloneWithRoom(n.rest.code), cloneWithRoom(n.rest.ends)}
	}
	return c
}

// cloneWithRoom clones s with room for one more, as most copies are made to add one.
func cloneWithRoom[T any](s []T) []T {
	if s == nil {
		return nil
	}
	return append(make([]T, 0, len(s)+1), s...)
}

// before returns how many entries or kids of n come before (from, w), those equal to it
// included if inclusive.
func (n *treeNode) before(from uint64, w recipient, inclusive bool) int {
	low, high := 0, len(n.from)
	for low < high {
		mid := int(uint(low+high) / 2)
		if f := n.from[mid]; f < from || f == from && (n.recipients[mid] < w || inclusive && n.recipients[mid] == w) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// end returns how far the intervals in n reach.
func (n *treeNode) end() uint64 {
	if n.to == nil {
		return math.MaxUint64
	}
	return slices.Max(n.to)
}

// insert adds e below n. If n becomes too full, it is split, and the right half returned.
func (n *treeNode) insert(by *writer, e treeEntry) (right *treeNode) {
	at := n.before(e.from, e.recipient, true)
	if n.kids == nil {
		n.insertEntry(at, e)
		return n.splitIf(len(n.from) > by.sizes.LeafEntries, by.gen)
	}
	at = max(0, at-1)
	kid := n.kids[at].own(by.gen)
	n.kids[at] = kid
	more := kid.insert(by, e)
	n.refresh(at)
	if more != nil {
		n.insertKid(at+1, more)
	}
	return n.splitIf(len(n.kids) > by.sizes.BranchKids, by.gen)
}

// refresh updates what n knows of its i-th kid.
func (n *treeNode) refresh(i int) {
	kid := n.kids[i]
	n.from, n.recipients = replaced(n.from, i, kid.from[0]), replaced(n.recipients, i, kid.recipients[0])
	n.setTo(i, kid.end())
}

// replaced returns s with v at i: s itself if v is there, else a copy.
func replaced[T comparable](s []T, i int, v T) []T {
	if s[i] != v {
		s = slices.Clone(s)
		s[i] = v
	}
	return s
}

func (n *treeNode) setTo(i int, to uint64) {
	if n.to == nil {
		if to == math.MaxUint64 {
			return
		}
		n.to = slices.Repeat([]uint64{math.MaxUint64}, len(n.from))
	}
	n.to = replaced(n.to, i, to)
}

func (n *treeNode) insertHead(at int, from uint64, w recipient, to uint64) {
	n.from = slices.Insert(n.from, at, from)
	n.recipients = slices.Insert(n.recipients, at, w)
	if n.to != nil {
		n.to = slices.Insert(n.to, at, to)
	}
	n.setTo(at, to)
}

func (n *treeNode) insertKid(at int, kid *treeNode) {
	n.kids = slices.Insert(n.kids, at, kid)
	n.insertHead(at, kid.from[0], kid.recipients[0], kid.end())
}

func (n *treeNode) insertEntry(at int, e treeEntry) {
	n.insertHead(at, e.from, e.recipient, e.to)
	if n.rest == nil {
		if len(e.code) == 0 {
			return
		}
		n.rest = &rest{ends: make([]uint32, len(n.from)-1, len(n.from))}
	}
	n.rest.insert(at, e.code)
}

// codeOf returns the code of the i-th entry.
func (n *treeNode) codeOf(i int) []byte {
	if n.rest == nil {
		return nil
	}
	return n.rest.code[n.rest.start(i):n.rest.ends[i]]
}

// start returns where the code of the i-th entry begins.
func (r *rest) start(i int) uint32 {
	if i == 0 {
		return 0
	}
	return r.ends[i-1]
}

func (r *rest) insert(at int, code []byte) {
	start := r.start(at)
	r.code = slices.Insert(r.code, int(start), code...)
	r.ends = slices.Insert(r.ends, at, start)
	for i := at; i < len(r.ends); i++ {
		r.ends[i] += uint32(len(code))
	}
}

func (r *rest) remove(at int) {
	start, end := r.start(at), r.ends[at]
	r.code = slices.Delete(r.code, int(start), int(end))
	r.ends = slices.Delete(r.ends, at, at+1)
	for i := at; i < len(r.ends); i++ {
		r.ends[i] -= end - start
	}
}

// slice returns a copy of the code from i to j, nil if there is none.
func (r *rest) slice(i, j int) *rest {
	first, end := r.start(i), r.ends[j-1]
	if first == end {
		return nil
	}
	s := &rest{slices.Clone(r.code[first:end]), slices.Clone(r.ends[i:j])}
	for i := range s.ends {
		s.ends[i] -= first
	}
	return s
}

// splitIf moves the right half of n to a new node.
func (n *treeNode) splitIf(full bool, g cow.Gen) *treeNode {
	if !full {
		return nil
	}
	half := len(n.from) / 2
	right := n.slice(g, half, len(n.from))
	n.cut(half)
	return right
}

// cut keeps the first i entries or kids of n.
func (n *treeNode) cut(i int) {
	n.from, n.recipients = n.from[:i], n.recipients[:i]
	if n.to != nil {
		n.to = n.to[:i]
	}
	if n.rest != nil {
		n.rest = n.rest.slice(0, i)
	}
	if n.kids != nil {
		clear(n.kids[i:])
		n.kids = n.kids[:i]
		n.from, n.recipients, n.to = slices.Clip(n.from), slices.Clip(n.recipients), slices.Clip(n.to) // may be shared
	}
}

// slice returns a node with the entries or kids from i to j.
func (n *treeNode) slice(g cow.Gen, i, j int) *treeNode {
	var s *treeNode
	if n.kids != nil {
		s = newBranch(g, j-i)
		s.kids = append(s.kids, n.kids[i:j]...)
	} else {
		s = newLeaf(g, j-i)
	}
	s.from, s.recipients = append(s.from, n.from[i:j]...), append(s.recipients, n.recipients[i:j]...)
	if n.to != nil && slices.Min(n.to[i:j]) < math.MaxUint64 {
		s.to = slices.Clone(n.to[i:j])
	}
	if n.rest != nil {
		s.rest = n.rest.slice(i, j)
	}
	return s
}

// errMisfiled is what we panic with when the index is out of order: a bug of ours.
const errMisfiled = "index: an entry is not where it was filed"

// find returns the index of e in a leaf, or of the kid that has it, and whether there is
// one. If e is known to be there, and one kid only can have it, that kid is not searched.
func (n *treeNode) find(e treeEntry, there bool) (at int, found bool) {
	at = n.before(e.from, e.recipient, false)
	end := at
	for end < len(n.from) && n.from[end] == e.from && n.recipients[end] == e.recipient {
		end++
	}
	if n.kids == nil {
		for ; at < end; at++ {
			if n.is(at, e) {
				return at, true
			}
		}
		return 0, false
	}
	at = max(0, at-1) // e may be at the end of the kid before
	if there && end-at == 1 {
		return at, true
	}
	for ; at < end; at++ {
		if _, found := n.kids[at].find(e, false); found {
			return at, true
		}
	}
	return 0, false
}

// is reports whether the i-th entry of a leaf is e.
func (n *treeNode) is(i int, e treeEntry) bool {
	o := n.entry(i)
	return o.from == e.from && o.recipient == e.recipient && o.to == e.to && bytes.Equal(o.code, e.code)
}

// remove removes e, which must be there.
func (n *treeNode) remove(by *writer, e treeEntry) {
	at, found := n.find(e, true)
	if !found {
		panic(errMisfiled)
	}
	if n.kids == nil {
		n.removeHead(at)
		if n.rest != nil {
			n.rest.remove(at)
		}
		return
	}
	kid := n.kids[at].own(by.gen)
	n.kids[at] = kid
	kid.remove(by, e)
	if len(kid.from) == 0 {
		n.removeKid(at)
		return
	}
	n.refresh(at)
	n.join(by, at)
}

func (n *treeNode) removeHead(at int) {
	n.from = slices.Delete(n.from, at, at+1)
	n.recipients = slices.Delete(n.recipients, at, at+1)
	if n.to != nil {
		n.to = slices.Delete(n.to, at, at+1)
	}
}

func (n *treeNode) removeKid(at int) {
	n.kids = slices.Delete(n.kids, at, at+1)
	n.from, n.recipients, n.to = slices.Clone(n.from), slices.Clone(n.recipients), slices.Clone(n.to)
	n.removeHead(at)
}

// join merges the i-th kid with a neighbour if both have become small.
func (n *treeNode) join(by *writer, i int) {
	most := by.sizes.LeafEntries
	if n.kids[i].kids != nil {
		most = by.sizes.BranchKids
	}
	if len(n.kids[i].from) > most/4 || len(n.kids) == 1 {
		return
	}
	i = min(i, len(n.kids)-2)
	left, right := n.kids[i], n.kids[i+1]
	if len(left.from)+len(right.from) > most*3/4 {
		return
	}
	left = left.own(by.gen)
	n.kids[i] = left
	for at := range right.from {
		if right.kids != nil {
			left.insertKid(len(left.kids), right.kids[at])
			continue
		}
		left.insertEntry(len(left.from), right.entry(at))
	}
	n.removeKid(i + 1)
	n.refresh(i)
}
