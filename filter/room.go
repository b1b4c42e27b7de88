package filter

import (
	"slices"
	"unsafe"

	"eventstream/internal/cow"
)

// The parts of an index that each change copies, with their lists behind them in
// one piece of memory: one allocation, and one place that is not in the caches, less
// for each. A list that outgrows its room gets memory of its own. The sizes are those
// of Go's allocator, which adds 8 bytes to what has pointers and is larger than 512.

// newLeaf returns a leaf with room for at least n entries.
func newLeaf(g cow.Gen, n int) *treeNode {
	var leaf *treeNode
	var room []uint64 // an entry takes one and a half
	switch {
	case n <= 12:
		o := new(struct {
			treeNode
			room [18]uint64
		})
		leaf, room = &o.treeNode, o.room[:]
	case n <= 22:
		o := new(struct {
			treeNode
			room [33]uint64
		})
		leaf, room = &o.treeNode, o.room[:]
	case n <= 33:
		o := new(struct {
			treeNode
			room [50]uint64
		})
		leaf, room = &o.treeNode, o.room[:]
	case n <= 53:
		o := new(struct {
			treeNode
			room [80]uint64
		})
		leaf, room = &o.treeNode, o.room[:]
	case n <= 64:
		o := new(struct {
			treeNode
			room [97]uint64
		})
		leaf, room = &o.treeNode, o.room[:]
	default:
		o := new(struct {
			treeNode
			room [113]uint64
		})
		leaf, room = &o.treeNode, o.room[:]
	}
	n = len(room) * 2 / 3
	words := unsafe.Slice((*word)(unsafe.Pointer(&room[0])), n) // first: often nothing else is read
	leaf.gen, leaf.from, leaf.words = g, room[(n+1)/2:][:0:n], words[:0]
	return leaf
}

// newBranch returns a branch with room for at least n kids.
func newBranch(g cow.Gen, n int) *treeNode {
	var branch *treeNode
	var room []*treeNode
	switch {
	case n <= 18:
		o := new(struct {
			treeNode
			room [18]*treeNode
		})
		branch, room = &o.treeNode, o.room[:]
	case n <= 34:
		o := new(struct {
			treeNode
			room [34]*treeNode
		})
		branch, room = &o.treeNode, o.room[:]
	case n <= 50:
		o := new(struct {
			treeNode
			room [50]*treeNode
		})
		branch, room = &o.treeNode, o.room[:]
	default:
		o := new(struct {
			treeNode
			room [65]*treeNode
		})
		branch, room = &o.treeNode, o.room[:]
	}
	branch.gen, branch.kids = g, room[:0]
	return branch
}

// copy returns a copy of n of generation g.
func (n *node) copy(g cow.Gen) *node {
	var c *node
	switch {
	case len(n.trees) == 1 && len(n.dirs) == 0:
		o := new(struct {
			node
			room [1]tree
		})
		c, o.trees = &o.node, o.room[:0]
	case len(n.dirs) == 1 && len(n.trees) == 0:
		o := new(struct {
			node
			room [1]dir
		})
		c, o.dirs = &o.node, o.room[:0]
	default:
		c = new(node)
	}
	c.gen, c.few, c.n, c.spread = g, slices.Clone(n.few), n.n, n.spread
	c.dirs, c.trees = append(c.dirs, n.dirs...), append(c.trees, n.trees...)
	return c
}
