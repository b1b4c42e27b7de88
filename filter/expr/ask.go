package expr

import (
	"slices"
	"strings"
	"time"

	"eventstream/event"
	"eventstream/filter"
)

// ask is what is asked of one attribute. The zero ask is that it is there, and
// all other asks ask for that too, except absent.
type ask struct {
	absent                   bool              // it is missing
	there                    bool              // it is there, which was asked for beside the rest
	in                       [][]filter.Scalar // it has a value in each of these
	notIn                    []filter.Scalar   // it has none of these
	span                     *span             // it has a value in this
	prefix, suffix, contains string            // it has such a value; "" asks for nothing
}

// span is an interval of numbers or of timestamps. A nil end is open.
type span struct {
	times  bool
	lo, hi *bound
}

type bound struct {
	key  uint64 // a NumberKey or a TimeKey
	open bool   // it is not itself in the interval
}

func equal(s filter.Scalar) ask { return ask{in: [][]filter.Scalar{{s}}} }

// isList reports whether a asks for one of some values, and nothing else.
func (a ask) isList() bool {
	return len(a.in) == 1 && a.same(ask{in: a.in})
}

// either returns that a or b holds; both are lists.
func either(a, b ask) ask {
	return ask{in: [][]filter.Scalar{distinct(slices.Concat(a.in[0], b.in[0]))}}
}

// distinct drops the values that came before.
func distinct(list []filter.Scalar) []filter.Scalar {
	seen := make(map[filter.Scalar]bool, len(list))
	var out []filter.Scalar
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// and returns that both a and b hold. If they never do together, it returns
// false. If package filter can't express it, it says what the most is.
func (a ask) and(b ask) (out ask, possible bool, most string) {
	if a.absent != b.absent {
		return ask{}, false, ""
	}
	out = a
	out.there = a.there || b.there
	out.notIn = distinct(slices.Concat(a.notIn, b.notIn))
	if out.in, possible = allLists(slices.Concat(a.in, b.in)); !possible {
		return ask{}, false, "two ==, or one == and one in,"
	}
	for _, affix := range []struct {
		name string
		to   *string
		b    string
		fits func(s, part string) bool
	}{
		{"startsWith", &out.prefix, b.prefix, strings.HasPrefix},
		{"endsWith", &out.suffix, b.suffix, strings.HasSuffix},
		{"contains", &out.contains, b.contains, strings.Contains},
	} {
		switch {
		case affix.fits(*affix.to, affix.b): // and so is the other one
		case affix.fits(affix.b, *affix.to):
			*affix.to = affix.b
		default:
			return ask{}, false, "one " + affix.name
		}
	}
	possible = out.narrow(b.span)
	for _, list := range out.in {
		possible = possible && !within(list, out.notIn)
	}
	return out, possible, ""
}

// allLists drops the lists that another one is within. An attribute may have
// many values, so the others are not intersected: a Test has place for two, if
// one of them is a single value.
func allLists(lists [][]filter.Scalar) (out [][]filter.Scalar, ok bool) {
	for i, list := range lists {
		if !implied(lists, i) {
			out = append(out, list)
		}
	}
	slices.SortStableFunc(out, func(a, b []filter.Scalar) int { return min(len(a), 2) - min(len(b), 2) })
	return out, len(out) < 2 || len(out) == 2 && len(out[0]) == 1
}

// implied reports whether another list is within the one at i, and not the same
// one further on.
func implied(lists [][]filter.Scalar, i int) bool {
	for j, other := range lists {
		if j != i && within(other, lists[i]) && (j < i || len(other) < len(lists[i])) {
			return true
		}
	}
	return false
}

// within reports whether all of a are in b.
func within(a, b []filter.Scalar) bool {
	if len(a) > len(b) {
		return false
	}
	in := make(map[filter.Scalar]bool, len(b))
	for _, s := range b {
		in[s] = true
	}
	return !slices.ContainsFunc(a, func(s filter.Scalar) bool { return !in[s] })
}

// narrow takes s into a's interval, and reports whether any value is left.
func (a *ask) narrow(s *span) bool {
	switch {
	case s == nil:
		return true
	case a.span == nil:
		a.span = s
		return true
	case a.span.times != s.times:
		return false
	}
	sum := *a.span
	if s.lo != nil && (sum.lo == nil || s.lo.key > sum.lo.key || s.lo.key == sum.lo.key && s.lo.open) {
		sum.lo = s.lo
	}
	if s.hi != nil && (sum.hi == nil || s.hi.key < sum.hi.key || s.hi.key == sum.hi.key && s.hi.open) {
		sum.hi = s.hi
	}
	a.span = &sum
	return sum.lo == nil || sum.hi == nil || sum.lo.inside(+1) <= sum.hi.inside(-1)
}

// inside returns the key that is the first in the interval, from b to where step
// leads. Between two neighbouring keys there is no value.
func (b *bound) inside(step int) uint64 {
	if b.open {
		return b.key + uint64(step)
	}
	return b.key
}

// same reports whether a and b ask for the same.
func (a ask) same(b ask) bool {
	return a.absent == b.absent && a.exists() == b.exists() && a.prefix == b.prefix && a.suffix == b.suffix && a.contains == b.contains &&
		slices.Equal(a.notIn, b.notIn) && slices.EqualFunc(a.in, b.in, slices.Equal) &&
		(a.span == nil) == (b.span == nil) && (a.span == nil || a.span.same(b.span))
}

func (s *span) same(t *span) bool {
	return s.times == t.times && sameBound(s.lo, t.lo) && sameBound(s.hi, t.hi)
}

func sameBound(a, b *bound) bool {
	return (a == nil) == (b == nil) && (a == nil || *a == *b)
}

// size returns how many predicates a takes; an interval is one.
func (a ask) size() int {
	n := len(a.in)
	for _, asked := range []bool{len(a.notIn) > 0, a.span != nil, a.prefix != "", a.suffix != "", a.contains != "", a.exists()} {
		if asked {
			n++
		}
	}
	return n
}

// exists reports whether a's Test must have an exists: an event can't be found by
// what else is in it, and either that doesn't tell whether the attribute is there, or
// this was asked for.
func (a ask) exists() bool {
	if len(a.in) > 0 || a.span != nil || a.prefix != "" {
		return false
	}
	return a.there || len(a.notIn) > 0 || a.suffix == "" && a.contains == ""
}

// test returns a as package filter has it.
func (a ask) test() filter.Test {
	out := filter.Test{Prefix: text(a.prefix), Suffix: text(a.suffix), Contains: text(a.contains)}
	for _, list := range a.in {
		if len(list) == 1 && out.Eq == nil {
			out.Eq = &list[0]
		} else {
			out.In = list
		}
	}
	switch len(a.notIn) {
	case 0:
	case 1:
		out.Ne = &a.notIn[0]
	default:
		out.NotIn = a.notIn
	}
	if a.exists() {
		out.Exists = new(!a.absent)
	}
	if a.span != nil {
		out.Gte, out.Gt = a.span.ends(a.span.lo)
		out.Lte, out.Lt = a.span.ends(a.span.hi)
	}
	return out
}

// ends returns b as the operand of an operator that includes it, or not.
func (s *span) ends(b *bound) (closed, open *filter.Scalar) {
	if b == nil {
		return nil, nil
	}
	value := filter.Num(event.KeyNumber(b.key))
	if s.times {
		value = filter.Text(event.KeyTime(b.key).Format(time.RFC3339Nano))
	}
	if b.open {
		return nil, &value
	}
	return &value, nil
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
