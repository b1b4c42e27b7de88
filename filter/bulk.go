package filter

import (
	"cmp"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"eventstream/internal/cow"
)

// When many entries come within one generation, as when filters are loaded, those
// after the first few wait until they are looked for: sorted together they are put
// in place ten times faster than one by one, and in full leaves.

// Bounds. Tests make them small.
var (
	directMost = 64   // don't wait
	muchWaits  = 1024 // in one tree: worth a goroutine
)

// later notes that e is to be inserted, and reports whether it is the first.
func (t *tree) later(e treeEntry) (first bool) {
	e.code = slices.Clone(e.code)
	t.waiting = append(t.waiting, e)
	return len(t.waiting) == 1
}

// flushAll inserts what waits: into each tree by itself, so on all cores if it is much.
func (x *Index) flushAll() {
	if len(x.waiting) == 0 {
		return
	}
	var much errgroup.Group
	much.SetLimit(runtime.GOMAXPROCS(0))
	for _, n := range x.waiting {
		for i := range n.trees {
			t := &n.trees[i]
			waiting := t.takeWaiting()
			switch {
			case len(waiting) == 0: // the tree may be at work: a node can be there twice
			case len(waiting) < muchWaits:
				t.insertAll(x.gen, waiting)
			default:
				much.Go(func() error {
					t.insertAll(x.gen, waiting)
					return nil
				})
			}
		}
	}
	_ = much.Wait()  // none of them fails
	clear(x.waiting) // or it would keep what is replaced later
	x.waiting = x.waiting[:0]
}

func (t *tree) takeWaiting() []treeEntry {
	waiting := t.waiting
	t.waiting = nil
	return waiting
}

// insertAll inserts entries. Many, in relation to those there, make a new tree.
func (t *tree) insertAll(g cow.Gen, waiting []treeEntry) {
	if len(waiting) <= max(1, t.n/8) {
		for _, e := range waiting {
			t.insert(g, e)
		}
		return
	}
	if t.root != nil {
		waiting = t.root.appendTo(waiting)
	}
	slices.SortFunc(waiting, func(a, b treeEntry) int {
		if a.from != b.from {
			return cmp.Compare(a.from, b.from)
		}
		return cmp.Compare(a.word, b.word)
	})
	t.root, t.n = treeOf(g, waiting), len(waiting)
}

// appendTo appends the entries of n.
func (n *treeNode) appendTo(list []treeEntry) []treeEntry {
	for _, kid := range n.kids {
		list = kid.appendTo(list)
	}
	if n.kids != nil {
		return list
	}
	for i := range n.from {
		list = append(list, n.entry(i))
	}
	return list
}

// entry returns the i-th entry of a leaf.
func (n *treeNode) entry(i int) treeEntry {
	e := treeEntry{n.from[i], math.MaxUint64, n.words[i], n.codeOf(i)}
	if n.to != nil {
		e.to = n.to[i]
	}
	return e
}

// treeOf returns the root of a tree with these entries, which are in order. Its
// nodes have some room.
func treeOf(g cow.Gen, entries []treeEntry) *treeNode {
	var level []*treeNode
	for part := range slices.Chunk(entries, leafMost*3/4) {
		level = append(level, leafOf(g, part))
	}
	for len(level) > 1 {
		var above []*treeNode
		for part := range slices.Chunk(level, branchMost*3/4) {
			n := newBranch(g, len(part))
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

func leafOf(g cow.Gen, entries []treeEntry) *treeNode {
	n := newLeaf(g, len(entries))
	for i, e := range entries {
		n.insertEntry(i, e)
	}
	if n.rest != nil {
		n.rest.code, n.rest.ends = slices.Clip(n.rest.code), slices.Clip(n.rest.ends)
	}
	return n
}
