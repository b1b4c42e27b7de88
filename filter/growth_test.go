package filter_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"eventstream/filter"
	"eventstream/filter/expr"
	"eventstream/filter/filtertest"
	"eventstream/internal/testenv"
)

// TestGrowthOfParsing: what is wrong with a filter costs as much as it is long,
// in whatever way it is wrong.
func TestGrowthOfParsing(t *testing.T) {
	old := filter.Spec{SubscriberID: "u", EventTypes: []string{"a"}}
	for _, tt := range []struct {
		name, before, piece, after string
		n                          int
	}{
		{"attributes", `{"subscriber_id":"u","where":{`, `"a#":{"eq":1}`, `}}`, 4000},
		{"attributes that must be missing", `{"subscriber_id":"u","where":{`, `"a#":{"exists":false}`, `}}`, 4000},
		{"fields", `{`, `"x#":{}`, `}`, 4000},
		{"fields given twice", `{`, `"where":{}`, `}`, 4000},
		{"operators", `{"where":{"a":{`, `"x#":1`, `}}}`, 4000},
		{"alternatives", `{"subscriber_id":"u","any":[`, `{"a#":{"eq":1}}`, `]}`, 4000},
		{"values", `{"subscriber_id":"u","where":{"a":{"in":[`, `"v#"`, `],"ne":"x"}}}`, 4000},
		{"values given twice", `{"subscriber_id":"u","where":{"a":{"in":[`, `"v"`, `]}}}`, 4000},
		{"values of the wrong type", `{"subscriber_id":"u","user_ids":[`, `#`, `]}`, 4000},
		{"values excluded", `{"subscriber_id":"u","event_types":["x"],"where":{"event_type":{"not_in":[`, `"v#"`, `]}}}`, 4000},
		{"digits", `{"min_amount":`, `1`, `}`, 4000},
		{"depth", `{"a":`, `[`, ``, 4000},
	} {
		testenv.Growth(t, tt.name, tt.n, func(n int) func() {
			pieces := filtertest.Numbered(n, tt.piece)
			if tt.name == "depth" || tt.name == "digits" {
				pieces = strings.Repeat(tt.piece, 10*n)
			}
			body := []byte(tt.before + pieces + tt.after)
			return func() {
				filter.ParseSpec(body, expr.Translate)
				old.Patch(body, expr.Translate)
			}
		})
	}
}

// TestProblemsAreBounded: however much is wrong, about a hundred problems are told.
func TestProblemsAreBounded(t *testing.T) {
	for _, body := range []string{
		`{` + filtertest.Numbered(5000, `"x#":1`) + `}`, `{"where":{` + filtertest.Numbered(5000, `"a#":{"x":1}`) + `}}`, `{"any":[` + filtertest.Numbered(5000, `{}`) + `]}`,
		`{"subscriber_id":"u","user_ids":[` + filtertest.Numbered(5000, `""`) + `]}`, `{"where":{` + filtertest.Numbered(5000, `"a#":{"gt":true}`) + `}}`,
	} {
		_, err := filter.ParseSpec([]byte(body), expr.Translate)
		bad, ok := errors.AsType[*filter.Invalid](err)
		if !ok || len(bad.Problems) != 101 || !strings.HasPrefix(bad.Problems[100].Detail, "there are more problems") {
			t.Errorf("%.60s: %.200v; want 100 problems, and that there are more", body, err)
		}
	}
}

// TestGrowthOfExpressions goes up to the most bytes that one may have. That bounds what
// CEL's parser takes by itself: 8 ms of a.b.b.b and so on.
func TestGrowthOfExpressions(t *testing.T) {
	for _, tt := range []struct{ name, before, piece, between, after string }{
		{"or of one attribute", "", "a==#", "||", ""},
		{"and of attributes", "", "a#==1", "&&", ""},
		{"a list", "a in [", "#", ",", "]"},
		{"a list, and what is excluded", "a in [1,2] && !(a in [", "#", ",", "])"},
		{"not equal", "", "a!=#", "&&", ""},
		{"alternatives", "", "(a#==1||b==1)", "&&", ""},
		{"minus", "a==", "-(", "", ""},
		{"not", "", "!", "", "a"},
		{"a string", `a=="`, "x", "", `"`},
	} {
		testenv.GrowthUpTo(t, tt.name, filter.MaxExprBytes, func(n int) func() {
			var b strings.Builder
			b.WriteString(tt.before)
			for i := 0; b.Len() < n-16; i++ {
				if i > 0 {
					b.WriteString(tt.between)
				}
				b.WriteString(strings.ReplaceAll(tt.piece, "#", fmt.Sprint(100+i)))
			}
			src := b.String() + tt.after
			return func() { expr.Translate(src) }
		})
	}
}

func mustParse(t *testing.T, body string) filter.Spec {
	t.Helper()
	s, err := filter.ParseSpec([]byte(body), expr.Translate)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGrowthOfExplain(t *testing.T) {
	s := mustParse(t, `{"subscriber_id":"u","where":{"a":{"contains":"x","ne":"y","not_in":["z","q"]}},"match_all":true}`)
	for name, piece := range map[string]string{"texts": `"word #"`, "numbers": `#`, "objects": `{"b":[#]}`} {
		testenv.Growth(t, name, 2000, func(n int) func() {
			raw := []byte(`{"event_type":"x","a":[` + filtertest.Numbered(n, piece) + `]}`)
			return func() {
				ev, err := filter.DecodeEvent(raw)
				if err != nil {
					t.Fatal(err)
				}
				s.Explain(ev)
			}
		})
	}
}
