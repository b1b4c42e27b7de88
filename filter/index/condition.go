package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
	"slices"

	"eventstream/filter"
)

// Condition is what a Spec asks for, without its subscriber, in compact form. All Specs
// that ask for the same share one Condition. It belongs to the Index that made it.
type Condition struct {
	size      uint32    // bytes of its text, drawn below
	recipient recipient // the Slots that have it
	users     int32     // references: Intern takes one, Release gives it back
	next      uint32    // place of the next Condition with the same hash; 0: none
}

// The text of a Condition. Two Conditions are equal if their alternatives are:
//
//	length of the plans uvarint | plan of each alternative
//	for each alternative: length uvarint | predicates, in the order of their bytes
//
// A plan is the order in which the predicates of an alternative are used: first those that
// it is filed under, the most selective first; then the interval that orders it in its
// tree; then the rest. It is made once. Otherwise an alternative would not be found again
// where it was filed, since selectivity changes.
//
//	how many predicates it is filed under | for each predicate, its index in the alternative
//
// Each is one byte.

// maxSpread bounds how many places an alternative may be filed at, unless it is
// filed under one long list only.
const maxSpread = 64

// Intern returns the Condition of s, which must be valid, and takes a reference to it. The
// caller gives the reference back by Release.
func (x *Index) Intern(s *filter.Spec) *Condition { return x.intern(x.alternatives(s)) }

func (x *Index) intern(all []conjunction) *Condition {
	text := x.text[:0]
	for _, a := range all {
		text = binary.AppendUvarint(text, uint64(len(a.code)))
		text = append(text, a.code...)
	}
	x.text = text
	key := hash(text)
	if c := x.conditions.find(key, text); c != nil {
		c.users++
		return c
	}
	size := 0
	for _, a := range all {
		size += len(a.plan)
	}
	head := binary.AppendUvarint(x.code[:0], uint64(size))
	for _, a := range all {
		head = append(head, a.plan...)
	}
	c := x.conditions.add(key, head, text)
	x.code = head
	for code := range c.codes() {
		x.countUsers(code, 1)
	}
	return c
}

// Release gives back a reference. With the last one the Condition is gone: no Slot may have
// it then.
func (x *Index) Release(c *Condition) {
	if c.users--; c.users > 0 {
		return
	}
	if c.recipient != nobody {
		panic("index: released a Condition that is in the Index")
	}
	for code := range c.codes() {
		x.countUsers(code, -1)
	}
	x.conditions.remove(c)
}

// codes yields the predicates of each alternative, in the order of their bytes.
func (c *Condition) codes() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, rest := c.parts(); len(rest) > 0; {
			var code []byte
			if code, rest = nextAlternative(rest); !yield(code) {
				return
			}
		}
	}
}

// nextAlternative splits off the predicates of the first alternative.
func nextAlternative(b []byte) (code, rest []byte) {
	size, n := shortUvarint(b)
	b = b[n:]
	return b[:size], b[size:]
}

// conjunction is an alternative of a Condition that is being made.
type conjunction struct {
	code []byte // predicates in the order of their bytes
	plan []byte
}

// alternatives returns the alternatives of s, in an order that does not depend on how s is
// written. They are valid until the next call.
func (x *Index) alternatives(s *filter.Spec) []conjunction {
	x.buf = x.buf[:0]
	all := x.all[:0]
	for _, a := range atLeastOne(s.Any) {
		for _, e := range atLeastOne(s.ExprAny) {
			all = append(all, x.compact(x.compiler.compile(s, a, e)))
		}
	}
	x.all = all
	return sortConjunctions(all)
}

func sortConjunctions(all []conjunction) []conjunction {
	if len(all) == 1 {
		return all
	}
	slices.SortFunc(all, func(a, b conjunction) int { return bytes.Compare(a.code, b.code) })
	return slices.CompactFunc(all, func(a, b conjunction) bool { return bytes.Equal(a.code, b.code) })
}

// compact encodes the predicates of a conjunction and makes its plan.
func (x *Index) compact(preds []decodedPredicate) (c conjunction) {
	for i := range preds {
		p := &preds[i]
		p.attr = x.attr(p.path)
		p.encode(x)
		x.attrs[p.attr].saw(p)
	}
	byCode := x.byCode[:0]
	for i := range preds {
		byCode = append(byCode, &preds[i])
	}
	slices.SortFunc(byCode, func(a, b *decodedPredicate) int { return bytes.Compare(a.code, b.code) })
	byCode = slices.CompactFunc(byCode, func(a, b *decodedPredicate) bool { return bytes.Equal(a.code, b.code) })
	x.byCode = byCode
	c.code = x.write(func(b []byte) []byte {
		for _, p := range byCode {
			b = append(b, p.code...)
		}
		return b
	})
	c.plan = x.write(func(b []byte) []byte { return x.appendPlan(b, byCode) })
	return c
}

// write returns what append appends to the scratch buffer.
func (x *Index) write(appendTo func([]byte) []byte) []byte {
	start := len(x.buf)
	x.buf = appendTo(x.buf)
	return x.buf[start:len(x.buf):len(x.buf)]
}

// encode gives p its compact form.
func (p *decodedPredicate) encode(x *Index) {
	payload := x.write(func(b []byte) []byte {
		switch p.op {
		case opIn, opNotIn:
			p.values = sortLiterals(p.values)
			return appendList(b, p.values)
		case opInterval:
			return p.span.append(b)
		}
		return append(b, p.text...)
	})
	p.code = x.write(func(b []byte) []byte { return appendPredicate(b, predicate{p.op, p.attr, payload}) })
}

// appendPlan appends the plan of a conjunction: what it is filed under, and the order of
// the rest.
func (x *Index) appendPlan(b []byte, preds []*decodedPredicate) []byte {
	var room [filter.MaxPredicates]ranked
	order := room[:0]
	for i, p := range preds {
		order = append(order, ranked{byte(i), x.rank(p)})
	}
	slices.SortStableFunc(order, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	filed := len(b)
	b = append(b, 0)
	spread := 1
	for i, o := range order {
		p := preds[o.at]
		n := max(1, len(p.values))
		if p.op.files() && (n == 1 || worthFiling(n, o.rank) && (spread == 1 || spread*n <= maxSpread)) {
			spread *= n
			b[filed]++
			b = append(b, o.at)
			order[i].rank = -1
		}
	}
	// The interval that orders an entry in its tree must come next.
	for _, interval := range []bool{true, false} {
		for _, o := range order {
			if o.rank >= 0 && (preds[o.at].op == opInterval) == interval {
				b = append(b, o.at)
			}
		}
	}
	return b
}

// worthFiling reports whether an alternative should be filed under n values. passing is the
// share of events that have one of them: if it is large, filing spares few tests.
func worthFiling(n int, passing float64) bool { return n <= 8 || passing <= 0.25 }

type ranked struct {
	at   byte
	rank float64
}

// rank estimates the share of events that pass a predicate, by how many values its
// attribute has. Predicates that nothing can be filed under come last.
func (x *Index) rank(p *decodedPredicate) float64 {
	distinct := x.attrs[p.attr].distinct
	switch p.op {
	case opIn:
		return min(1, float64(len(p.values))/distinct)
	case opPrefix:
		return min(1, 2/distinct)
	case opExists:
		return 1
	case opInterval:
		if p.span.lo > 0 && p.span.hi < ^uint64(0) {
			return 2
		}
		return 3
	}
	return 4 + float64(p.op)
}

// programs yields the alternatives of c as entries, in the order of their plans. The code
// of an entry is in buf, or in what buf has grown to, until the next one.
func (c *Condition) programs(buf []byte) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		var room [filter.MaxPredicates][]byte
		for plans, alternatives := c.parts(); len(alternatives) > 0; {
			var code []byte
			code, alternatives = nextAlternative(alternatives)
			preds := room[:0]
			for len(code) > 0 {
				_, rest := next(code)
				preds, code = append(preds, code[:len(code)-len(rest)]), rest
			}
			filed, order := plans[0], plans[1:1+len(preds)]
			plans = plans[1+len(preds):]
			buf = buf[:0]
			for _, i := range order {
				buf = append(buf, preds[i]...)
			}
			if !yield(entry{recipient: c.recipient, filed: filed, code: buf}) {
				return
			}
		}
	}
}
