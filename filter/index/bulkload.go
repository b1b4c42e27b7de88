package index

import (
	"cmp"
	"math"
	"math/bits"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"eventstream/event"
	"eventstream/internal/cow"
)

// When many entries come within one generation, as when filters are loaded, those
// after the first few wait until they are looked for: sorted together they are put
// in place ten times faster than one by one, and in full leaves.

// waiting is the entries that are to be inserted into a tree: small and without
// pointers, as they are moved about. Few have code, which is kept apart.
type waiting struct {
	full    [][]waitingEntry // waitingLen each
	entries []waitingEntry
	codes   [][]byte // the first is of those that have none
}

const waitingLen = 1024

// waitingTree is where a tree is for which entries wait.
type waitingTree struct {
	node *node
	attr event.Attr
	kind event.Kind
}

type waitingEntry struct {
	from, to uint64
	word     word
	code     uint32 // its place among the codes
}

func (w *waiting) add(e treeEntry) {
	code := 0
	if len(e.code) > 0 {
		code = len(w.codes)
		w.codes = append(w.codes, e.code)
	}
	if len(w.entries) == waitingLen { // to append is to copy all of them, again and again
		w.full, w.entries = append(w.full, w.entries), make([]waitingEntry, 0, waitingLen)
	}
	w.entries = append(w.entries, waitingEntry{e.from, e.to, e.word, uint32(code)})
}

func (w *waiting) len() int { return len(w.full)*waitingLen + len(w.entries) }

// sorted returns all entries in order. They are first put into about as many
// buckets as there are of them, by where they lie between the lowest and the highest
// (Knuth, The Art of Computer Programming 3, 5.2.1, multiple list insertion).
func (w *waiting) sorted() []waitingEntry {
	parts := append(w.full, w.entries)
	low, high := uint64(math.MaxUint64), uint64(0)
	for _, part := range parts {
		for i := range part {
			low, high = min(low, part[i].from), max(high, part[i].from)
		}
	}
	shift := max(0, bits.Len64(high-low)-bits.Len(uint(w.len())))
	ends := make([]uint32, (high-low)>>shift+2)
	for _, part := range parts {
		for i := range part {
			ends[(part[i].from-low)>>shift+1]++
		}
	}
	for i := 1; i < len(ends); i++ {
		ends[i] += ends[i-1]
	}
	all := make([]waitingEntry, w.len())
	for _, part := range parts {
		for i := range part {
			end := &ends[(part[i].from-low)>>shift]
			all[*end] = part[i]
			*end++
		}
	}
	start := uint32(0)
	for _, end := range ends {
		if end > start+1 {
			slices.SortFunc(all[start:end], func(a, b waitingEntry) int {
				if a.from != b.from {
					return cmp.Compare(a.from, b.from)
				}
				return cmp.Compare(a.word, b.word)
			})
		}
		start = end
	}
	return all
}

// entry returns an entry for the tree.
func (w *waiting) entry(e waitingEntry) treeEntry {
	return treeEntry{e.from, e.to, e.word, w.codes[e.code]}
}

// later notes that e is to be inserted, and reports whether it is the first.
func (t *tree) later(e treeEntry) (first bool) {
	if first = t.waiting == nil; first {
		t.waiting = &waiting{codes: make([][]byte, 1)}
	}
	e.code = slices.Clone(e.code)
	t.waiting.add(e)
	return first
}

// flushAll inserts what waits: into each tree by itself, so on all cores if it is much.
func (x *Index) flushAll() {
	if len(x.waiting) == 0 {
		return
	}
	var much errgroup.Group
	much.SetLimit(runtime.GOMAXPROCS(0))
	for _, at := range x.waiting {
		ways := at.node.waysOf(&x.writer, at.attr)
		i, found := ways.tree(at.attr, at.kind)
		if !found { // all that waited was taken out again
			continue
		}
		t := &ways.trees[i]
		w := t.waiting
		t.waiting = nil
		switch {
		case w == nil: // the tree may be at work: it can be there twice
		case w.len() < x.sizes.LoadInserts:
			t.insertAll(&x.writer, w)
		default:
			much.Go(func() error {
				t.insertAll(&x.writer, w)
				return nil
			})
		}
	}
	_ = much.Wait()  // none of them fails
	clear(x.waiting) // or it would keep what is replaced later
	x.waiting = x.waiting[:0]
}

// insertAll inserts what waits. Many, in relation to those there, make a new tree.
func (t *tree) insertAll(by *writer, w *waiting) {
	if w.len() <= max(1, t.n/8) {
		for _, e := range w.sorted() {
			t.insert(by, w.entry(e))
		}
		return
	}
	if t.root != nil {
		t.root.each(w.add)
	}
	entries := w.sorted()
	t.root, t.n = w.tree(by, entries), len(entries)
}

// each passes on the entries of n.
func (n *treeNode) each(pass func(treeEntry)) {
	for _, kid := range n.kids {
		kid.each(pass)
	}
	if n.kids != nil {
		return
	}
	for i := range n.from {
		pass(n.entry(i))
	}
}

// entry returns the i-th entry of a leaf.
func (n *treeNode) entry(i int) treeEntry {
	e := treeEntry{n.from[i], math.MaxUint64, n.words[i], n.codeOf(i)}
	if n.to != nil {
		e.to = n.to[i]
	}
	return e
}

// tree returns the root of a tree with these entries of w, which are in order. Its
// nodes have some room.
func (w *waiting) tree(by *writer, entries []waitingEntry) *treeNode {
	var level []*treeNode
	for part := range slices.Chunk(entries, by.sizes.LeafEntries*3/4) {
		level = append(level, w.leaf(by.gen, part))
	}
	for len(level) > 1 {
		var above []*treeNode
		for part := range slices.Chunk(level, by.sizes.BranchKids*3/4) {
			n := newBranch(by.gen, len(part))
			n.from, n.words = make([]uint64, 0, len(part)), make([]word, 0, len(part))
			for _, kid := range part {
				n.insertKid(len(n.kids), kid)
			}
			above = append(above, n)
		}
		level = above
	}
	return level[0]
}

func (w *waiting) leaf(g cow.Gen, entries []waitingEntry) *treeNode {
	n := newLeaf(g, len(entries))
	for i, e := range entries {
		n.insertEntry(i, w.entry(e))
	}
	if n.rest != nil {
		n.rest.code, n.rest.ends = slices.Clip(n.rest.code), slices.Clip(n.rest.ends)
	}
	return n
}
