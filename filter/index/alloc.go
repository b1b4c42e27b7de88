package index

import (
	"slices"
	"unsafe"

	"eventstream/internal/cow"
)

// The parts of an index that each change copies, with their lists behind them in
// one piece of memory: one allocation, and one place that is not in the caches, less
// for each. A list that outgrows its room gets memory of its own. The sizes are those
// of Go's allocator, which adds 8 bytes to what has pointers and is larger than 512.

// newLeaf returns a leaf with room for at least n entries, of which each takes one
// number and a half.
func newLeaf(g cow.Gen, n int) *treeNode {
	var leaf *treeNode
	var room []uint64
	switch {
	case n <= 12:
		leaf, room = withRoom[[18]uint64, uint64]()
	case n <= 22:
		leaf, room = withRoom[[33]uint64, uint64]()
	case n <= 33:
		leaf, room = withRoom[[50]uint64, uint64]()
	case n <= 53:
		leaf, room = withRoom[[80]uint64, uint64]()
	case n <= 64:
		leaf, room = withRoom[[97]uint64, uint64]()
	default:
		leaf, room = withRoom[[113]uint64, uint64]()
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
		branch, room = withRoom[[18]*treeNode, *treeNode]()
	case n <= 34:
		branch, room = withRoom[[34]*treeNode, *treeNode]()
	case n <= 50:
		branch, room = withRoom[[50]*treeNode, *treeNode]()
	default:
		branch, room = withRoom[[65]*treeNode, *treeNode]()
	}
	branch.gen, branch.kids = g, room[:0]
	return branch
}

// withRoom returns a node, and what lies behind it: Room is an array of Items.
func withRoom[Room, Item any]() (*treeNode, []Item) {
	o := new(struct {
		treeNode
		room Room
	})
	var item Item
	return &o.treeNode, unsafe.Slice((*Item)(unsafe.Pointer(&o.room)), unsafe.Sizeof(o.room)/unsafe.Sizeof(item))
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
	if n.wide != nil {
		c.wide = new(*n.wide)
	}
	return c
}
