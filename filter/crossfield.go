package filter

import (
	"fmt"
	"maps"
	"slices"

	"eventstream/event"
)

// checkTogether checks what conditions are when they come together. Each of
// them must be right by itself.
func (s *Spec) checkTogether(bad *Invalid) {
	base := append(s.shortGivens(), s.Where.givens("/where")...)
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
	anys := givensOfAll(s.Any, anyField)
	for i, a := range anys {
		bad.conjunction(fmt.Sprintf("/any/%d", i), slices.Concat(base, a), len(base))
	}
	if len(bad.Problems) > before {
		return
	}
	exprs := givensOfAll(s.ExprAny, func(int) string { return exprField })
	bad.product(base, anys, exprs)
	s.checkBreadth(base, anys, exprs, bad)
}

// anyField is where an alternative of Any stands, as a JSON Pointer.
func anyField(i int) string { return fmt.Sprintf("/any/%d", i) }

// checkSizes checks the limits of the whole.
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

// shortGivens lists the short fields as the operators that they are short for.
func (s *Spec) shortGivens() []given {
	var gs []given
	for _, l := range s.ShortLists() {
		if len(l.Values) == 0 {
			continue
		}
		g := given{within: l.Field, short: true, path: l.Path, op: "in"}
		for _, v := range l.Values {
			g.values = append(g.values, Text(v))
		}
		gs = append(gs, g)
	}
	for _, a := range s.shortAmounts() {
		if a.value != nil {
			gs = append(gs, given{within: a.at, short: true, path: "amount", op: a.op, values: []Scalar{Num(*a.value)}})
		}
	}
	return gs
}

// givens lists the operators of all tests of w, which is at the JSON Pointer at.
func (w Where) givens(at string) []given {
	var gs []given
	for _, path := range slices.Sorted(maps.Keys(w)) {
		t := w[path]
		gs = append(gs, t.givens(at, path)...)
	}
	return gs
}

// givensOfAll lists the operators of each alternative; those of nothing if there
// are none, so that there is always one.
func givensOfAll(list []Where, at func(i int) string) [][]given {
	if len(list) == 0 {
		return [][]given{nil}
	}
	out := make([][]given, len(list))
	for i, w := range list {
		out[i] = w.givens(at(i))
	}
	return out
}

// conjunction adds what keeps gs from holding together. What is only about those
// before from has been told.
func (e *Invalid) conjunction(at string, gs []given, from int) {
	if from == len(gs) {
		return
	}
	if e.tooMany(at, gs) {
		return
	}
	for _, c := range conflicts(gs, from) {
		c.given.add(e, "", "%s", c.detail)
	}
}

// tooMany adds that gs are more than may hold together, and reports it. What they
// mean together is not looked at then: that takes a comparison of each with each.
func (e *Invalid) tooMany(at string, gs []given) bool {
	n := 0
	intervals := make(map[string]bool)
	for _, g := range gs {
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

// product checks each of anys with each of exprs. The latter are what the
// translation made, not what somebody wrote: that some never hold is fine, as
// long as there are others.
func (e *Invalid) product(base []given, anys, exprs [][]given) {
	var first *conflict
	alive := false
	for _, a := range anys {
		for _, x := range exprs {
			gs := slices.Concat(base, a, x)
			if e.tooMany(exprField, gs) {
				return
			}
			found := conflicts(gs, len(base)+len(a))
			alive = alive || len(found) == 0
			for _, c := range found {
				if c.mixed {
					e.once(exprField, c.given.path+", "+c.given.op+": "+c.detail)
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
	first.given.add(e, "", "%s", first.detail)
}

// once adds a problem that may have been found before.
func (e *Invalid) once(at, detail string) {
	if p := (Problem{at, detail}); !slices.Contains(e.Problems, p) {
		e.add(at, "%s", detail)
	}
}

// checkBreadth refuses alternatives that an index can't find, unless MatchAll
// says that they are meant.
func (s *Spec) checkBreadth(base []given, anys, exprs [][]given, bad *Invalid) {
	if s.MatchAll {
		return
	}
	for i, a := range anys {
		for _, x := range exprs {
			if slices.ContainsFunc(slices.Concat(base, a, x), given.selective) {
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
func broad(base []given, anys, exprs [][]given) bool {
	selective := func(gs []given) bool { return slices.ContainsFunc(gs, given.selective) }
	return !selective(base) && (slices.ContainsFunc(anys, func(a []given) bool {
		return !selective(a) && slices.ContainsFunc(exprs, func(x []given) bool { return !selective(x) })
	}))
}

const tooBroad = `would have to be tried against every event: add a condition with eq, in, prefix, gt, gte, lt, lte or between, ` +
	`or with "exists": true on an attribute other than event_type, or confirm with "match_all": true`

// selective reports whether an index can find a conjunction by g.
func (g given) selective() bool {
	switch g.op {
	case "eq", "in", "prefix":
		return true
	case "exists":
		return g.values[0] == Flag(true) && g.path != "event_type"
	}
	return g.ordered()
}

// ordered reports whether g is part of an interval.
func (g given) ordered() bool {
	switch g.op {
	case "gt", "gte", "lt", "lte", "between":
		return true
	}
	return false
}

// conflict tells why a conjunction can't hold, at the later of two operators.
type conflict struct {
	given  given
	detail string
	mixed  bool // numbers and timestamps in one interval
}

// conflicts returns the plain reasons why gs can't hold together that involve
// one from the place from on.
func conflicts(gs []given, from int) []conflict {
	return slices.Concat(missing(gs, from), excluded(gs, from), emptied(gs, from))
}

// missing finds values asked of an attribute that must not exist.
func missing(gs []given, from int) []conflict {
	var out []conflict
	for i, g := range gs {
		if g.op != "exists" || g.values[0] != Flag(false) {
			continue
		}
		for k, h := range gs {
			negative := h.op == "ne" || h.op == "not_in" || h.op == "exists" && h.values[0] == Flag(false)
			if h.path != g.path || negative || max(i, k) < from {
				continue
			}
			detail := fmt.Sprintf("an attribute that is missing passes no %s (%s)", h.op, h.at())
			if k > i {
				detail = fmt.Sprintf("an attribute that is missing (%s) passes no %s", g.at(), h.op)
			}
			out = append(out, conflict{given: gs[max(i, k)], detail: detail})
			break
		}
	}
	return out
}

// excluded finds lists of which ne and not_in leave nothing.
func excluded(gs []given, from int) []conflict {
	var out []conflict
	for i, g := range gs {
		if g.op != "eq" && g.op != "in" {
			continue
		}
		last := -1
		for k, h := range gs {
			if h.excludes(g.path) {
				last = k
			}
		}
		later := max(i, last)
		if last < 0 || later < from {
			continue
		}
		not := make(map[Scalar]bool)
		for _, h := range gs {
			if h.excludes(g.path) {
				for _, v := range h.values {
					not[v] = true
				}
			}
		}
		if slices.ContainsFunc(g.values, func(v Scalar) bool { return !not[v] }) {
			continue
		}
		detail := fmt.Sprintf("all that %s asks for is excluded by %s (%s)", g.op, gs[last].op, gs[last].at())
		if last > i {
			detail = fmt.Sprintf("excludes all that %s (%s) asks for", g.op, g.at())
		}
		out = append(out, conflict{given: gs[later], detail: detail})
	}
	return out
}

// excludes reports whether g forbids values of an attribute.
func (g *given) excludes(path string) bool {
	return g.path == path && (g.op == "ne" || g.op == "not_in")
}

// reach is what is left of an attribute's interval, both ends included.
type reach struct {
	first, above, below *given // the first one, and what made lo and hi
	lo, hi              uint64
}

// emptied finds intervals in which no value can lie.
func emptied(gs []given, from int) []conflict {
	var out []conflict
	reaches := make(map[string]*reach)
	for k := range gs {
		g := &gs[k]
		if !g.ordered() {
			continue
		}
		r := reaches[g.path]
		if r == nil {
			r = &reach{first: g, hi: ^uint64(0)}
			reaches[g.path] = r
		}
		if detail := r.mixed(g); detail != "" {
			if k >= from {
				out = append(out, conflict{*g, detail, true})
			}
			continue
		}
		wasEmpty := r.lo > r.hi
		r.narrow(g)
		if r.lo > r.hi && !wasEmpty && k >= from {
			out = append(out, conflict{given: *g, detail: r.emptiness(g)})
		}
	}
	return out
}

// mixed says which numbers and timestamps g would bring together, or "".
func (r *reach) mixed(g *given) string {
	const one = "an attribute has one interval, of numbers or of timestamps"
	for _, v := range g.values {
		if v.kind != g.values[0].kind {
			return fmt.Sprintf("from is %s, but to is %s; %s", kind(g.values[0]), kind(v), one)
		}
	}
	if got, want := kind(g.values[0]), kind(r.first.values[0]); got != want {
		return fmt.Sprintf("%s, but %s (%s) has %s; %s", got, r.first.op, r.first.at(), want, one)
	}
	return ""
}

func kind(v Scalar) string {
	if v.kind == event.Number {
		return "a number"
	}
	return "a timestamp"
}

func (r *reach) narrow(g *given) {
	from, to, end := r.lo, r.hi, g.values[0].Key()
	switch g.op {
	case "gt":
		from = end + 1
	case "gte":
		from = end
	case "lt":
		to = end - 1
	case "lte":
		to = end
	case "between":
		from, to = end, g.values[1].Key()
	}
	if from > r.lo {
		r.lo, r.above = from, g
	}
	if to < r.hi {
		r.hi, r.below = to, g
	}
}

// emptiness says why nothing is left after g.
func (r *reach) emptiness(g *given) string {
	if r.above == r.below {
		return fmt.Sprintf("empty: from %s is greater than to %s", show(g.values[0]), show(g.values[1]))
	}
	other := r.above
	if other == g {
		other = r.below
	}
	return fmt.Sprintf("empty: no value is both %s and %s (%s)", g.bound(), other.bound(), other.at())
}

// bound writes an operator of an interval for people to read.
func (g *given) bound() string {
	if g.op == "between" {
		return fmt.Sprintf("between [%s,%s]", show(g.values[0]), show(g.values[1]))
	}
	return g.op + " " + show(g.values[0])
}
