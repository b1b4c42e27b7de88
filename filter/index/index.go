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

// Index finds the Slots whose conditions match an event. It is a trie: each
// alternative of a condition is filed under the most selective of its in, prefix
// and exists predicates, on two or three levels, as far as there are many that
// share the way; intervals keep their order in trees; what remains is run on the
// candidates that are found there.
//
// One goroutine changes an Index. Matchers read Snapshots of it side by side,
// without locks, and each Snapshot stays as it is.
type Index struct {
	writer
	root       *node
	conditions conditions
	n          int  // pairs of a Condition and a Slot
	top        Slot // no Slot in use is larger

	postings cow.Vector[*posting]
	spare    []word // free numbers of postings, shared set
	numbered word   // how many there are

	attrs     []attribute // by event.Attr
	attrOf    map[string]event.Attr
	spareAttr []event.Attr
	paths     *event.Paths
	stale     bool // paths is behind attrs

	snapshot *Snapshot     // nil if something changed since it was taken
	direct   int           // entries that trees still get one by one before the next Snapshot
	waiting  []waitingTree // those whose entries are to be inserted before the next Snapshot

	lowerer         lowerer // scratch
	all             []conjunction
	byCode          []*lowered
	buf, text, code []byte
}

// attribute is an attribute that conditions ask for.
type attribute struct {
	path  string // "" if the number is free
	users int    // predicates of Conditions
	filed int    // of these, of those in the index
	seen  [8]uint64

	distinct float64 // estimate of how many values there are, and one more
}

// New returns an empty Index.
func New(o Options) *Index {
	x := &Index{
		writer: writer{gen: 1, sizes: new(o.withDefaults())}, root: &node{},
		conditions: newConditions(), attrOf: make(map[string]event.Attr),
	}
	x.attrs = append(x.attrs, attribute{path: "event_type", users: 1, distinct: 1}) // event.TypeAttr, for good
	x.attrOf["event_type"] = event.TypeAttr
	return x
}

// Len is the number of pairs of a Condition and a Slot.
func (x *Index) Len() int { return x.n }

// Conditions is the number of different Conditions that are held.
func (x *Index) Conditions() int { return x.conditions.n }

// Add makes s a recipient of what matches c. It reports false if it is one.
func (x *Index) Add(c *Condition, s Slot) bool {
	switch {
	case c.word == nobody:
		x.changed()
		c.word = word(s)
		x.fileAll(c)
	case c.word == word(s):
		return false
	case c.word&shared == 0:
		x.changed()
		p := &posting{gen: x.gen}
		p.add(&x.writer, Slot(c.word))
		p.add(&x.writer, s)
		x.unfileAll(c)
		c.word = x.newPosting(p)
		x.fileAll(c)
	default:
		x.changed()
		if !x.posting(c.word).add(&x.writer, s) {
			return false
		}
	}
	x.n++
	x.top = max(x.top, s)
	return true
}

// Remove undoes Add. It reports false if s was no recipient.
func (x *Index) Remove(c *Condition, s Slot) bool {
	switch {
	case c.word&shared != 0:
		x.changed()
		p := x.posting(c.word)
		if !p.remove(&x.writer, s) {
			return false
		}
		if p.n == 0 { // one alone stays as it is: it may soon be two again
			x.unfileAll(c)
			*x.postings.Own(x.gen, uint32(c.word&^shared)) = nil
			x.spare = append(x.spare, c.word)
			c.word = nobody
		}
	case c.word == word(s):
		x.changed()
		x.unfileAll(c)
		c.word = nobody
	default:
		return false
	}
	x.n--
	return true
}

// posting returns a posting for the writer.
func (x *Index) posting(w word) *posting {
	p := x.postings.Own(x.gen, uint32(w&^shared))
	*p = (*p).own(x.gen)
	return *p
}

func (x *Index) newPosting(p *posting) word {
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
		x.root.spread = false
	}
}

// countFiled notes that predicates came into the index, or left it: events are
// only decoded for those there.
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

// attr returns the number of an attribute, a new one if need be.
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

// countUsers notes that a Condition's predicates came, or went.
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

// saw takes values for the estimate of how many there are: linear counting
// (Whang et al., A Linear-Time Probabilistic Counting Algorithm, 1990).
func (a *attribute) saw(p *lowered) {
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

// estimate counts up to some 3,000 values, which is selective enough.
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

// Paths is what events have to be decoded with for this Snapshot.
func (s *Snapshot) Paths() *event.Paths { return s.paths }

// Snapshot returns the Index as it is now. It costs nothing if nothing changed.
func (x *Index) Snapshot() *Snapshot {
	if x.snapshot != nil {
		return x.snapshot
	}
	x.flushAll()
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
