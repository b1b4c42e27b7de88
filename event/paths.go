package event

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"sync"
)

// Attr numbers an attribute of events. Its numbers are given out by the owner of
// the Paths.
type Attr uint32

// TypeAttr is the number of event_type in all Paths.
const TypeAttr Attr = 0

// Path names an attribute: the keys from the event's top level down.
type Path []string

// Paths are the attributes that a Decoder is asked for. They do not change and
// are safe for concurrent use; a nil *Paths asks for event_type only.
//
// They are a tree of keys, so that a path may continue another. The edges of
// all its nodes are in one hash table, whose hash is seeded: those who choose
// the keys cannot make it slow.
type Paths struct {
	attrs int    // the numbers of attributes are below
	nodes []node // those of the constants below, and others after their parents
	slots []slot // a hash table with linear probing
	seed  [2]uint64

	moved  *moved   // nil without a Mapping
	mapped sync.Map // by *Mapping: the *Paths that it makes of these
}

// slot is free if its node is none.
type slot struct {
	node int32
	hash uint32 // the high half of its edge's
}

type node struct {
	name   string
	parent int32
	attr   Attr // noAttr if the path only passes here
	inner  bool // it has children
	digits bool // of a Number, its text is wanted
}

const (
	none     = 0 // the place in nodes of what no path leads to
	root     = 1
	typeNode = 2

	noAttr Attr = 1<<32 - 1
)

var onlyType = NewPaths(nil)

// NewPaths returns the attributes whose numbers are their places in paths. An
// empty path is a number that no event has. The first is event_type, whatever
// paths says; of two equal paths, the second is a number that no event has.
func NewPaths(paths []Path) *Paths {
	most := 1
	for _, path := range paths {
		most += len(path)
	}
	p := newPaths(max(len(paths), 1), most)
	p.add(Path{"event_type"}, TypeAttr)
	for i := 1; i < len(paths); i++ {
		p.add(paths[i], Attr(i))
	}
	return p
}

// newPaths returns Paths for so many attributes without any, with room for so many nodes.
func newPaths(attrs, most int) *Paths {
	most += 3
	p := &Paths{
		attrs: attrs,
		nodes: append(make([]node, 0, most), node{attr: noAttr}, node{attr: noAttr}),
		slots: make([]slot, 1<<bits.Len(uint(2*most))),
		seed:  [2]uint64{rand.Uint64(), rand.Uint64() | 1},
	}
	p.grow(root, "event_type") // typeNode
	return p
}

// add gives the attribute at path its number, unless it has one, and returns that.
func (p *Paths) add(path Path, a Attr) Attr {
	if len(path) == 0 {
		return noAttr
	}
	n := &p.nodes[p.reach(path)]
	if n.attr == noAttr {
		n.attr = a
	}
	return n.attr
}

// reach returns the node at the end of a path.
func (p *Paths) reach(path Path) int32 {
	at := int32(root)
	for _, name := range path {
		at = p.grow(at, name)
	}
	return at
}

// grow returns the child of a node by its name, and adds it if there is none.
func (p *Paths) grow(parent int32, name string) int32 {
	key := []byte(name)
	hash := p.hash(parent, key)
	at := p.slot(parent, key, hash)
	if p.slots[at].node == none {
		p.slots[at] = slot{int32(len(p.nodes)), uint32(hash >> 32)}
		p.nodes = append(p.nodes, node{name: name, parent: parent, attr: noAttr})
		p.nodes[parent].inner = true
	}
	return p.slots[at].node
}

// child returns the child of a node by its name and the hash of both.
func (p *Paths) child(parent int32, key []byte, hash uint64) int32 {
	return p.slots[p.slot(parent, key, hash)].node
}

// slot returns the place of a node's child in slots, the free one for it if
// there is none.
func (p *Paths) slot(parent int32, key []byte, hash uint64) uint64 {
	mask := uint64(len(p.slots) - 1) // at most half of them are taken
	for i := hash; ; i++ {
		s := p.slots[i&mask]
		if s.node == none {
			return i & mask
		}
		if s.hash == uint32(hash>>32) {
			if n := &p.nodes[s.node]; n.parent == parent && n.name == string(key) {
				return i & mask
			}
		}
	}
}

// hash is that of a node's child by its name: of each eight bytes in turn, the
// last filled up with zeros, mixed as in wyhash. Decoder.key does the same.
func (p *Paths) hash(parent int32, key []byte) uint64 {
	h := p.start(parent)
	for len(key) >= 8 {
		h = mix(h, binary.LittleEndian.Uint64(key), p.seed[1])
		key = key[8:]
	}
	var last [8]byte
	copy(last[:], key)
	return mix(h, binary.LittleEndian.Uint64(last[:]), p.seed[1])
}

func (p *Paths) start(parent int32) uint64 { return mix(p.seed[0], uint64(parent), p.seed[1]) }

func mix(hash, word, seed uint64) uint64 {
	high, low := bits.Mul64(hash^word, seed)
	return high ^ low
}
