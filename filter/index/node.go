package index

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
	n      int32  // of entries in few
	spread bool   // there were too many once
	ways          // in order; none if there is wide
	wide   *wide
}

// ways is where conjunctions go on to from a node.
type ways struct {
	dirs  []dir
	trees []tree
}

// wide is the ways of a node from which they lead on by many attributes: those of each
// by itself. To add one does not move the others, and an event looks only for its own
// attributes. A tree without an attribute is with event_type, which all events have.
type wide struct {
	byAttr cow.Vector[waysOf]
	n      int // dirs and trees
}

type waysOf struct {
	gen cow.Gen
	ways
}

// waysOf returns the ways of an attribute from n, which is the writer's; those of
// others may be among them.
func (n *node) waysOf(by *writer, a event.Attr) *ways {
	if n.wide == nil && len(n.dirs)+len(n.trees) < by.sizes.NodeChildren {
		return &n.ways
	}
	if n.wide == nil {
		all := n.ways
		n.ways, n.wide = ways{}, &wide{n: len(all.dirs) + len(all.trees)}
		for _, d := range all.dirs {
			w := n.waysOf(by, d.attr)
			w.dirs = append(w.dirs, d)
		}
		for _, t := range all.trees {
			w := n.waysOf(by, t.attr)
			w.trees = append(w.trees, t)
		}
	}
	w := n.wide.byAttr.Own(by.gen, uint32(a))
	if w.gen != by.gen {
		w.gen, w.dirs, w.trees = by.gen, slices.Clone(w.dirs), slices.Clone(w.trees)
	}
	return &w.ways
}

// counted notes that there is a way more, or one fewer.
func (n *node) counted(more int) {
	if n.wide == nil {
		return
	}
	if n.wide.n += more; n.wide.n == 0 {
		n.wide = nil
	}
}

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

func (n *node) empty() bool {
	return n.n == 0 && len(n.dirs) == 0 && len(n.trees) == 0 && n.wide == nil
}

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
	if !n.spread && int(n.n) < x.sizes.NodeEntries {
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
		w, i, item := x.treeFor(n, e)
		switch t := &w.trees[i]; {
		case x.direct > 0:
			x.direct--
			t.insert(&x.writer, item)
		case t.later(item):
			x.waiting = append(x.waiting, waitingTree{n, t.attr, t.kind})
		}
		return
	}
	p, rest := next(e.code)
	for kind, text := range p.keys() {
		w, i := x.dirFor(n, p.attr, p.op, kind)
		d := &w.dirs[i]
		at, isNew := d.keys.ref(&x.writer, hash(text), text)
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
		w, i, item := x.treeFor(n, e)
		t := &w.trees[i]
		if w := t.waiting; w != nil {
			t.waiting = nil
			t.insertAll(&x.writer, w)
		}
		if t.remove(&x.writer, item); t.empty() {
			w.trees = slices.Delete(w.trees, i, i+1)
			n.counted(-1)
		}
		return
	}
	p, rest := next(e.code)
	for kind, text := range p.keys() {
		w, i := x.dirFor(n, p.attr, p.op, kind)
		d := &w.dirs[i]
		hash := hash(text)
		at, _ := d.keys.ref(&x.writer, hash, text)
		x.unfile(at, entry{e.word, e.filed - 1, rest})
		if !(*at).empty() {
			continue
		}
		d.keys.remove(&x.writer, hash, text)
		if d.op == opPrefix {
			d.count(len(text), -1)
		}
		if d.keys.n == 0 {
			w.dirs = slices.Delete(w.dirs, i, i+1)
			n.counted(-1)
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

// dirFor returns where the dir for such keys is from n, which is the writer's. It is
// made if there is none.
func (x *Index) dirFor(n *node, attr event.Attr, o op, kind event.Kind) (w *ways, i int) {
	w = n.waysOf(&x.writer, attr)
	i, found := sort.Find(len(w.dirs), func(i int) int {
		d := &w.dirs[i]
		return cmp.Or(cmp.Compare(attr, d.attr), cmp.Compare(o, d.op), cmp.Compare(kind, d.kind))
	})
	if !found {
		w.dirs = slices.Insert(w.dirs, i, dir{attr: attr, op: o, kind: kind})
		n.counted(+1)
	}
	return w, i
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
func (x *Index) treeFor(n *node, e entry) (w *ways, i int, item treeEntry) {
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
	w = n.waysOf(&x.writer, attr)
	i, found := w.tree(attr, kind)
	if !found {
		w.trees = slices.Insert(w.trees, i, tree{attr: attr, kind: kind})
		n.counted(+1)
	}
	return w, i, item
}

// tree returns where the tree of an attribute's values of a kind is in w, or belongs.
func (w *ways) tree(attr event.Attr, kind event.Kind) (i int, found bool) {
	return sort.Find(len(w.trees), func(i int) int {
		t := &w.trees[i]
		return cmp.Or(cmp.Compare(attr, t.attr), cmp.Compare(kind, t.kind))
	})
}
