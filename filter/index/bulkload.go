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

// Bulk loading. When many entries are added between two Snapshots, as when filters are
// loaded, only the first go into their tree at once. The others are pending until the next
// Snapshot. Sorted together they are inserted ten times faster than one by one, and fill
// their leaves.

// pending is the entries to be inserted into a tree. They are small and have no pointers,
// because sorting moves them. Few entries have code: it is kept apart.
type pending struct {
	full    [][]pendingEntry // pendingLen each
	entries []pendingEntry
	codes   [][]byte // the first is nil, for entries without code
}

const pendingLen = 1024

// pendingTree names a tree that has pending entries, by its node.
type pendingTree struct {
	node *node
	attr event.Attr
	kind event.Kind
}

type pendingEntry struct {
	from, to  uint64
	recipient recipient
	code      uint32 // index into codes
}

func (w *pending) add(e treeEntry) {
	code := 0
	if len(e.code) > 0 {
		code = len(w.codes)
		w.codes = append(w.codes, e.code)
	}
	if len(w.entries) == pendingLen { // append would copy all of them, again and again
		w.full, w.entries = append(w.full, w.entries), make([]pendingEntry, 0, pendingLen)
	}
	w.entries = append(w.entries, pendingEntry{e.from, e.to, e.recipient, uint32(code)})
}

func (w *pending) len() int { return len(w.full)*pendingLen + len(w.entries) }

// sorted returns all entries in order. It first distributes them to about as many
// buckets as there are entries, by their distance from the lowest
// (Knuth, The Art of Computer Programming 3, 5.2.1, multiple list insertion).
func (w *pending) sorted() []pendingEntry {
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
	all := make([]pendingEntry, w.len())
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
			slices.SortFunc(all[start:end], func(a, b pendingEntry) int {
				if a.from != b.from {
					return cmp.Compare(a.from, b.from)
				}
				return cmp.Compare(a.recipient, b.recipient)
			})
		}
		start = end
	}
	return all
}

// entry returns an entry for the tree.
func (w *pending) entry(e pendingEntry) treeEntry {
	return treeEntry{e.from, e.to, e.recipient, w.codes[e.code]}
}

// postpone notes that e is to be inserted, and reports whether it is the first.
func (t *tree) postpone(e treeEntry) (first bool) {
	if first = t.pending == nil; first {
		t.pending = &pending{codes: make([][]byte, 1)}
	}
	e.code = slices.Clone(e.code)
	t.pending.add(e)
	return first
}

// insertPending inserts all pending entries. Trees with many get a goroutine each, on all cores.
func (x *Index) insertPending() {
	if len(x.pending) == 0 {
		return
	}
	var much errgroup.Group
	much.SetLimit(runtime.GOMAXPROCS(0))
	for _, at := range x.pending {
		children := at.node.childrenOf(&x.writer, at.attr)
		i, found := children.tree(at.attr, at.kind)
		if !found { // its pending entries were all removed again
			continue
		}
		t := &children.trees[i]
		w := t.pending
		t.pending = nil
		switch {
		case w == nil: // it is listed twice, and may be in work
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
	clear(x.pending) // or it would keep nodes in memory
	x.pending = x.pending[:0]
}

// insertAll inserts pending entries. If they are many beside those in the tree, it builds a
// new tree of both.
func (t *tree) insertAll(by *writer, w *pending) {
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

// each calls pass with each entry below n.
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
	e := treeEntry{n.from[i], math.MaxUint64, n.recipients[i], n.codeOf(i)}
	if n.to != nil {
		e.to = n.to[i]
	}
	return e
}

// tree builds a tree of these entries of w, which are in order, and returns its root. Its
// nodes are three quarters full, so that insertions do not split them at once.
func (w *pending) tree(by *writer, entries []pendingEntry) *treeNode {
	var level []*treeNode
	for part := range slices.Chunk(entries, by.sizes.LeafEntries*3/4) {
		level = append(level, w.leaf(by.gen, part))
	}
	for len(level) > 1 {
		var above []*treeNode
		for part := range slices.Chunk(level, by.sizes.BranchKids*3/4) {
			n := newBranch(by.gen, len(part))
			n.from, n.recipients = make([]uint64, 0, len(part)), make([]recipient, 0, len(part))
			for _, kid := range part {
				n.insertKid(len(n.kids), kid)
			}
			above = append(above, n)
		}
		level = above
	}
	return level[0]
}

func (w *pending) leaf(g cow.Gen, entries []pendingEntry) *treeNode {
	n := newLeaf(g, len(entries))
	for i, e := range entries {
		n.insertEntry(i, w.entry(e))
	}
	if n.rest != nil {
		n.rest.code, n.rest.ends = slices.Clip(n.rest.code), slices.Clip(n.rest.ends)
	}
	return n
}
