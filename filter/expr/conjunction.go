package expr

import (
	"slices"
	"strings"

	"eventstream/filter"
)

// conjunction is tests that all must hold: one for each attribute, in the order
// of the attributes.
type conjunction []test

// sum returns that both a and b hold, or false if they never do together.
func (t translator) sum(a, b conjunction) (out conjunction, possible bool, err error) {
	out = slices.Clone(a)
	for _, added := range b {
		i, found := slices.BinarySearchFunc(out, added, byAttr)
		if !found {
			out = slices.Insert(out, i, added)
			continue
		}
		both, possible, most := out[i].ask.and(added.ask)
		switch {
		case most != "":
			return nil, false, t.errorf(added.at, "at most %s can be asked of %s together", most, added.attr)
		case !possible:
			return nil, false, nil
		}
		out[i] = test{added.attr, both, added.at}
	}
	if n := out.size(); n > filter.MaxPredicates {
		return nil, false, t.errorf(b[len(b)-1].at, "%d conditions that must hold together; at most %d are allowed, and != takes two", n, filter.MaxPredicates)
	}
	return out, true, nil
}

func byAttr(a, b test) int { return strings.Compare(a.attr, b.attr) }

// size returns how many predicates c takes.
func (c conjunction) size() int {
	n := 0
	for _, t := range c {
		n += t.ask.size()
	}
	return n
}

// values returns how many values are in c's lists.
func (c conjunction) values() int {
	n := 0
	for _, t := range c {
		n += len(t.ask.notIn)
		for _, list := range t.ask.in {
			n += len(list)
		}
	}
	return n
}

// where returns c as package filter has it.
func (c conjunction) where() filter.Where {
	out := make(filter.Where, len(c))
	for _, t := range c {
		out[t.attr] = t.ask.test()
	}
	return out
}

// simplify makes one of two alternatives where it can, until there are no such
// two.
func simplify(list []conjunction) []conjunction {
	for again := true; again; {
		again = false
		for i := 0; i < len(list); i++ {
			for j := i + 1; j < len(list); j++ {
				if merged, ok := merge(list[i], list[j]); ok {
					list[i] = merged
					list = slices.Delete(list, j, j+1)
					again = true
					j = i
				}
			}
		}
	}
	return list
}

// merge returns one conjunction that holds if and only if a or b does: if one
// asks for all that the other does, or they differ only in the list of values of
// one attribute.
func merge(a, b conjunction) (conjunction, bool) {
	switch {
	case a.within(b):
		return a, true
	case b.within(a):
		return b, true
	case len(a) != len(b):
		return nil, false
	}
	differs := -1
	for i := range a {
		switch {
		case a[i].attr != b[i].attr:
			return nil, false
		case a[i].ask.same(b[i].ask):
		case differs >= 0 || !a[i].ask.isList() || !b[i].ask.isList():
			return nil, false
		default:
			differs = i
		}
	}
	out := slices.Clone(a)
	out[differs].ask = either(a[differs].ask, b[differs].ask)
	return out, true
}

// within reports whether all of c's tests are in d too.
func (c conjunction) within(d conjunction) bool {
	for _, t := range c {
		i, found := slices.BinarySearchFunc(d, t, byAttr)
		if !found || !d[i].ask.same(t.ask) {
			return false
		}
	}
	return true
}
