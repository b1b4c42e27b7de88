package filter

import (
	"hash/maphash"
	"slices"

	"eventstream/internal/cow"
)

// hashTrie finds a node by a key: a trie over the bits of the key's hash, as in
// Bagwell, Ideal Hash Trees (2001), with small buckets as leaves.
type hashTrie struct {
	root *hashNode
	n    int // keys
}

// hashNode is a bucket, or a branch if it has kids. The lists of hashes and keys
// are shared by its copies: they are appended to or replaced, never changed.
type hashNode struct {
	gen    cow.Gen
	kids   *[1 << hashBits]*hashNode
	hashes []uint32 // of the bucket's keys
	keys   []string
	nodes  []*node
}

// seed is one for all indexes of the process: events keep the hashes of their values.
var seed = maphash.MakeSeed()

func hash(key []byte) uint32 { return uint32(maphash.Bytes(seed, key)) }

const (
	hashBits  = 4
	hashDepth = 32 / hashBits // no bucket is split below
)

var bucketMost = 32 // keys in a bucket. Tests make it small.

func branchOf(hash uint32, depth int) uint32 { return hash >> (hashBits * depth) & (1<<hashBits - 1) }

// get returns the node of key, nil if there is none.
func (t *hashTrie) get(hash uint32, key []byte) *node {
	n := t.root
	for depth := 0; n != nil; depth++ {
		if n.kids == nil {
			return n.find(hash, key)
		}
		n = n.kids[branchOf(hash, depth)]
	}
	return nil
}

func (n *hashNode) find(hash uint32, key []byte) *node {
	if i := n.index(hash, key); i >= 0 {
		return n.nodes[i]
	}
	return nil
}

// index returns where key is in a bucket, -1 if it isn't there.
func (n *hashNode) index(hash uint32, key []byte) int {
	for i, h := range n.hashes {
		if h == hash && n.keys[i] == string(key) {
			return i
		}
	}
	return -1
}

// ref returns where the node of key is kept, for the writer to change it. A new
// key has no node yet.
func (t *hashTrie) ref(g cow.Gen, hash uint32, key []byte) (at **node, isNew bool) {
	place := &t.root
	for depth := 0; ; depth++ {
		n := ownHashNode(place, g)
		if n.kids != nil {
			place = &n.kids[branchOf(hash, depth)]
			continue
		}
		if i := n.index(hash, key); i >= 0 {
			return &n.nodes[i], false
		}
		if len(n.hashes) < bucketMost || depth == hashDepth {
			t.n++
			n.add(hash, string(key), nil)
			return &n.nodes[len(n.nodes)-1], true
		}
		n.split(g, depth)
		place = &n.kids[branchOf(hash, depth)]
	}
}

func (n *hashNode) add(hash uint32, key string, to *node) {
	n.hashes, n.keys, n.nodes = append(n.hashes, hash), append(n.keys, key), append(n.nodes, to)
}

// split makes a branch of a bucket.
func (n *hashNode) split(g cow.Gen, depth int) {
	n.kids = new([1 << hashBits]*hashNode)
	for i, h := range n.hashes {
		ownHashNode(&n.kids[branchOf(h, depth)], g).add(h, n.keys[i], n.nodes[i])
	}
	n.hashes, n.keys, n.nodes = nil, nil, nil
}

// remove takes out key, which is there.
func (t *hashTrie) remove(g cow.Gen, hash uint32, key []byte) {
	t.n--
	removeKey(&t.root, g, hash, key, 0)
}

func removeKey(place **hashNode, g cow.Gen, hash uint32, key []byte, depth int) {
	n := ownHashNode(place, g)
	if n.kids == nil {
		i := n.index(hash, key)
		n.hashes = slices.Concat(n.hashes[:i], n.hashes[i+1:])
		n.keys = slices.Concat(n.keys[:i], n.keys[i+1:])
		n.nodes = slices.Delete(n.nodes, i, i+1)
		if len(n.nodes) == 0 {
			*place = nil
		}
		return
	}
	removeKey(&n.kids[branchOf(hash, depth)], g, hash, key, depth+1)
	n.collapse(place, g)
}

// collapse makes a bucket of a branch with few keys left.
func (n *hashNode) collapse(place **hashNode, g cow.Gen) {
	total := 0
	for _, kid := range n.kids {
		if kid == nil {
			continue
		}
		if total += len(kid.hashes); kid.kids != nil || total > bucketMost/2 {
			return
		}
	}
	if total == 0 {
		*place = nil
		return
	}
	bucket := &hashNode{gen: g}
	for _, kid := range n.kids {
		if kid != nil {
			bucket.hashes = append(bucket.hashes, kid.hashes...)
			bucket.keys = append(bucket.keys, kid.keys...)
			bucket.nodes = append(bucket.nodes, kid.nodes...)
		}
	}
	*place = bucket
}

// ownHashNode makes *place a node of generation g: itself, a copy or a new one.
func ownHashNode(place **hashNode, g cow.Gen) *hashNode {
	n := *place
	switch {
	case n == nil:
		n = &hashNode{gen: g}
	case n.gen == g:
		return n
	default:
		c := &hashNode{gen: g, hashes: slices.Clip(n.hashes), keys: slices.Clip(n.keys), nodes: roomy(n.nodes)}
		if n.kids != nil {
			kids := *n.kids
			c.kids = &kids
		}
		n = c
	}
	*place = n
	return n
}
