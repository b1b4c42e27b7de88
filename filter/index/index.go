// Package index finds the subscribers whose filters match an event, without trying the
// filters one by one. It does what filter.Spec.Match does, for millions of filters at once.
//
// An Index is changed by one goroutine and matched against by any number: a Snapshot of
// it never changes. The package does no I/O.
package index

import (
	"hash/maphash"
	"math"
	"math/bits"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/cow"
)

// Index finds the Slots whose Conditions match an event. It is a trie. Each alternative of
// a Condition is filed under the most selective of its in, prefix and exists predicates, on
// as many levels as are needed to leave few at one node. Intervals are ordered in trees. The
// remaining predicates are tested on the candidates found there.
//
// One goroutine changes an Index. Any number of Matchers read Snapshots of it at the same
// time, without locks.
type Index struct {
	writer
	root       *node
	conditions arena
	n          int  // see Len
	top        Slot // the largest Slot that was ever in use

	postings cow.Vector[*posting]
	spare    []recipient // postings whose numbers are free
	numbered recipient   // how many numbers of postings there are

	attrs     []attribute // by event.Attr
	attrOf    map[string]event.Attr
	spareAttr []event.Attr
	paths     *event.Paths
	stale     bool // paths is behind attrs

	snapshot *Snapshot     // nil if something changed since it was taken
	direct   int           // entries that may still be inserted at once before the next Snapshot
	pending  []pendingTree // to be inserted before the next Snapshot

	compiler        compiler // scratch
	all             []conjunction
	byCode          []*decodedPredicate
	buf, text, code []byte
}

// attribute is an attribute that Conditions test.
type attribute struct {
	path  string // "" if the number is free
	users int    // predicates that use it, in all Conditions
	filed int    // predicates that use it, in Conditions that are in the index
	seen  [8]uint64

	distinct float64 // one more than the estimated number of its values
}

// New returns an empty Index. The zero Options are the defaults.
func New(o Options) *Index {
	x := &Index{
		writer: writer{gen: 1, sizes: new(o.withDefaults())}, root: &node{},
		conditions: newArena(), attrOf: make(map[string]event.Attr),
	}
	x.attrs = append(x.attrs, attribute{path: "event_type", users: 1, distinct: 1}) // event.TypeAttr, for good
	x.attrOf["event_type"] = event.TypeAttr
	return x
}

// Len is the number of pairs of a Condition and a Slot.
func (x *Index) Len() int { return x.n }

// Conditions is the number of different Conditions that have a reference.
func (x *Index) Conditions() int { return x.conditions.n }

// Add gives c to s: events that match c are found for s. It returns false if s has c.
func (x *Index) Add(c *Condition, s Slot) bool {
	switch {
	case c.recipient == nobody:
		x.changed()
		c.recipient = recipient(s)
		x.fileAll(c)
	case c.recipient == recipient(s):
		return false
	case c.recipient&shared == 0:
		x.changed()
		p := &posting{gen: x.gen}
		p.add(&x.writer, Slot(c.recipient))
		p.add(&x.writer, s)
		x.unfileAll(c)
		c.recipient = x.newPosting(p)
		x.fileAll(c)
	default:
		x.changed()
		if !x.posting(c.recipient).add(&x.writer, s) {
			return false
		}
	}
	x.n++
	x.top = max(x.top, s)
	return true
}

// Remove undoes Add. It returns false if s does not have c.
func (x *Index) Remove(c *Condition, s Slot) bool {
	switch {
	case c.recipient&shared != 0:
		x.changed()
		p := x.posting(c.recipient)
		if !p.remove(&x.writer, s) {
			return false
		}
		if p.n == 0 { // with one Slot it remains a posting: there may soon be two again
			x.unfileAll(c)
			*x.postings.Own(x.gen, uint32(c.recipient&^shared)) = nil
			x.spare = append(x.spare, c.recipient)
			c.recipient = nobody
		}
	case c.recipient == recipient(s):
		x.changed()
		x.unfileAll(c)
		c.recipient = nobody
	default:
		return false
	}
	x.n--
	return true
}

// posting returns a posting that the writer may change.
func (x *Index) posting(w recipient) *posting {
	p := x.postings.Own(x.gen, uint32(w&^shared))
	*p = (*p).own(x.gen)
	return *p
}

func (x *Index) newPosting(p *posting) recipient {
	w, ok := pop(&x.spare)
	if !ok {
		w = shared | x.numbered
		x.numbered++
	}
	*x.postings.Own(x.gen, uint32(w&^shared)) = p
	return w
}

func (x *Index) fileAll(c *Condition) {
	for e := range c.programs(x.code) {
		x.file(&x.root, e)
		x.countFiled(e.code, 1)
		x.code = e.code[:0]
	}
}

func (x *Index) unfileAll(c *Condition) {
	for e := range c.programs(x.code) {
		x.unfile(&x.root, e)
		x.countFiled(e.code, -1)
		x.code = e.code[:0]
	}
	if x.root.empty() {
		x.root.split = false
	}
}

// countFiled counts predicates that came into the index or left it. Events are decoded
// only for the attributes of predicates in the index.
func (x *Index) countFiled(code []byte, n int) {
	for len(code) > 0 {
		var p predicate
		p, code = next(code)
		a := &x.attrs[p.attr]
		before := a.filed
		a.filed += n
		x.stale = x.stale || (before == 0) != (a.filed == 0)
	}
}

// attr returns the number of an attribute, and gives it one if it has none.
func (x *Index) attr(path string) event.Attr {
	if a, ok := x.attrOf[path]; ok {
		return a
	}
	a, ok := pop(&x.spareAttr)
	if !ok {
		a = event.Attr(len(x.attrs))
		x.attrs = append(x.attrs, attribute{})
	}
	x.attrs[a] = attribute{path: path, distinct: 1}
	x.attrOf[path] = a
	return a
}

// countUsers counts predicates of Conditions that are made or gone.
func (x *Index) countUsers(code []byte, n int) {
	for len(code) > 0 {
		var p predicate
		p, code = next(code)
		a := &x.attrs[p.attr]
		if a.users += n; a.users == 0 {
			delete(x.attrOf, a.path)
			*a = attribute{}
			x.spareAttr = append(x.spareAttr, p.attr)
		}
	}
}

// saw counts p's values in the estimate of how many there are. It is linear counting
// (Whang et al., A Linear-Time Probabilistic Counting Algorithm, 1990).
func (a *attribute) saw(p *decodedPredicate) {
	switch p.op {
	case opIn:
		for i := range p.values {
			v := &p.values[i]
			a.sawHash(maphash.String(seed, v.text) + v.key*0x9e3779b97f4a7c15>>32)
		}
	case opPrefix:
		a.sawHash(maphash.String(seed, p.text))
	}
}

func (a *attribute) sawHash(h uint64) {
	if w, bit := &a.seen[h/64%8], uint64(1)<<(h%64); *w&bit == 0 {
		*w |= bit
		a.estimate()
	}
}

// estimate can tell up to some 3,000 values, which is selective enough.
func (a *attribute) estimate() {
	zeros := 512
	for _, w := range a.seen {
		zeros -= bits.OnesCount64(w)
	}
	a.distinct = 1 - 512*math.Log(float64(max(zeros, 1))/512)
}

// changed begins a new generation if the current one is in a Snapshot.
func (x *Index) changed() {
	if x.snapshot != nil {
		x.snapshot = nil
		x.gen++
		x.direct = x.sizes.DirectInserts
	}
}

// Snapshot is an Index as it was at one moment. It is safe for concurrent use.
type Snapshot struct {
	root     *node
	postings cow.Vector[*posting]
	paths    *event.Paths
	sizes    *Options
	top      Slot
}

// Paths returns what events have to be decoded with for this Snapshot.
func (s *Snapshot) Paths() *event.Paths { return s.paths }

// Snapshot returns the Index as it is now. It costs nothing if nothing changed.
func (x *Index) Snapshot() *Snapshot {
	if x.snapshot != nil {
		return x.snapshot
	}
	x.insertPending()
	if x.stale || x.paths == nil {
		x.paths, x.stale = x.newPaths(), false
	}
	x.snapshot = &Snapshot{root: x.root, postings: x.postings, paths: x.paths, sizes: x.sizes, top: x.top}
	return x.snapshot
}

func (x *Index) newPaths() *event.Paths {
	paths := make([]event.Path, len(x.attrs))
	for i := range x.attrs {
		if a := &x.attrs[i]; a.filed > 0 || i == int(event.TypeAttr) {
			paths[i], _ = filter.ParsePath(a.path)
		}
	}
	return event.NewPaths(paths)
}
