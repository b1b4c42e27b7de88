package index

import (
	"cmp"
	"math"
	"slices"

	"eventstream/event"
	"eventstream/filter"
)

// decodedPredicate is a predicate as Go values: what is encoded, and what Export decodes.
type decodedPredicate struct {
	path   string
	op     op
	values []literal // of opIn, opNotIn
	text   string    // of opPrefix, opSuffix, opContains
	span   span      // of opInterval

	attr event.Attr // path's number
	code []byte     // the compact form
}

// compiler turns Specs into conjunctions of predicates. It reuses its memory.
type compiler struct {
	preds  []decodedPredicate
	values []literal
}

// compile returns the conjunction of s, which must be valid, with one alternative of Any
// and one of ExprAny. It is valid until the next call.
func (l *compiler) compile(s *filter.Spec, a, e filter.Where) []decodedPredicate {
	l.preds, l.values = l.preds[:0], l.values[:0]
	l.short(s)
	l.where(s.Where)
	l.where(a)
	l.where(e)
	if len(s.Where)+len(a)+len(e) > 0 { // the short fields alone have each path once
		l.merge()
	}
	return l.preds
}

func (l *compiler) add(p decodedPredicate) { l.preds = append(l.preds, p) }

// short adds the predicates that the short fields stand for.
func (l *compiler) short(s *filter.Spec) {
	for _, f := range s.ShortLists() {
		if len(f.Values) == 0 {
			continue
		}
		start := len(l.values)
		for _, v := range f.Values {
			l.values = append(l.values, literal{kind: event.String, text: v})
		}
		l.add(decodedPredicate{path: f.Path, op: opIn, values: l.values[start:len(l.values):len(l.values)]})
	}
	if s.MinAmount == nil && s.MaxAmount == nil {
		return
	}
	amount := span{kind: event.Number, hi: math.MaxUint64}
	if s.MinAmount != nil {
		amount.lo = event.NumberKey(*s.MinAmount)
	}
	if s.MaxAmount != nil {
		amount.hi = event.NumberKey(*s.MaxAmount)
	}
	l.add(decodedPredicate{path: "amount", op: opInterval, span: amount})
}

func (l *compiler) where(w filter.Where) {
	for path, t := range w {
		l.test(path, &t)
	}
}

func (l *compiler) test(path string, t *filter.Test) {
	l.list(path, opIn, one(t.Eq))
	l.list(path, opIn, t.In)
	l.list(path, opNotIn, one(t.Ne))
	l.list(path, opNotIn, t.NotIn)
	l.text(path, opPrefix, t.Prefix)
	l.text(path, opSuffix, t.Suffix)
	l.text(path, opContains, t.Contains)
	if within := spanOf(t); within.kind != event.Other {
		l.add(decodedPredicate{path: path, op: opInterval, span: within})
	}
	switch {
	case t.Exists == nil:
	case *t.Exists:
		l.add(decodedPredicate{path: path, op: opExists})
	default:
		l.add(decodedPredicate{path: path, op: opMissing})
	}
}

// atLeastOne returns list, or one Where that always holds if there is none.
func atLeastOne(list []filter.Where) []filter.Where {
	if len(list) == 0 {
		return alwaysHolds
	}
	return list
}

var alwaysHolds = []filter.Where{nil}

func one(s *filter.Scalar) []filter.Scalar {
	if s == nil {
		return nil
	}
	return []filter.Scalar{*s}
}

func (l *compiler) list(path string, o op, list []filter.Scalar) {
	if len(list) == 0 {
		return
	}
	start := len(l.values)
	for _, s := range list {
		v := literal{kind: s.Kind(), text: s.Text()}
		if s.Kind() != event.String {
			v.key = s.Key()
		}
		l.values = append(l.values, v)
	}
	l.add(decodedPredicate{path: path, op: o, values: l.values[start:len(l.values):len(l.values)]})
}

func (l *compiler) text(path string, o op, text *string) {
	if text != nil {
		l.add(decodedPredicate{path: path, op: o, text: *text})
	}
}

// merge makes one notIn of all values that an attribute must not equal, and one interval
// of all its bounds.
func (l *compiler) merge() {
	slices.SortFunc(l.preds, func(a, b decodedPredicate) int { return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.op, b.op)) })
	merged := l.preds[:0]
	for _, p := range l.preds {
		if n := len(merged); n > 0 && merged[n-1].path == p.path && merged[n-1].op == p.op {
			last := &merged[n-1]
			switch p.op {
			case opNotIn:
				last.values = append(last.values, p.values...)
				continue
			case opInterval:
				last.span.lo, last.span.hi = max(last.span.lo, p.span.lo), min(last.span.hi, p.span.hi)
				continue
			}
		}
		merged = append(merged, p)
	}
	l.preds = merged
}

// spanOf returns t's bounds as an interval with both ends included, of kind Other
// if there are none. Between two neighbouring values there is no other, so that
// "greater than" is "from the next one on".
func spanOf(t *filter.Test) span {
	s := span{hi: math.MaxUint64}
	if len(t.Between) == 2 {
		s.from(&t.Between[0], 0)
		s.to(&t.Between[1], 0)
	}
	s.from(t.Gte, 0)
	s.from(t.Gt, 1)
	s.to(t.Lte, 0)
	s.to(t.Lt, 1)
	return s
}

func (s *span) from(bound *filter.Scalar, past uint64) {
	if bound != nil {
		s.kind, s.lo = bound.Kind(), max(s.lo, bound.Key()+past)
	}
}

func (s *span) to(bound *filter.Scalar, short uint64) {
	if bound != nil {
		s.kind, s.hi = bound.Kind(), min(s.hi, bound.Key()-short)
	}
}
