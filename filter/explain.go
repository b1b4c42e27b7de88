package filter

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"eventstream/event"
)

// maxFailures bounds what is told of one filter and one event.
const maxFailures = 20

// Explanation tells whether a filter matches an event, and if not, why.
type Explanation struct {
	Matches bool      `json:"matches"`
	Failed  []Failure `json:"failed,omitempty"`  // not empty if it doesn't match
	Omitted int       `json:"omitted,omitempty"` // further failures, which are not told
}

// Failure is a condition that an event does not meet. Where a filter has
// alternatives, those of each are told: one without failures would have done.
type Failure struct {
	Field     string `json:"field"`     // JSON Pointer into the filter
	Attribute string `json:"attribute"` // the path
	Asked     string `json:"asked"`     // such as: gte 100 and lt 200
	Found     string `json:"found"`     // the attribute's values in the event
}

// Explain gives reasons for what Match answers.
func (s *Spec) Explain(ev map[string]any) Explanation {
	base := append(s.shortGivens(), s.Where.givens("/where")...)
	exprs := givensOfAll(s.ExprAny, func(int) string { return exprField })
	var x Explanation
	told := make(map[Failure]bool)
	values := make(map[string][]any)
	valuesOf := func(path string) []any {
		if _, ok := values[path]; !ok {
			values[path] = valuesAt(ev, path)
		}
		return values[path]
	}
	for _, a := range givensOfAll(s.Any, anyField) {
		for _, e := range exprs {
			failed := failures(slices.Concat(base, a, e), valuesOf)
			if len(failed) == 0 {
				return Explanation{Matches: true}
			}
			x.add(failed, told)
		}
	}
	return x
}

// add adds what was not told before.
func (x *Explanation) add(failed []Failure, told map[Failure]bool) {
	for _, f := range failed {
		switch {
		case told[f]:
			continue
		case len(x.Failed) == maxFailures:
			x.Omitted++
		default:
			x.Failed = append(x.Failed, f)
		}
		told[f] = true
	}
}

// failures lists the operators of a conjunction that an event with such values does
// not pass. Those that make up an interval are one.
func failures(conjunction []given, valuesOf func(path string) []any) []Failure {
	var failed []Failure
	for i := range conjunction {
		g := &conjunction[i]
		values := valuesOf(g.path)
		if !g.isEnd() {
			if t := g.test(); !t.holds(values) {
				failed = append(failed, failure([]given{*g}, values))
			}
			continue
		}
		interval := endsOf(conjunction, g.path)
		if interval[0].at() != g.at() {
			continue // looked at already
		}
		if !anyOf(values, func(v any) bool { return allWithin(interval, v) }) {
			failed = append(failed, failure(interval, values))
		}
	}
	return failed
}

func (g *given) isEnd() bool {
	t := g.test()
	return t.hasInterval()
}

// endsOf lists what makes up the interval of an attribute.
func endsOf(conjunction []given, path string) []given {
	var ends []given
	for _, g := range conjunction {
		if g.path == path && g.isEnd() {
			ends = append(ends, g)
		}
	}
	return ends
}

func allWithin(interval []given, v any) bool {
	for _, g := range interval {
		if t := g.test(); !t.within(v) {
			return false
		}
	}
	return true
}

// test is g alone.
func (g *given) test() Test {
	var t Test
	v := &g.values[0] // a Spec that is valid has no empty lists
	switch g.op {
	case "eq":
		t.Eq = v
	case "ne":
		t.Ne = v
	case "in":
		t.In = g.values
	case "not_in":
		t.NotIn = g.values
	case "gt":
		t.Gt = v
	case "gte":
		t.Gte = v
	case "lt":
		t.Lt = v
	case "lte":
		t.Lte = v
	case "between":
		t.Between = g.values
	case "prefix":
		t.Prefix = &v.text
	case "suffix":
		t.Suffix = &v.text
	case "contains":
		t.Contains = &v.text
	case "exists":
		t.Exists = new(v.num == 1)
	}
	return t
}

// failure tells of operators on one attribute, and of its values.
func failure(ops []given, values []any) Failure {
	asked := make([]string, len(ops))
	for i, g := range ops {
		asked[i] = g.op + " " + g.operand()
	}
	return Failure{ops[0].at(), ops[0].path, strings.Join(asked, " and "), showValues(values)}
}

func (g *given) operand() string {
	if g.op != "in" && g.op != "not_in" && g.op != "between" {
		return show(g.values[0])
	}
	return "[" + showList(g.values, show) + "]"
}

func showValues(values []any) string {
	if len(values) == 0 {
		return "nothing: the event has no such attribute"
	}
	return showList(values, showValue)
}

// showList shows the first few.
func showList[T any](list []T, one func(T) string) string {
	const most = 5
	var shown []string
	for _, v := range list[:min(len(list), most)] {
		shown = append(shown, one(v))
	}
	text := strings.Join(shown, ", ")
	if more := len(list) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// showValue writes a value of an event for people to read.
func showValue(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return "an object"
	case string:
		return show(Scalar{kind: event.String, text: v})
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return "a number"
		}
		return abbreviate(b)
	}
}
