package filter

import (
	"fmt"
	"maps"
	"slices"
)

// checkCombined checks conditions against each other. Each must be valid alone.
func (s *Spec) checkCombined(bad *Invalid) {
	base := append(s.shortOperators(), s.Where.operators("/where")...)
	if len(base)+len(s.Any)+len(s.ExprAny) == 0 {
		if !s.MatchAll {
			bad.add("", "no condition: this filter would match every event; give %s, or confirm with \"match_all\": true", conditionNames)
		}
		return
	}
	before := len(bad.Problems)
	s.checkSizes(bad)
	bad.conjunction("/where", base, 0)
	if len(bad.Problems) > before {
		return
	}
	anys := operatorsOfEach(s.Any, anyField)
	for i, a := range anys {
		bad.conjunction(fmt.Sprintf("/any/%d", i), slices.Concat(base, a), len(base))
	}
	if len(bad.Problems) > before {
		return
	}
	exprs := operatorsOfEach(s.ExprAny, func(int) string { return exprField })
	bad.product(base, anys, exprs)
	s.checkBreadth(base, anys, exprs, bad)
}

// anyField returns the JSON Pointer of an alternative of Any.
func anyField(i int) string { return fmt.Sprintf("/any/%d", i) }

// checkSizes checks the limits of the whole Spec.
func (s *Spec) checkSizes(bad *Invalid) {
	n, m := len(s.Any), len(s.ExprAny)
	switch {
	case n > MaxAlternatives:
		bad.add("/any", "%d alternatives; at most %d are allowed", n, MaxAlternatives)
	case m > MaxAlternatives:
		bad.add(exprField, "comes to %d alternatives; at most %d are allowed", m, MaxAlternatives)
	case n*m > MaxAlternatives:
		bad.add(exprField, "comes to %d alternatives, and to %d with each of the %d of any; at most %d are allowed", m, n*m, n, MaxAlternatives)
	}
	if n := s.values(); n > MaxValues {
		bad.add("", "%d values in all lists together; at most %d are allowed", n, MaxValues)
	}
}

// values counts the values in all lists.
func (s *Spec) values() int {
	n := 0
	for _, l := range s.ShortLists() {
		n += len(l.Values)
	}
	for _, w := range slices.Concat([]Where{s.Where}, s.Any, s.ExprAny) {
		for _, t := range w {
			n += len(t.In) + len(t.NotIn)
		}
	}
	return n
}

// shortOperators lists the short fields as the operators that they are short for.
func (s *Spec) shortOperators() []operator {
	var ops []operator
	for _, l := range s.ShortLists() {
		if len(l.Values) == 0 {
			continue
		}
		g := operator{within: l.Field, short: true, path: l.Path, op: "in"}
		for _, v := range l.Values {
			g.values = append(g.values, Text(v))
		}
		ops = append(ops, g)
	}
	for _, a := range s.shortAmounts() {
		if a.value != nil {
			ops = append(ops, operator{within: a.at, short: true, path: "amount", op: a.op, values: []Scalar{Num(*a.value)}})
		}
	}
	return ops
}

// operators lists the operators of all tests of w, which is at the JSON Pointer at.
func (w Where) operators(at string) []operator {
	var ops []operator
	for _, path := range slices.Sorted(maps.Keys(w)) {
		t := w[path]
		ops = append(ops, t.operators(at, path)...)
	}
	return ops
}

// operatorsOfEach lists the operators of each alternative. Without alternatives it returns
// one that has no operators.
func operatorsOfEach(list []Where, at func(i int) string) [][]operator {
	if len(list) == 0 {
		return [][]operator{nil}
	}
	out := make([][]operator, len(list))
	for i, w := range list {
		out[i] = w.operators(at(i))
	}
	return out
}

// conjunction adds conflicts among ops, which must all hold. Conflicts only among ops[:from]
// were already reported.
func (e *Invalid) conjunction(at string, ops []operator, from int) {
	if from == len(ops) {
		return
	}
	if e.tooMany(at, ops) {
		return
	}
	for _, c := range conflicts(ops, from) {
		c.operator.add(e, "", "%s", c.detail)
	}
}

// tooMany reports whether ops exceed MaxPredicates, and adds that as a problem. Conflicts
// are then not looked for, as that compares each with each.
func (e *Invalid) tooMany(at string, ops []operator) bool {
	n := 0
	intervals := make(map[string]bool)
	for _, g := range ops {
		if g.ordered() && intervals[g.path] {
			continue
		}
		if g.ordered() {
			intervals[g.path] = true
		}
		n++
	}
	if n > MaxPredicates {
		e.once(at, fmt.Sprintf("%d tests must hold together, with those of the short fields and of where; at most %d are allowed", n, MaxPredicates))
	}
	return n > MaxPredicates
}

// product checks each of anys with each of exprs. The latter come from the translation of
// expr, not from the author: some of them may never hold, as long as others can.
func (e *Invalid) product(base []operator, anys, exprs [][]operator) {
	var first *conflict
	alive := false
	for _, a := range anys {
		for _, x := range exprs {
			ops := slices.Concat(base, a, x)
			if e.tooMany(exprField, ops) {
				return
			}
			found := conflicts(ops, len(base)+len(a))
			alive = alive || len(found) == 0
			for _, c := range found {
				if c.mixed {
					e.once(exprField, c.operator.path+", "+c.operator.op+": "+c.detail)
				} else if first == nil {
					first = &c
				}
			}
		}
	}
	if alive || first == nil {
		return
	}
	if len(anys)*len(exprs) > 1 {
		first.detail += "; and so with all other alternatives"
	}
	first.operator.add(e, "", "%s", first.detail)
}

// once adds a problem, unless it was added before.
func (e *Invalid) once(at, detail string) {
	if p := (Problem{at, detail}); !slices.Contains(e.Problems, p) {
		e.add(at, "%s", detail)
	}
}

// checkBreadth refuses alternatives that an index can't find by any look-up, unless MatchAll
// confirms them.
func (s *Spec) checkBreadth(base []operator, anys, exprs [][]operator, bad *Invalid) {
	if s.MatchAll {
		return
	}
	for i, a := range anys {
		for _, x := range exprs {
			if slices.ContainsFunc(slices.Concat(base, a, x), operator.selective) {
				continue
			}
			at := ""
			switch {
			case len(s.Any) > 0:
				at = fmt.Sprintf("/any/%d", i)
			case len(s.ExprAny) > 0:
				at = exprField
			}
			bad.once(at, tooBroad)
		}
	}
}

// broad reports whether there is an alternative that an index can't find.
func broad(base []operator, anys, exprs [][]operator) bool {
	selective := func(ops []operator) bool { return slices.ContainsFunc(ops, operator.selective) }
	return !selective(base) && (slices.ContainsFunc(anys, func(a []operator) bool {
		return !selective(a) && slices.ContainsFunc(exprs, func(x []operator) bool { return !selective(x) })
	}))
}

const tooBroad = `would have to be tried against every event: add a condition with eq, in, prefix, gt, gte, lt, lte or between, ` +
	`or with "exists": true on an attribute other than event_type, or confirm with "match_all": true`

// selective reports whether an index can find a conjunction by g.
func (g operator) selective() bool {
	switch g.op {
	case "eq", "in", "prefix":
		return true
	case "exists":
		return g.values[0] == Flag(true) && g.path != "event_type"
	}
	return g.ordered()
}

// ordered reports whether g is part of an interval.
func (g operator) ordered() bool {
	switch g.op {
	case "gt", "gte", "lt", "lte", "between":
		return true
	}
	return false
}
