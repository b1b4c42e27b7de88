package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
	"slices"

	"eventstream/filter"
)

// Condition is what a Spec asks for, apart from who asks, in compact form.
// Specs that ask for the same have one Condition, however many they are. It
// belongs to the Index that made it.
type Condition struct {
	size  uint32 // bytes of its text, see below
	word  word   // who is to get what matches
	users int32  // Specs that hold it
	next  uint32 // place of another one with the same hash; 0: none
}

// The text of a Condition begins with how its alternatives are filed; what makes
// two of them equal comes after that:
//
//	length of the plans uvarint | plan of each alternative
//	for each alternative: length uvarint | predicates, in the order of their bytes
//
// A plan tells in which order an alternative is looked at: first what it is
// filed under, the most selective one first; then the interval by which it is
// kept in order; then the rest. It is made once, so that an alternative is found
// again where it was put.
//
//	how many predicates it is filed under | for each predicate, its place among them
//
// Each is one byte.

// maxSpread bounds how many places an alternative may be filed at, unless it is
// filed under one long list only.
const maxSpread = 64

// Intern returns the Condition of s, which must be valid. The caller releases it
// when it has no more use for it.
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

// Release gives back a Condition. It must not be in the Index any more when its
// last holder releases it.
func (x *Index) Release(c *Condition) {
	if c.users--; c.users > 0 {
		return
	}
	if c.word != nobody {
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

// nextAlternative returns the predicates of the first alternative, and those that
// come after it.
func nextAlternative(b []byte) (code, rest []byte) {
	size, n := shortUvarint(b)
	b = b[n:]
	return b[:size], b[size:]
}

// conjunction is an alternative on its way into a Condition.
type conjunction struct {
	code []byte // predicates in the order of their bytes
	plan []byte
}

// alternatives returns those of s, in an order that doesn't depend on how s says
// it. They are valid until the next call.
func (x *Index) alternatives(s *filter.Spec) []conjunction {
	x.buf = x.buf[:0]
	all := x.all[:0]
	for _, a := range atLeastOne(s.Any) {
		for _, e := range atLeastOne(s.ExprAny) {
			all = append(all, x.compact(x.lowerer.lower(s, a, e)))
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

// compact numbers the attributes of a conjunction, and plans how it is filed.
func (x *Index) compact(preds []lowered) (c conjunction) {
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
	slices.SortFunc(byCode, func(a, b *lowered) int { return bytes.Compare(a.code, b.code) })
	byCode = slices.CompactFunc(byCode, func(a, b *lowered) bool { return bytes.Equal(a.code, b.code) })
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
func (p *lowered) encode(x *Index) {
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

// appendPlan chooses what a conjunction is filed under, and in which order the
// rest is looked at.
func (x *Index) appendPlan(b []byte, preds []*lowered) []byte {
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
		if p.op.files() && (n == 1 || worth(n, o.rank) && (spread == 1 || spread*n <= maxSpread)) {
			spread *= n
			b[filed]++
			b = append(b, o.at)
			order[i].rank = -1
		}
	}
	// An interval that is to give an entry its place must come next.
	for _, interval := range []bool{true, false} {
		for _, o := range order {
			if o.rank >= 0 && (preds[o.at].op == opInterval) == interval {
				b = append(b, o.at)
			}
		}
	}
	return b
}

// worth reports whether to file something at n places keeps enough events away
// from it, of which a share of passing meets it anyway.
func worth(n int, passing float64) bool { return n <= 8 || passing <= 0.25 }

type ranked struct {
	at   byte
	rank float64
}

// rank estimates which share of the events passes a predicate, by how many
// values its attribute has. What can't be filed under comes last.
func (x *Index) rank(p *lowered) float64 {
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

// programs yields the alternatives of c as they are filed, each as one entry. Its
// code is in buf, or in what buf has grown to.
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
			if !yield(entry{word: c.word, filed: filed, code: buf}) {
				return
			}
		}
	}
}
