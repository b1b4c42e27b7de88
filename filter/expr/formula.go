package expr

import (
	"cmp"
	"slices"

	"github.com/google/cel-go/common/ast"

	"eventstream/filter"
)

// formula is when something holds, without a negation: one test, or all or some
// of the parts. All of no parts always hold, some of no parts never do.
type formula struct {
	kind  kind
	parts []formula
	test  test // of a single
}

type kind uint8

const (
	single kind = iota
	all
	some
)

// test is what is asked of one attribute, and where in the expression.
type test struct {
	attr string
	ask  ask
	at   ast.Expr
}

func one(attr string, a ask, at ast.Expr) formula { return formula{test: test{attr, a, at}} }

// is reports whether f has that kind and no parts.
func (f formula) is(k kind) bool { return f.kind == k && len(f.parts) == 0 }

// join returns that all or some of the parts hold. What always or never holds is
// not among the parts of the result.
func join(k kind, parts ...formula) formula {
	out := formula{kind: k}
	for _, p := range parts {
		switch {
		case p.kind == k: // also the one without parts, which changes nothing
			out.parts = append(out.parts, p.parts...)
		case p.kind != single && len(p.parts) == 0: // decides
			return p
		default:
			out.parts = append(out.parts, p)
		}
	}
	out.parts = unite(k, out.parts)
	if len(out.parts) == 1 {
		return out.parts[0]
	}
	return out
}

// unite makes one test of those that ask one attribute for one of some values, of which
// one must hold, or forbid it some values, if all must. Each value is looked at once,
// however many tests there are.
func unite(k kind, parts []formula) []formula {
	lists := map[string]int{} // the attribute's place in out
	more := map[string][]filter.Scalar{}
	out := parts[:0:0]
	for _, p := range parts {
		values, ok := p.test.ask.values(k)
		if p.kind != single || !ok {
			out = append(out, p)
			continue
		}
		attr := p.test.attr
		if _, there := lists[attr]; !there {
			lists[attr] = len(out)
			out = append(out, p)
		}
		more[attr] = append(more[attr], values...)
	}
	for attr, i := range lists {
		if values := distinct(more[attr]); k == some {
			out[i].test.ask.in = [][]filter.Scalar{values}
		} else {
			out[i].test.ask.notIn = values
		}
	}
	return out
}

// values returns the values that a asks for one of, if k is some, or forbids, if k is
// all, and whether it asks for nothing else.
func (a ask) values(k kind) ([]filter.Scalar, bool) {
	if k == some {
		if !a.isList() {
			return nil, false
		}
		return a.in[0], true
	}
	return a.notIn, len(a.notIn) > 0 && a.same(ask{notIn: a.notIn})
}

// maxWidth bounds the alternatives before they are simplified, and with them the
// work. It leaves room for those that can never hold, or differ in one value.
const maxWidth = filter.MaxAlternatives * filter.MaxAlternatives

// width returns how many alternatives f has, up to a little more than maxWidth.
func (f formula) width() int {
	n := 1
	switch f.kind {
	case all:
		for _, p := range f.parts {
			n = min(n*p.width(), maxWidth+1)
		}
	case some:
		n = 0
		for _, p := range f.parts {
			n = min(n+p.width(), maxWidth+1)
		}
	}
	return n
}

// alternatives returns f as conjunctions of which one must hold; f is e's.
func (t translator) alternatives(f formula, e ast.Expr) ([]filter.Where, error) {
	if f.width() > maxWidth {
		return nil, t.errorf(e, "the ||s give more than %d alternatives, each with each; at most %d are allowed in the end", maxWidth, filter.MaxAlternatives)
	}
	list, err := t.distribute(f)
	if err != nil {
		return nil, err
	}
	list = simplify(list)
	switch n := len(list); {
	case n == 0:
		return nil, t.errorf(e, "it is true of no event: its conditions exclude each other")
	case n > filter.MaxAlternatives:
		return nil, t.errorf(e, "the ||s give %d alternatives, each with each; at most %d are allowed", n, filter.MaxAlternatives)
	}
	var out []filter.Where
	values := 0
	for _, c := range list {
		out = append(out, c.where())
		values += c.values()
	}
	if values > filter.MaxValues {
		return nil, t.errorf(e, "%d values in all alternatives together; at most %d are allowed", values, filter.MaxValues)
	}
	return out, nil
}

// distribute returns the alternatives of f, without those that can never hold.
func (t translator) distribute(f formula) ([]conjunction, error) {
	switch f.kind {
	case single:
		return t.with([]conjunction{nil}, conjunction{f.test})
	case some:
		var out []conjunction
		for _, p := range f.parts {
			list, err := t.distribute(p)
			if err != nil {
				return nil, err
			}
			out = append(out, list...)
		}
		return out, nil
	}
	// What has one alternative goes first, so that it is gone through once.
	parts := slices.Clone(f.parts)
	slices.SortStableFunc(parts, func(a, b formula) int { return cmp.Compare(a.width(), b.width()) })
	out := []conjunction{nil}
	for _, p := range parts {
		list, err := t.distribute(p)
		if err != nil {
			return nil, err
		}
		if out, err = t.product(out, list); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// product returns each of a together with each of b.
func (t translator) product(a, b []conjunction) ([]conjunction, error) {
	var out []conjunction
	for _, c := range b {
		list, err := t.with(a, c)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// with returns each of list together with c.
func (t translator) with(list []conjunction, c conjunction) ([]conjunction, error) {
	var out []conjunction
	for _, d := range list {
		sum, possible, err := t.sum(d, c)
		if err != nil {
			return nil, err
		}
		if possible {
			out = append(out, sum)
		}
	}
	return out, nil
}
