package filter

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"sort"

	"eventstream/event"
	"eventstream/internal/cow"
)

// node is a place in the index, for conjunctions that share the predicates on
// the way there. Few of them are simply tried one after the other. When they
// become too many, each goes on to where its next predicate leads, or, if it has
// none left to be filed under, to a tree.
type node struct {
	gen    cow.Gen
	few    []byte // entries
	n      int    // of entries in few
	spread bool   // there were too many once
	dirs   []dir
	trees  []tree
}

// fewMost is how many entries are tried one after the other. Tests make it small.
var fewMost = 32

// entry is a conjunction at a node.
type entry struct {
	word  word
	filed byte   // how many of the predicates it is still to be filed under
	code  []byte // its predicates that the way to the node doesn't tell
}

// An entry in a node's few, integers little endian:
//
//	word 4 bytes | filed 1 byte | length of code uvarint | code
func appendEntry(b []byte, e entry) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(e.word))
	b = append(b, e.filed)
	b = binary.AppendUvarint(b, uint64(len(e.code)))
	return append(b, e.code...)
}

func nextEntry(b []byte) (e entry, rest []byte) {
	e.word, e.filed = word(binary.LittleEndian.Uint32(b)), b[4]
	size, n := shortUvarint(b[5:])
	b = b[5+n:]
	e.code = b[:size]
	return e, b[size:]
}

// dir leads on by the values of one attribute, of one kind. It is of its node's
// generation.
type dir struct {
	attr event.Attr
	op   op         // opIn, opPrefix, opExists
	kind event.Kind // of the values of opIn
	keys hashTrie
	lens []prefixLen // ascending, shared by copies and never changed; of opPrefix
}

// prefixLen counts the prefixes of one length.
type prefixLen struct{ bytes, n int }

func (n *node) empty() bool { return n.n == 0 && len(n.dirs) == 0 && len(n.trees) == 0 }

// ownNode makes *place a node of generation g: itself, a copy or a new one.
func ownNode(place **node, g cow.Gen) *node {
	n := *place
	switch {
	case n == nil:
		n = &node{gen: g}
	case n.gen == g:
		return n
	default:
		n = n.copy(g)
	}
	*place = n
	return n
}

// file puts e at the node.
func (x *Index) file(place **node, e entry) {
	n := ownNode(place, x.gen)
	if !n.spread && n.n < fewMost {
		n.few = appendEntry(n.few, e)
		n.n++
		return
	}
	n.spread = true
	for few := n.few; len(few) > 0; {
		var one entry
		one, few = nextEntry(few)
		x.fileOn(n, one)
	}
	n.few, n.n = nil, 0
	x.fileOn(n, e)
}

// fileOn puts e where it belongs below n.
func (x *Index) fileOn(n *node, e entry) {
	if e.filed == 0 {
		i, item := x.treeFor(n, e)
		switch t := &n.trees[i]; {
		case x.direct > 0:
			x.direct--
			t.insert(x.gen, item)
		case t.later(item):
			x.waiting = append(x.waiting, n)
		}
		return
	}
	p, rest := next(e.code)
	for kind, text := range p.keys() {
		d := &n.dirs[n.dirFor(p.attr, p.op, kind)]
		at, isNew := d.keys.ref(x.gen, hash(text), text)
		if isNew && d.op == opPrefix {
			d.count(len(text), 1)
		}
		x.file(at, entry{e.word, e.filed - 1, rest})
	}
}

// unfile takes e away from the node, which has it.
func (x *Index) unfile(place **node, e entry) {
	n := ownNode(place, x.gen)
	if n.spread {
		x.unfileOn(n, e)
		return
	}
	for rest := n.few; len(rest) > 0; {
		start := len(n.few) - len(rest)
		var one entry
		one, rest = nextEntry(rest)
		if one.word == e.word && one.filed == e.filed && bytes.Equal(one.code, e.code) {
			n.few = slices.Delete(n.few, start, len(n.few)-len(rest))
			n.n--
			return
		}
	}
	panic(errMisfiled)
}

func (x *Index) unfileOn(n *node, e entry) {
	if e.filed == 0 {
		i, item := x.treeFor(n, e)
		t := &n.trees[i]
		if w := t.waiting; w != nil {
			t.waiting = nil
			t.insertAll(x.gen, w)
		}
		if t.remove(x.gen, item); t.empty() {
			n.trees = slices.Delete(n.trees, i, i+1)
		}
		return
	}
	p, rest := next(e.code)
	for kind, text := range p.keys() {
		i := n.dirFor(p.attr, p.op, kind)
		d := &n.dirs[i]
		hash := hash(text)
		at, _ := d.keys.ref(x.gen, hash, text)
		x.unfile(at, entry{e.word, e.filed - 1, rest})
		if !(*at).empty() {
			continue
		}
		d.keys.remove(x.gen, hash, text)
		if d.op == opPrefix {
			d.count(len(text), -1)
		}
		if d.keys.n == 0 {
			n.dirs = slices.Delete(n.dirs, i, i+1)
		}
	}
}

// keys yields what conjunctions are filed under by p: the kind and the bytes of
// each value.
func (p predicate) keys() iter.Seq2[event.Kind, []byte] {
	return func(yield func(event.Kind, []byte) bool) {
		switch p.op {
		case opPrefix:
			yield(event.String, p.payload)
		case opExists:
			yield(event.Other, nil)
		case opIn:
			for b := openList(p.payload).values; len(b) > 0; {
				var kind event.Kind
				var text []byte
				kind, text, b = nextValue(b)
				if !yield(kind, text) {
					return
				}
			}
		}
	}
}

// dirFor returns where the dir for such keys is in n, which is the writer's. It is
// made if there is none.
func (n *node) dirFor(attr event.Attr, o op, kind event.Kind) int {
	i, found := sort.Find(len(n.dirs), func(i int) int {
		d := &n.dirs[i]
		return cmp.Or(cmp.Compare(attr, d.attr), cmp.Compare(o, d.op), cmp.Compare(kind, d.kind))
	})
	if !found {
		n.dirs = slices.Insert(n.dirs, i, dir{attr: attr, op: o, kind: kind})
	}
	return i
}

// count notes one more or one fewer prefix of a length.
func (d *dir) count(bytes, n int) {
	d.lens = slices.Clone(d.lens)
	i, found := slices.BinarySearchFunc(d.lens, bytes, func(l prefixLen, b int) int { return cmp.Compare(l.bytes, b) })
	if !found {
		d.lens = slices.Insert(d.lens, i, prefixLen{bytes: bytes})
	}
	if d.lens[i].n += n; d.lens[i].n == 0 {
		d.lens = slices.Delete(d.lens, i, i+1)
	}
}

// treeFor returns which tree of n, which is the writer's, e belongs to, and e as
// it is kept there. An interval that comes first in e's code gives it its place.
func (x *Index) treeFor(n *node, e entry) (i int, item treeEntry) {
	item = treeEntry{to: math.MaxUint64, word: e.word, code: e.code}
	var attr event.Attr
	kind := event.Other
	if len(e.code) > 0 {
		if p, rest := next(e.code); p.op == opInterval {
			s := openSpan(p.payload)
			attr, kind = p.attr, s.kind
			item.from, item.to, item.code = s.lo, s.hi, rest
		}
	}
	i, found := sort.Find(len(n.trees), func(i int) int {
		t := &n.trees[i]
		return cmp.Or(cmp.Compare(attr, t.attr), cmp.Compare(kind, t.kind))
	})
	if !found {
		n.trees = slices.Insert(n.trees, i, tree{attr: attr, kind: kind})
	}
	return i, item
}
