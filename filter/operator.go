package filter

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"eventstream/event"
)

// exprField is the field that problems of ExprAny are reported for, as it is made from expr.
const exprField = "/expr"

// operator is one operator of a Test with its operands.
type operator struct {
	within string // JSON Pointer of the Where, or of the short field
	short  bool   // within is a short field
	path   string // of the attribute
	op     string
	values []Scalar // two of between, any number of in and not_in, one of all others
}

// at returns the JSON Pointer of g.
func (g *operator) at() string {
	if g.short || g.within == exprField {
		return g.within
	}
	return g.within + "/" + pointer(g.path) + "/" + g.op
}

// operators lists the operators of t, which is at path in the Where within.
func (t *Test) operators(within, path string) []operator {
	var ops []operator
	add := func(op string, values ...Scalar) {
		ops = append(ops, operator{within: within, path: path, op: op, values: values})
	}
	scalar := func(op string, v *Scalar) {
		if v != nil {
			add(op, *v)
		}
	}
	list := func(op string, values []Scalar) {
		if values != nil {
			add(op, values...)
		}
	}
	text := func(op string, v *string) {
		if v != nil {
			add(op, Text(*v))
		}
	}
	scalar("eq", t.Eq)
	scalar("ne", t.Ne)
	list("in", t.In)
	list("not_in", t.NotIn)
	scalar("gt", t.Gt)
	scalar("gte", t.Gte)
	scalar("lt", t.Lt)
	scalar("lte", t.Lte)
	list("between", t.Between)
	text("prefix", t.Prefix)
	text("suffix", t.Suffix)
	text("contains", t.Contains)
	if t.Exists != nil {
		add("exists", Flag(*t.Exists))
	}
	return ops
}

// check adds the problems of g alone.
func (g *operator) check(bad *Invalid) {
	switch g.op {
	case "in", "not_in":
		g.checkList(bad)
	case "between":
		if len(g.values) != 2 {
			g.add(bad, "", "want two values, from and to, got a list of %d", len(g.values))
			return
		}
		for i, v := range g.values {
			g.flaw(bad, strconv.Itoa(i), orderedFlaw(v))
		}
	case "gt", "gte", "lt", "lte":
		g.flaw(bad, "", orderedFlaw(g.values[0]))
	case "prefix", "suffix", "contains":
		if g.values[0].text == "" {
			g.add(bad, "", "empty string, which every string has; to ask for the attribute itself write %s", `{"exists":true}`)
			return
		}
		g.flaw(bad, "", scalarFlaw(g.values[0]))
	default:
		g.flaw(bad, "", scalarFlaw(g.values[0]))
	}
}

func (g *operator) checkList(bad *Invalid) {
	switch n := len(g.values); {
	case n == 0 && g.op == "in":
		g.add(bad, "", "an empty list matches nothing; leave it out to match any value")
	case n == 0:
		g.add(bad, "", "an empty list excludes nothing; leave it out")
	case n > MaxValues:
		g.add(bad, "", "%d values; at most %d are allowed", n, MaxValues)
		return
	}
	seen := make(map[Scalar]int, len(g.values))
	for i, v := range g.values {
		flaw := scalarFlaw(v)
		if first, dup := seen[v]; dup && flaw == "" {
			flaw = fmt.Sprintf("%s is %s/%d already; give each value once", show(v), g.at(), first)
		} else {
			seen[v] = i
		}
		g.flaw(bad, strconv.Itoa(i), flaw)
	}
}

// flaw adds a problem of the value at index i, unless flaw is "".
func (g *operator) flaw(bad *Invalid, i, flaw string) {
	if flaw != "" {
		g.add(bad, i, "%s", flaw)
	}
}

// add adds a problem of g, or of its value at index i.
func (g *operator) add(bad *Invalid, i, format string, args ...any) {
	at := g.at()
	switch {
	case at == exprField:
		format, args = "%s, %s: "+format, append([]any{g.path, g.op}, args...)
	case i != "":
		at += "/" + i
	}
	bad.add(at, format, args...)
}

// scalarFlaw says what is wrong with a value, or "".
func scalarFlaw(v Scalar) string {
	switch {
	case v.kind == event.String && len(v.text) > MaxValueBytes:
		return fmt.Sprintf("%d bytes; at most %d are allowed", len(v.text), MaxValueBytes)
	case v.kind == event.String:
		return TextFlaw(v.text)
	case v.kind == event.Number && (math.IsNaN(v.num) || math.IsInf(v.num, 0)):
		return "want a finite number"
	case v.kind == event.Other:
		return "want " + wantScalar
	}
	return ""
}

// TextFlaw says why PostgreSQL can't store a string in JSON, or "".
func TextFlaw(s string) string {
	switch {
	case !utf8.ValidString(s):
		return "not valid UTF-8"
	case strings.ContainsRune(s, 0):
		return "the character U+0000 is not allowed"
	}
	return ""
}

const wantOrdered = `a number, or an RFC 3339 timestamp such as "2026-01-02T15:04:05Z"`

// orderedFlaw says what is wrong with an end of an interval, or "".
func orderedFlaw(v Scalar) string {
	switch v.kind {
	case event.Bool:
		return fmt.Sprintf("booleans are not ordered; want %s", wantOrdered)
	case event.String:
		key, ok := event.ParseTime([]byte(v.text))
		if !ok {
			return fmt.Sprintf("want %s, got %s; other strings are not ordered", wantOrdered, show(v))
		}
		if key < event.TimeKey(event.MinTime) || key > event.TimeKey(event.MaxTime) {
			return fmt.Sprintf("%s is too far away; want a time from %s", show(v), event.TimeRange)
		}
	}
	return scalarFlaw(v)
}

// show writes a value as JSON for people to read.
func show(v Scalar) string {
	b, err := v.MarshalJSON()
	if err != nil {
		return "nothing"
	}
	return abbreviate(b)
}
