package index

import (
	"fmt"
	"strings"
	"testing"

	"eventstream/filter"
)

// TestHostileShapes files filters that leave an index little to go by, and
// bounds what it looks at to match one event.
func TestHostileShapes(t *testing.T) {
	const n = 20_000
	sizes := Options{}.withDefaults()
	text := func(format string, a ...any) *filter.Scalar { return new(filter.Text(fmt.Sprintf(format, a...))) }
	for _, tt := range []struct {
		name       string
		spec       func(i int) filter.Spec
		event      string
		matches    int
		candidates int
	}{
		{"no equality, one-sided", func(i int) filter.Spec {
			return filter.Spec{MinAmount: new(float64(i))}
		}, `{"amount":9.5}`, 10, 10},
		{"no equality, narrow intervals", func(i int) filter.Spec {
			return filter.Spec{MinAmount: new(float64(i)), MaxAmount: new(float64(i) + 2.5)}
		}, `{"amount":10000}`, 3, 4 * sizes.LeafEntries},
		{"no equality, nested intervals", func(i int) filter.Spec {
			return filter.Spec{MinAmount: new(float64(i)), MaxAmount: new(float64(2*n - i))}
		}, `{"amount":3}`, 4, 2 * sizes.LeafEntries},
		{"all on one attribute", func(i int) filter.Spec {
			return filter.Spec{Where: filter.Where{"sku": {Eq: text("sku-%d", i)}}}
		}, `{"sku":"sku-77"}`, 1, sizes.NodeEntries},
		{"all on one value, and a rare one", func(i int) filter.Spec {
			return filter.Spec{Countries: []string{"UK"}, Where: filter.Where{"order": {Eq: text("%d", i)}}}
		}, `{"country":"UK","order":"77"}`, 1, sizes.NodeEntries},
		{"prefixes of prefixes", func(i int) filter.Spec {
			return filter.Spec{Where: filter.Where{"sku": {Prefix: new(fmt.Sprintf("%05d", i)[:1+i%5])}}}
		}, `{"sku":"012345"}`, 2223, 2223},
		{"an attribute of its own for each", func(i int) filter.Spec {
			return filter.Spec{Where: filter.Where{fmt.Sprint("attribute_", i): {Eq: text("x")}}}
		}, `{"attribute_77":"x","attribute_78":"y"}`, 1, sizes.NodeEntries},
		{"exists, an attribute of its own for each", func(i int) filter.Spec {
			return filter.Spec{Where: filter.Where{fmt.Sprint("attribute_", i): {Exists: new(true)}}}
		}, `{"attribute_77":null}`, 1, sizes.NodeEntries},
		{"nothing but not_in", func(i int) filter.Spec {
			return filter.Spec{MatchAll: true, Where: filter.Where{"country": {NotIn: []filter.Scalar{*text("c%d", i), *text("d")}}}}
		}, `{"country":"c7"}`, n - 1, n},
		{"the same not_in for all", func(int) filter.Spec {
			return filter.Spec{MatchAll: true, Where: filter.Where{"country": {NotIn: []filter.Scalar{*text("c"), *text("d")}}}}
		}, `{"country":"e"}`, n, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := New(Options{})
			for i := range n {
				s := tt.spec(i)
				s.SubscriberID = "s"
				if err := s.Validate(); err != nil {
					t.Fatal(err)
				}
				x.Add(x.Intern(&s), Slot(i))
			}
			var r reader
			got, err := r.match(x.Snapshot(), []byte(strings.Replace(tt.event, "{", `{"event_type":"a",`, 1)))
			if err != nil || len(got) != tt.matches {
				t.Errorf("%d matches, %v; want %d", len(got), err, tt.matches)
			}
			if r.m.Candidates > uint64(tt.candidates) {
				t.Errorf("%d candidates, want at most %d", r.m.Candidates, tt.candidates)
			}
		})
	}
}

// TestLongLists has filters with as many values as one may have, and events with
// very many.
func TestLongLists(t *testing.T) {
	x := New(Options{})
	list := func(from int) (out []filter.Scalar) {
		for i := range filter.MaxValues {
			out = append(out, filter.Text(fmt.Sprint("v", from+i)))
		}
		return out
	}
	specs := []filter.Spec{
		{SubscriberID: "s", Where: filter.Where{"a": {In: list(0)}}},
		{SubscriberID: "s", Where: filter.Where{"a": {In: list(filter.MaxValues / 2)}}},
		{SubscriberID: "s", Where: filter.Where{"b": {Eq: new(filter.Num(1))}, "a": {NotIn: list(0)}}},
		{SubscriberID: "s", Where: filter.Where{"n": {Gt: new(filter.Num(99_998.5)), Lt: new(filter.Num(1e9))}}},
	}
	for i := range specs {
		if err := specs[i].Validate(); err != nil {
			t.Fatal(err)
		}
		x.Add(x.Intern(&specs[i]), Slot(i))
	}
	for i := range 1000 { // so that intervals are in a tree
		x.Add(x.Intern(&filter.Spec{SubscriberID: "s", Where: filter.Where{"n": {Between: []filter.Scalar{filter.Num(float64(2 * i)), filter.Num(float64(2*i) + 0.5)}}}}), Slot(10+i))
	}
	numbers, words := make([]string, 100_000), make([]string, 100_000)
	for i := range numbers {
		numbers[i], words[i] = fmt.Sprint(2*i+1), `"w`+fmt.Sprint(i%5)+`"`
	}
	words[70_000] = `"v12345"`
	for _, tt := range []struct {
		event string
		want  string
	}{
		{`{"a":"v3"}`, "[0]"},
		{`{"a":["v9999",7,"v9999"]}`, "[0 1]"},
		{`{"a":"v3","b":1}`, "[0]"},
		{`{"a":"x","b":1}`, "[2]"},
		{`{"b":1}`, "[2]"},
		{`{"a":[` + strings.Join(words, ",") + `],"n":[` + strings.Join(numbers, ",") + `]}`, "[1 3]"},
	} {
		var r reader
		got, err := r.match(x.Snapshot(), []byte(strings.Replace(tt.event, "{", `{"event_type":"a",`, 1)))
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%.60s: %v, %v; want %s", tt.event, got, err, tt.want)
		}
	}
}
