package filter

import (
	"fmt"
	"slices"

	"eventstream/event"
)

// conflict is why a conjunction can't hold. It is reported at the later of two operators.
type conflict struct {
	operator operator
	detail   string
	mixed    bool // numbers and timestamps in one interval
}

// conflicts returns the simple reasons why ops can't all hold that involve one of
// ops[from:].
func conflicts(ops []operator, from int) []conflict {
	return slices.Concat(missing(ops, from), excluded(ops, from), emptied(ops, from))
}

// missing finds operators that need a value of an attribute that must not exist.
func missing(ops []operator, from int) []conflict {
	var out []conflict
	for i, g := range ops {
		if g.op != "exists" || g.values[0] != Flag(false) {
			continue
		}
		for k, h := range ops {
			negative := h.op == "ne" || h.op == "not_in" || h.op == "exists" && h.values[0] == Flag(false)
			if h.path != g.path || negative || max(i, k) < from {
				continue
			}
			detail := fmt.Sprintf("an attribute that is missing passes no %s (%s)", h.op, h.at())
			if k > i {
				detail = fmt.Sprintf("an attribute that is missing (%s) passes no %s", g.at(), h.op)
			}
			out = append(out, conflict{operator: ops[max(i, k)], detail: detail})
			break
		}
	}
	return out
}

// excluded finds eq and in whose values are all excluded by ne and not_in.
func excluded(ops []operator, from int) []conflict {
	var out []conflict
	for i, g := range ops {
		if g.op != "eq" && g.op != "in" {
			continue
		}
		last := -1
		for k, h := range ops {
			if h.excludes(g.path) {
				last = k
			}
		}
		later := max(i, last)
		if last < 0 || later < from {
			continue
		}
		not := make(map[Scalar]bool)
		for _, h := range ops {
			if h.excludes(g.path) {
				for _, v := range h.values {
					not[v] = true
				}
			}
		}
		if slices.ContainsFunc(g.values, func(v Scalar) bool { return !not[v] }) {
			continue
		}
		detail := fmt.Sprintf("all that %s asks for is excluded by %s (%s)", g.op, ops[last].op, ops[last].at())
		if last > i {
			detail = fmt.Sprintf("excludes all that %s (%s) asks for", g.op, g.at())
		}
		out = append(out, conflict{operator: ops[later], detail: detail})
	}
	return out
}

// excludes reports whether g forbids values of an attribute.
func (g *operator) excludes(path string) bool {
	return g.path == path && (g.op == "ne" || g.op == "not_in")
}

// interval is the interval of an attribute that all operators so far leave, both ends included.
type interval struct {
	first, above, below *operator // the first operator, and those that set lo and hi
	lo, hi              uint64
}

// emptied finds intervals that contain no value.
func emptied(ops []operator, from int) []conflict {
	var out []conflict
	intervals := make(map[string]*interval)
	for k := range ops {
		g := &ops[k]
		if !g.ordered() {
			continue
		}
		r := intervals[g.path]
		if r == nil {
			r = &interval{first: g, hi: ^uint64(0)}
			intervals[g.path] = r
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
			out = append(out, conflict{operator: *g, detail: r.emptiness(g)})
		}
	}
	return out
}

// mixed says how g mixes numbers and timestamps in one interval, or "".
func (r *interval) mixed(g *operator) string {
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

func (r *interval) narrow(g *operator) {
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

// emptiness says why the interval is empty after g.
func (r *interval) emptiness(g *operator) string {
	if r.above == r.below {
		return fmt.Sprintf("empty: from %s is greater than to %s", show(g.values[0]), show(g.values[1]))
	}
	other := r.above
	if other == g {
		other = r.below
	}
	return fmt.Sprintf("empty: no value is both %s and %s (%s)", g.bound(), other.bound(), other.at())
}

// bound writes an operator of an interval for messages.
func (g *operator) bound() string {
	if g.op == "between" {
		return fmt.Sprintf("between [%s,%s]", show(g.values[0]), show(g.values[1]))
	}
	return g.op + " " + show(g.values[0])
}
