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

// hashNode is a bucket, or a branch if it has kids.
type hashNode struct {
	gen    cow.Gen
	kids   *[1 << hashBits]*hashNode
	hashes []uint32 // of the bucket's keys
	slots  []hashSlot
}

type hashSlot struct {
	key  string
	node *node
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
	for i, h := range n.hashes {
		if h == hash && n.slots[i].key == string(key) {
			return n.slots[i].node
		}
	}
	return nil
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
		for i, h := range n.hashes {
			if h == hash && n.slots[i].key == string(key) {
				return &n.slots[i].node, false
			}
		}
		if len(n.hashes) < bucketMost || depth == hashDepth {
			t.n++
			n.hashes = append(n.hashes, hash)
			n.slots = append(n.slots, hashSlot{key: string(key)})
			return &n.slots[len(n.slots)-1].node, true
		}
		n.split(g, depth)
		place = &n.kids[branchOf(hash, depth)]
	}
}

// split makes a branch of a bucket.
func (n *hashNode) split(g cow.Gen, depth int) {
	n.kids = new([1 << hashBits]*hashNode)
	for i, h := range n.hashes {
		kid := ownHashNode(&n.kids[branchOf(h, depth)], g)
		kid.hashes = append(kid.hashes, h)
		kid.slots = append(kid.slots, n.slots[i])
	}
	n.hashes, n.slots = nil, nil
}

// remove takes out key, which is there.
func (t *hashTrie) remove(g cow.Gen, hash uint32, key []byte) {
	t.n--
	removeKey(&t.root, g, hash, key, 0)
}

func removeKey(place **hashNode, g cow.Gen, hash uint32, key []byte, depth int) {
	n := ownHashNode(place, g)
	if n.kids == nil {
		i := slices.IndexFunc(n.slots, func(s hashSlot) bool { return s.key == string(key) })
		n.hashes = slices.Delete(n.hashes, i, i+1)
		n.slots = slices.Delete(n.slots, i, i+1)
		if len(n.slots) == 0 {
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
			bucket.slots = append(bucket.slots, kid.slots...)
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
		c := &hashNode{gen: g, hashes: roomy(n.hashes), slots: roomy(n.slots)}
		if n.kids != nil {
			kids := *n.kids
			c.kids = &kids
		}
		n = c
	}
	*place = n
	return n
}
