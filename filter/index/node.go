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

// node is a node of the trie. The conjunctions below it share the predicates on the way to
// it. A few conjunctions are kept as a list, and tested one after the other. When there are
// more, each is filed further down by its next predicate, or, if it has none left to be
// filed under, in a tree.
type node struct {
	gen      cow.Gen
	entries  []byte // the list
	n        int32  // of entries in the list
	split    bool   // there were too many for a list
	children        // in order; none if byAttr is set
	byAttr   *attrIndex
}

// children is what is below a node.
type children struct {
	tables []table
	trees  []tree
}

// attrIndex holds the children of a node with many of them, by attribute. Adding a child
// does not move the others, and an event looks up only its own attributes. A tree without
// an attribute is filed with event_type, which all events have.
type attrIndex struct {
	children cow.Vector[attrChildren]
	n        int // tables and trees
}

type attrChildren struct {
	gen cow.Gen
	children
}

// childrenOf returns the list of children that those of an attribute are in, which may have
// those of other attributes, too. n is the writer's.
func (n *node) childrenOf(by *writer, a event.Attr) *children {
	if n.byAttr == nil && len(n.tables)+len(n.trees) < by.sizes.NodeChildren {
		return &n.children
	}
	if n.byAttr == nil {
		all := n.children
		n.children, n.byAttr = children{}, &attrIndex{n: len(all.tables) + len(all.trees)}
		for _, d := range all.tables {
			w := n.childrenOf(by, d.attr)
			w.tables = append(w.tables, d)
		}
		for _, t := range all.trees {
			w := n.childrenOf(by, t.attr)
			w.trees = append(w.trees, t)
		}
	}
	w := n.byAttr.children.Own(by.gen, uint32(a))
	if w.gen != by.gen {
		w.gen, w.tables, w.trees = by.gen, slices.Clone(w.tables), slices.Clone(w.trees)
	}
	return &w.children
}

// counted counts a child that was added or removed.
func (n *node) counted(more int) {
	if n.byAttr == nil {
		return
	}
	if n.byAttr.n += more; n.byAttr.n == 0 {
		n.byAttr = nil
	}
}

// entry is a conjunction at a node.
type entry struct {
	recipient recipient
	filed     byte   // how many more predicates it can be filed under
	code      []byte // its predicates, without those on the way to the node
}

// An entry in a node's list, integers little endian:
//
//	recipient 4 bytes | filed 1 byte | length of code uvarint | code
func appendEntry(b []byte, e entry) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(e.recipient))
	b = append(b, e.filed)
	b = binary.AppendUvarint(b, uint64(len(e.code)))
	return append(b, e.code...)
}

func nextEntry(b []byte) (e entry, rest []byte) {
	e.recipient, e.filed = recipient(binary.LittleEndian.Uint32(b)), b[4]
	size, n := shortUvarint(b[5:])
	b = b[5+n:]
	e.code = b[:size]
	return e, b[size:]
}

// table finds the child nodes for the values of one attribute, of one kind. It is of its
// node's generation.
type table struct {
	attr    event.Attr
	op      op         // opIn, opPrefix, opExists
	kind    event.Kind // of the values of opIn
	keys    hashTrie
	lengths []prefixLen // ascending, shared by copies and never changed; of opPrefix
}

// prefixLen counts the prefixes of one length.
type prefixLen struct{ bytes, n int }

func (n *node) empty() bool {
	return n.n == 0 && len(n.tables) == 0 && len(n.trees) == 0 && n.byAttr == nil
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

// file adds e to the node or below it.
func (x *Index) file(place **node, e entry) {
	n := ownNode(place, x.gen)
	if !n.split && int(n.n) < x.sizes.NodeEntries {
		n.entries = appendEntry(n.entries, e)
		n.n++
		return
	}
	n.split = true
	for rest := n.entries; len(rest) > 0; {
		var one entry
		one, rest = nextEntry(rest)
		x.fileOn(n, one)
	}
	n.entries, n.n = nil, 0
	x.fileOn(n, e)
}

// fileOn adds e below n.
func (x *Index) fileOn(n *node, e entry) {
	if e.filed == 0 {
		w, i, item := x.treeFor(n, e)
		switch t := &w.trees[i]; {
		case x.direct > 0:
			x.direct--
			t.insert(&x.writer, item)
		case t.postpone(item):
			x.pending = append(x.pending, pendingTree{n, t.attr, t.kind})
		}
		return
	}
	p, rest := next(e.code)
	for kind, text := range p.keys() {
		w, i := x.tableFor(n, p.attr, p.op, kind)
		d := &w.tables[i]
		at, isNew := d.keys.ref(&x.writer, hash(text), text)
		if isNew && d.op == opPrefix {
			d.count(len(text), 1)
		}
		x.file(at, entry{e.recipient, e.filed - 1, rest})
	}
}

// unfile removes e, which must be there, from the node or below it.
func (x *Index) unfile(place **node, e entry) {
	n := ownNode(place, x.gen)
	if n.split {
		x.unfileOn(n, e)
		return
	}
	for rest := n.entries; len(rest) > 0; {
		start := len(n.entries) - len(rest)
		var one entry
		one, rest = nextEntry(rest)
		if one.recipient == e.recipient && one.filed == e.filed && bytes.Equal(one.code, e.code) {
			n.entries = slices.Delete(n.entries, start, len(n.entries)-len(rest))
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
		if w := t.pending; w != nil {
			t.pending = nil
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
		w, i := x.tableFor(n, p.attr, p.op, kind)
		d := &w.tables[i]
		hash := hash(text)
		at, _ := d.keys.ref(&x.writer, hash, text)
		x.unfile(at, entry{e.recipient, e.filed - 1, rest})
		if !(*at).empty() {
			continue
		}
		d.keys.remove(&x.writer, hash, text)
		if d.op == opPrefix {
			d.count(len(text), -1)
		}
		if d.keys.n == 0 {
			w.tables = slices.Delete(w.tables, i, i+1)
			n.counted(-1)
		}
	}
}

// keys yields the keys that p files a conjunction under: the kind and the bytes of each
// value.
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

// tableFor returns the table of n for such keys, as a list and the index there. It is made
// if there is none. n is the writer's.
func (x *Index) tableFor(n *node, attr event.Attr, o op, kind event.Kind) (w *children, i int) {
	w = n.childrenOf(&x.writer, attr)
	i, found := sort.Find(len(w.tables), func(i int) int {
		d := &w.tables[i]
		return cmp.Or(cmp.Compare(attr, d.attr), cmp.Compare(o, d.op), cmp.Compare(kind, d.kind))
	})
	if !found {
		w.tables = slices.Insert(w.tables, i, table{attr: attr, op: o, kind: kind})
		n.counted(+1)
	}
	return w, i
}

// count counts a prefix of a length that was added or removed.
func (d *table) count(bytes, n int) {
	d.lengths = slices.Clone(d.lengths)
	i, found := slices.BinarySearchFunc(d.lengths, bytes, func(l prefixLen, b int) int { return cmp.Compare(l.bytes, b) })
	if !found {
		d.lengths = slices.Insert(d.lengths, i, prefixLen{bytes: bytes})
	}
	if d.lengths[i].n += n; d.lengths[i].n == 0 {
		d.lengths = slices.Delete(d.lengths, i, i+1)
	}
}

// treeFor returns the tree of n for e, as a list and the index there, and e as it is kept in
// the tree: by the interval that comes first in its code, if one does. n is the writer's.
func (x *Index) treeFor(n *node, e entry) (w *children, i int, item treeEntry) {
	item = treeEntry{to: math.MaxUint64, recipient: e.recipient, code: e.code}
	var attr event.Attr
	kind := event.Other
	if len(e.code) > 0 {
		if p, rest := next(e.code); p.op == opInterval {
			s := openSpan(p.payload)
			attr, kind = p.attr, s.kind
			item.from, item.to, item.code = s.lo, s.hi, rest
		}
	}
	w = n.childrenOf(&x.writer, attr)
	i, found := w.tree(attr, kind)
	if !found {
		w.trees = slices.Insert(w.trees, i, tree{attr: attr, kind: kind})
		n.counted(+1)
	}
	return w, i, item
}

// tree returns the index in w of the tree for an attribute and a kind, or where it belongs.
func (w *children) tree(attr event.Attr, kind event.Kind) (i int, found bool) {
	return sort.Find(len(w.trees), func(i int) int {
		t := &w.trees[i]
		return cmp.Or(cmp.Compare(attr, t.attr), cmp.Compare(kind, t.kind))
	})
}
