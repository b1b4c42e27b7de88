package index

import (
	"hash/maphash"
	"iter"
	"slices"

	"eventstream/internal/cow"
)

// hashTrie finds a node by a key: a trie over the bits of the key's hash, as in
// Bagwell, Ideal Hash Trees (2001), with small buckets as leaves.
type hashTrie struct {
	root hashNode
	n    int // keys
}

// hashNode is a bucket, or a branch if it has kids.
type hashNode struct {
	gen   cow.Gen
	kids  *[1 << hashBits]*hashNode
	names *names // of the bucket's keys; nil if there are none
	nodes []*node
}

// names is the keys of a bucket and their hashes. Copies of the bucket share it; it is never
// changed.
type names struct {
	hashes []uint32
	keys   []string
}

// seed is the same for all indexes of the process, because events cache the hashes of their values.
var seed = maphash.MakeSeed()

func hash(key []byte) uint32 { return uint32(maphash.Bytes(seed, key)) }

const (
	hashBits  = 4
	hashDepth = 32 / hashBits // no bucket is split below
)

func branchOf(hash uint32, depth int) uint32 { return hash >> (hashBits * depth) & (1<<hashBits - 1) }

// get returns the node of key, nil if there is none.
func (t *hashTrie) get(hash uint32, key []byte) *node {
	n := &t.root
	for depth := 0; n != nil; depth++ {
		if n.kids == nil {
			return n.find(hash, key)
		}
		n = n.kids[branchOf(hash, depth)]
	}
	return nil
}

// all yields all keys and their nodes, in no order.
func (t *hashTrie) all() iter.Seq2[string, *node] {
	return func(yield func(string, *node) bool) { t.root.all(yield) }
}

func (n *hashNode) all(yield func(string, *node) bool) bool {
	if n == nil {
		return true
	}
	if n.kids != nil {
		for _, kid := range n.kids {
			if !kid.all(yield) {
				return false
			}
		}
		return true
	}
	for i, to := range n.nodes {
		if !yield(n.names.keys[i], to) {
			return false
		}
	}
	return true
}

func (n *hashNode) find(hash uint32, key []byte) *node {
	if i := n.index(hash, key); i >= 0 {
		return n.nodes[i]
	}
	return nil
}

// index returns the index of key in a bucket, or -1.
func (n *hashNode) index(hash uint32, key []byte) int {
	if n.names == nil {
		return -1
	}
	for i, h := range n.names.hashes {
		if h == hash && n.names.keys[i] == string(key) {
			return i
		}
	}
	return -1
}

// ref returns the place of the node of key, for the writer to change. It adds the key if
// it is new; its node is nil then.
func (t *hashTrie) ref(by *writer, hash uint32, key []byte) (at **node, isNew bool) {
	n := &t.root
	for depth := 0; ; depth++ {
		n.own(by.gen)
		if n.kids != nil {
			n = ownHashNode(&n.kids[branchOf(hash, depth)], by.gen)
			continue
		}
		if i := n.index(hash, key); i >= 0 {
			return &n.nodes[i], false
		}
		if len(n.nodes) < by.sizes.BucketKeys || depth == hashDepth {
			t.n++
			n.add(hash, string(key), nil)
			return &n.nodes[len(n.nodes)-1], true
		}
		n.split(by.gen, depth)
		n = ownHashNode(&n.kids[branchOf(hash, depth)], by.gen)
	}
}

func (n *hashNode) add(hash uint32, key string, to *node) {
	more := &names{}
	if n.names != nil {
		more.hashes, more.keys = cloneWithRoom(n.names.hashes), cloneWithRoom(n.names.keys)
	}
	more.hashes, more.keys = append(more.hashes, hash), append(more.keys, key)
	n.names, n.nodes = more, append(n.nodes, to)
}

// split turns a bucket into a branch.
func (n *hashNode) split(g cow.Gen, depth int) {
	n.kids = new([1 << hashBits]*hashNode)
	for i, h := range n.names.hashes {
		ownHashNode(&n.kids[branchOf(h, depth)], g).add(h, n.names.keys[i], n.nodes[i])
	}
	n.names, n.nodes = nil, nil
}

// remove removes key, which must be there.
func (t *hashTrie) remove(by *writer, hash uint32, key []byte) {
	t.n--
	t.root.own(by.gen)
	t.root.remove(by, hash, key, 0)
}

func (n *hashNode) remove(by *writer, hash uint32, key []byte, depth int) {
	if n.kids != nil {
		place := &n.kids[branchOf(hash, depth)]
		ownHashNode(place, by.gen).remove(by, hash, key, depth+1)
		if (*place).names == nil && (*place).kids == nil {
			*place = nil
		}
		n.collapse(by.sizes.BucketKeys / 2)
		return
	}
	i := n.index(hash, key)
	n.nodes = slices.Delete(n.nodes, i, i+1)
	if len(n.nodes) == 0 {
		n.names, n.nodes = nil, nil
		return
	}
	hashes, keys := n.names.hashes, n.names.keys
	n.names = &names{slices.Concat(hashes[:i], hashes[i+1:]), slices.Concat(keys[:i], keys[i+1:])}
}

// collapse turns a branch into a bucket if at most most keys are left.
func (n *hashNode) collapse(most int) {
	total := 0
	for _, kid := range n.kids {
		if kid == nil {
			continue
		}
		if total += len(kid.nodes); kid.kids != nil || total > most {
			return
		}
	}
	kids := n.kids
	n.kids = nil
	for _, kid := range kids {
		if kid == nil {
			continue
		}
		for i, h := range kid.names.hashes {
			n.add(h, kid.names.keys[i], kid.nodes[i])
		}
	}
}

// ownHashNode makes *place a node of generation g: itself, a copy or a new one.
func ownHashNode(place **hashNode, g cow.Gen) *hashNode {
	switch n := *place; {
	case n == nil:
		*place = &hashNode{gen: g}
	case n.gen != g:
		c := *n
		*place = &c
	}
	(*place).own(g)
	return *place
}

// own moves n, which may share memory with older copies, to generation g.
func (n *hashNode) own(g cow.Gen) {
	if n.gen == g {
		return
	}
	n.gen, n.nodes = g, cloneWithRoom(n.nodes)
	if n.kids != nil {
		kids := *n.kids
		n.kids = &kids
	}
}
