package filter

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"eventstream/event"
)

// DecodeEvent decodes an event for Spec.Match.
func DecodeEvent(raw []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var ev map[string]any
	if err := dec.Decode(&ev); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); ev == nil || err != io.EOF {
		return nil, errors.New("want one JSON object")
	}
	return ev, nil
}

// Match reports whether the event meets the conditions of s, which must be
// valid. It is the definition that package index is tested against: slow, and as simple
// as can be. The event is as encoding/json decodes it, with float64 or json.Number.
func (s *Spec) Match(ev map[string]any) bool {
	for _, a := range atLeastOne(s.Any) {
		for _, e := range atLeastOne(s.ExprAny) {
			if holds([]Where{s.shortWhere(), s.Where, a, e}, ev) {
				return true
			}
		}
	}
	return false
}

func atLeastOne(alternatives []Where) []Where {
	if len(alternatives) == 0 {
		return []Where{{}} // which always holds
	}
	return alternatives
}

// shortWhere returns the conditions that the short fields stand for.
func (s *Spec) shortWhere() Where {
	w := Where{}
	for _, l := range s.ShortLists() {
		if len(l.Values) > 0 {
			var in []Scalar
			for _, v := range l.Values {
				in = append(in, Text(v))
			}
			w[l.Path] = Test{In: in}
		}
	}
	var amount Test
	if s.MinAmount != nil {
		amount.Gte = new(Num(*s.MinAmount))
	}
	if s.MaxAmount != nil {
		amount.Lte = new(Num(*s.MaxAmount))
	}
	w["amount"] = amount
	return w
}

// holds reports whether ev passes the tests of all parts.
func holds(parts []Where, ev map[string]any) bool {
	intervals := make(map[string][]Test) // by path: the tests, of all parts
	for _, w := range parts {
		for path, t := range w {
			if !t.holds(valuesAt(ev, path)) {
				return false
			}
			if t.hasInterval() {
				intervals[path] = append(intervals[path], t)
			}
		}
	}
	for path, tests := range intervals {
		within := func(v any) bool {
			for _, t := range tests {
				if !t.within(v) {
					return false
				}
			}
			return true
		}
		if !anyOf(valuesAt(ev, path), within) {
			return false
		}
	}
	return true
}

// valuesAt returns the values of the attribute that path names.
func valuesAt(ev map[string]any, path string) []any {
	names, _ := ParsePath(path)
	return walk(ev, names)
}

func walk(v any, names []string) []any {
	if elements, ok := v.([]any); ok && len(elements)+len(names) > 0 {
		var values []any
		for _, e := range elements {
			values = append(values, walk(e, names)...)
		}
		return values
	}
	if len(names) == 0 {
		return []any{v}
	}
	object, _ := v.(map[string]any)
	child, ok := object[names[0]]
	if !ok {
		return nil
	}
	return walk(child, names[1:])
}

func anyOf(values []any, pass func(any) bool) bool {
	for _, v := range values {
		if pass(v) {
			return true
		}
	}
	return false
}

// holds reports whether the values of an attribute pass t, its interval left out.
func (t *Test) holds(values []any) bool {
	oneOf := func(list []Scalar) bool {
		return anyOf(values, func(v any) bool {
			for _, s := range list {
				if s.equals(v) {
					return true
				}
			}
			return false
		})
	}
	text := func(is func(s, part string) bool, part *string) bool {
		return part == nil || anyOf(values, func(v any) bool {
			s, ok := v.(string)
			return ok && is(s, *part)
		})
	}
	return (t.Eq == nil || oneOf([]Scalar{*t.Eq})) &&
		(t.Ne == nil || !oneOf([]Scalar{*t.Ne})) &&
		(t.In == nil || oneOf(t.In)) &&
		(t.NotIn == nil || !oneOf(t.NotIn)) &&
		text(strings.HasPrefix, t.Prefix) && text(strings.HasSuffix, t.Suffix) && text(strings.Contains, t.Contains) &&
		(t.Exists == nil || *t.Exists == (len(values) > 0))
}

// equals reports whether v, a value of an event, is s.
func (s Scalar) equals(v any) bool {
	switch s.kind {
	case event.String:
		text, ok := v.(string)
		return ok && text == s.text
	case event.Number:
		f, ok := number(v)
		return ok && f == s.num
	case event.Bool:
		b, ok := v.(bool)
		return ok && b == (s.num == 1)
	}
	return false
}

// number returns the float nearest to a JSON number; infinity if that is beyond
// all of them.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case json.Number:
		f, _ := strconv.ParseFloat(string(v), 64) // the error is about the range
		return f, true
	}
	return 0, false
}

func (t *Test) hasInterval() bool {
	return t.Gt != nil || t.Gte != nil || t.Lt != nil || t.Lte != nil || t.Between != nil
}

// within reports whether v lies in the interval of t.
func (t *Test) within(v any) bool {
	bound := func(end *Scalar, ok func(order int) bool) bool {
		if end == nil {
			return true
		}
		order, comparable := compare(v, *end)
		return comparable && ok(order)
	}
	atLeast := func(order int) bool { return order >= 0 }
	atMost := func(order int) bool { return order <= 0 }
	if t.Between != nil && !(bound(&t.Between[0], atLeast) && bound(&t.Between[1], atMost)) {
		return false
	}
	return bound(t.Gt, func(order int) bool { return order > 0 }) && bound(t.Gte, atLeast) &&
		bound(t.Lt, func(order int) bool { return order < 0 }) && bound(t.Lte, atMost)
}

// compare compares v with the end of an interval: -1 if it is before, 0 if equal, 1 if
// after. It returns false for a value that can't be compared with it.
func compare(v any, end Scalar) (order int, ok bool) {
	if end.kind == event.Number {
		f, ok := number(v)
		return cmp.Compare(f, end.num), ok
	}
	text, _ := v.(string)
	at, ok1 := timestamp(text)
	bound, ok2 := timestamp(end.text)
	return at.Compare(bound), ok1 && ok2
}

// rfc3339 is what RFC 3339 allows, in upper case. time.Parse alone takes more, such as
// a comma for the point.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// timestamp parses RFC 3339.
func timestamp(s string) (time.Time, bool) {
	if len(s) > 64 || !rfc3339.MatchString(s) {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, s)
	return t, err == nil
}
