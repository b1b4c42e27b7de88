package index

import (
	"slices"
	"unsafe"

	"eventstream/internal/cow"
)

// Nodes of an index are allocated together with their lists, in one piece of memory. Each
// change copies some nodes: this saves one allocation and one cache miss for each of them.
// A list that outgrows its room gets memory of its own. The sizes are the size classes of
// Go's allocator, which adds 8 bytes to objects that have pointers and are larger than 512.

// newLeaf returns a leaf with room for at least n entries, of which each takes one
// number and a half.
func newLeaf(g cow.Gen, n int) *treeNode {
	var leaf *treeNode
	var room []uint64
	switch {
	case n <= 12:
		leaf, room = withTail[[18]uint64, uint64]()
	case n <= 22:
		leaf, room = withTail[[33]uint64, uint64]()
	case n <= 33:
		leaf, room = withTail[[50]uint64, uint64]()
	case n <= 53:
		leaf, room = withTail[[80]uint64, uint64]()
	case n <= 64:
		leaf, room = withTail[[97]uint64, uint64]()
	default:
		leaf, room = withTail[[113]uint64, uint64]()
	}
	n = len(room) * 2 / 3
	recipients := unsafe.Slice((*recipient)(unsafe.Pointer(&room[0])), n) // first: often nothing else is read
	leaf.gen, leaf.from, leaf.recipients = g, room[(n+1)/2:][:0:n], recipients[:0]
	return leaf
}

// newBranch returns a branch with room for at least n kids.
func newBranch(g cow.Gen, n int) *treeNode {
	var branch *treeNode
	var room []*treeNode
	switch {
	case n <= 18:
		branch, room = withTail[[18]*treeNode, *treeNode]()
	case n <= 34:
		branch, room = withTail[[34]*treeNode, *treeNode]()
	case n <= 50:
		branch, room = withTail[[50]*treeNode, *treeNode]()
	default:
		branch, room = withTail[[65]*treeNode, *treeNode]()
	}
	branch.gen, branch.kids = g, room[:0]
	return branch
}

// withTail returns a node and the room behind it. Room is an array of Items.
func withTail[Room, Item any]() (*treeNode, []Item) {
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
	case len(n.trees) == 1 && len(n.tables) == 0:
		o := new(struct {
			node
			room [1]tree
		})
		c, o.trees = &o.node, o.room[:0]
	case len(n.tables) == 1 && len(n.trees) == 0:
		o := new(struct {
			node
			room [1]table
		})
		c, o.tables = &o.node, o.room[:0]
	default:
		c = new(node)
	}
	c.gen, c.entries, c.n, c.split = g, slices.Clone(n.entries), n.n, n.split
	c.tables, c.trees = append(c.tables, n.tables...), append(c.trees, n.trees...)
	if n.byAttr != nil {
		c.byAttr = new(*n.byAttr)
	}
	return c
}
