package filter_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"eventstream/filter"
)

const storedSpec = `"subscriber_id":"user_1","event_types":["purchase"],"min_amount":10,` +
	`"where":{"user.address.city":{"in":["Berlin","Bonn"]},"at":{"gte":"2026-01-02T03:04:05Z"}},` +
	`"any":[{"a":{"eq":1}},{"b":{"exists":true}}],"expr":"c == true","expr_any":[{"c":{"eq":true}}]`

func wantSpec() filter.Spec {
	return filter.Spec{
		SubscriberID: "user_1", EventTypes: []string{"purchase"}, MinAmount: new(10.0),
		Where: filter.Where{
			"user.address.city": {In: []filter.Scalar{filter.Text("Berlin"), filter.Text("Bonn")}},
			"at":                {Gte: new(filter.Text("2026-01-02T03:04:05Z"))},
		},
		Any:  []filter.Where{{"a": {Eq: new(filter.Num(1))}}, {"b": {Exists: new(true)}}},
		Expr: "c == true", ExprAny: []filter.Where{{"c": {Eq: new(filter.Flag(true))}}},
	}
}

func TestUnmarshalStored(t *testing.T) {
	want := filter.Change{filter.Filter{"x", 7, wantSpec()}, true}
	for _, tt := range []struct {
		json      string
		got, want any
	}{
		{`{` + storedSpec + `}`, new(filter.Spec), &want.Spec},
		{`{"id":"x","revision":7,` + storedSpec + `}`, new(filter.Filter), &want.Filter},
		{`{"id":"x","revision":7,` + storedSpec + `,"deleted":true}`, new(filter.Change), &want},
		{`[{"id":"x","revision":7,` + storedSpec + `}]`, new([]filter.Filter), &[]filter.Filter{want.Filter}},
	} {
		if err := json.Unmarshal([]byte(tt.json), tt.got); err != nil || !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s read as %+v, %v; want %+v", tt.json, tt.got, err, tt.want)
		}
		if b, err := json.Marshal(tt.want); err != nil || string(b) != rewritten(t, tt.json, tt.got) {
			t.Errorf("%+v written as %s, %v; want %s", tt.want, b, err, tt.json)
		}
	}
}

// rewritten puts the fields into the order in which Go writes them.
func rewritten(t *testing.T, text string, into any) string {
	t.Helper()
	v := reflect.New(reflect.TypeOf(into).Elem()).Interface()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUnmarshalRefusesWhatItDoesNotKnow(t *testing.T) {
	targets := map[string]func() any{
		"Spec":   func() any { return new(filter.Spec) },
		"Filter": func() any { return new(filter.Filter) },
		"Change": func() any { return new(filter.Change) },
	}
	for _, tt := range []struct{ json, unknown string }{
		{`{"subscriber_id":"a","cities":["x"]}`, "cities"},
		{`{"subscriber_id":"a","where":{"a":{"eq":1,"regex":"x"}}}`, "regex"},
		{`{"subscriber_id":"a","any":[{"a":{"eq":1}},{"a":{"near":1}}]}`, "near"},
		{`{"subscriber_id":"a","expr":"x","expr_any":[{"a":{"size":1}}]}`, "size"},
	} {
		for name, target := range targets {
			err := json.Unmarshal([]byte(tt.json), target())
			if !errors.Is(err, filter.ErrUnknown) || !strings.HasSuffix(err.Error(), fmt.Sprintf("%q", tt.unknown)) {
				t.Errorf("%s into a %s: error %v, want ErrUnknown with %q", tt.json, name, err, tt.unknown)
			}
		}
	}
	// What belongs to a level above is unknown below.
	if err := json.Unmarshal([]byte(`{"id":"x"}`), new(filter.Spec)); !errors.Is(err, filter.ErrUnknown) {
		t.Errorf("id in a Spec: error %v, want ErrUnknown", err)
	}
	if err := json.Unmarshal([]byte(`{"deleted":true}`), new(filter.Filter)); !errors.Is(err, filter.ErrUnknown) {
		t.Errorf("deleted in a Filter: error %v, want ErrUnknown", err)
	}
	for name, target := range targets {
		if err := json.Unmarshal([]byte(`{"subscriber_id":1}`), target()); err == nil || errors.Is(err, filter.ErrUnknown) {
			t.Errorf("a number for a string in a %s: error %v, want another than ErrUnknown", name, err)
		}
	}
}

// TestUnmarshalNull: as for all types, null changes nothing, and a pointer to
// null is nil.
func TestUnmarshalNull(t *testing.T) {
	c := filter.Change{filter.Filter{"x", 7, wantSpec()}, true}
	if err := json.Unmarshal([]byte(`null`), &c); err != nil || !reflect.DeepEqual(c, filter.Change{filter.Filter{"x", 7, wantSpec()}, true}) {
		t.Errorf("null made it %+v, %v", c, err)
	}
	p := &c
	if err := json.Unmarshal([]byte(`null`), &p); err != nil || p != nil {
		t.Errorf("null made a pointer %+v, %v", p, err)
	}
}

func BenchmarkUnmarshalStored(b *testing.B) {
	for _, tt := range []struct{ name, spec string }{
		{"size=small", `{"subscriber_id":"user_1","event_types":["purchase"],"min_amount":10}`},
		{"size=usual", `{"subscriber_id":"user_1","where":{"country":{"in":["DE","FR"]},"amount":{"gte":100},"user.tier":{"eq":"pro"}}}`},
	} {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var s filter.Spec
				if err := json.Unmarshal([]byte(tt.spec), &s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
