package filter

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"eventstream/event"
)

// maxFailures bounds the failures reported for one filter and one event.
const maxFailures = 20

// Explanation says whether a filter matches an event, and if not, why.
type Explanation struct {
	Matches bool      `json:"matches"`
	Failed  []Failure `json:"failed,omitempty"`  // not empty if it doesn't match
	Omitted int       `json:"omitted,omitempty"` // further failures, which are left out
}

// Failure is a condition that an event does not meet. If a filter has alternatives, the
// failures of all of them are listed: one without failures would have matched.
type Failure struct {
	Field     string `json:"field"`     // JSON Pointer into the filter
	Attribute string `json:"attribute"` // the path
	Asked     string `json:"asked"`     // such as: gte 100 and lt 200
	Found     string `json:"found"`     // the attribute's values in the event
}

// Explain returns the result of Match, with reasons.
func (s *Spec) Explain(ev map[string]any) Explanation {
	base := append(s.shortOperators(), s.Where.operators("/where")...)
	exprs := operatorsOfEach(s.ExprAny, func(int) string { return exprField })
	var x Explanation
	told := make(map[Failure]bool)
	values := make(map[string][]any)
	valuesOf := func(path string) []any {
		if _, ok := values[path]; !ok {
			values[path] = valuesAt(ev, path)
		}
		return values[path]
	}
	for _, a := range operatorsOfEach(s.Any, anyField) {
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

// add adds the failures that were not told before.
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

// failures lists the operators of a conjunction that an event with these values does not
// pass. The operators of an interval are one failure.
func failures(conjunction []operator, valuesOf func(path string) []any) []Failure {
	var failed []Failure
	for i := range conjunction {
		g := &conjunction[i]
		values := valuesOf(g.path)
		if !g.isEnd() {
			if t := g.test(); !t.holds(values) {
				failed = append(failed, failure([]operator{*g}, values))
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

func (g *operator) isEnd() bool {
	t := g.test()
	return t.hasInterval()
}

// endsOf lists the operators of the interval of an attribute.
func endsOf(conjunction []operator, path string) []operator {
	var ends []operator
	for _, g := range conjunction {
		if g.path == path && g.isEnd() {
			ends = append(ends, g)
		}
	}
	return ends
}

func allWithin(interval []operator, v any) bool {
	for _, g := range interval {
		if t := g.test(); !t.within(v) {
			return false
		}
	}
	return true
}

// test returns a Test with g alone.
func (g *operator) test() Test {
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

// failure describes operators on one attribute that failed, and its values.
func failure(ops []operator, values []any) Failure {
	asked := make([]string, len(ops))
	for i, g := range ops {
		asked[i] = g.op + " " + g.operand()
	}
	return Failure{ops[0].at(), ops[0].path, strings.Join(asked, " and "), showValues(values)}
}

func (g *operator) operand() string {
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

// showValue writes a value of an event for messages.
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
