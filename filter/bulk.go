package filter

import (
	"cmp"
	"math"
	"slices"

	"eventstream/internal/cow"
)

// Entries that come to a tree within one generation wait until they are looked
// for, as many come at once when filters are loaded: sorted together they are
// put in place ten times faster than one by one, and in full leaves.

// later notes that e is to be inserted.
func (t *tree) later(e treeEntry) {
	e.code = slices.Clone(e.code)
	t.waiting = append(t.waiting, e)
}

// flush inserts what waits.
func (t *tree) flush(g cow.Gen) {
	waiting := t.waiting
	t.waiting = nil
	if t.root != nil && len(waiting) < leafMost || len(waiting) == 1 {
		for _, e := range waiting {
			t.insert(g, e)
		}
		return
	}
	if t.root != nil {
		waiting = t.root.appendTo(waiting)
	}
	slices.SortFunc(waiting, func(a, b treeEntry) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.word, b.word))
	})
	t.root = treeOf(g, waiting)
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
			n := &treeNode{
				gen: g, from: make([]uint64, 0, len(part)), words: make([]word, 0, len(part)), kids: make([]*treeNode, 0, len(part)),
			}
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
	n := &treeNode{gen: g, from: make([]uint64, 0, len(entries)), words: make([]word, 0, len(entries))}
	for i, e := range entries {
		n.insertEntry(i, e)
	}
	n.code, n.ends = slices.Clip(n.code), slices.Clip(n.ends)
	return n
}
