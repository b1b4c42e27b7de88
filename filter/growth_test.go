package filter_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/filter/expr"
	"eventstream/internal/testenv"
)

// numbered returns n pieces, numbered, with commas between them.
func numbered(n int, piece string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = strings.ReplaceAll(piece, "#", fmt.Sprint(i))
	}
	return strings.Join(all, ",")
}

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
			pieces := numbered(n, tt.piece)
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
		`{` + numbered(5000, `"x#":1`) + `}`, `{"where":{` + numbered(5000, `"a#":{"x":1}`) + `}}`, `{"any":[` + numbered(5000, `{}`) + `]}`,
		`{"subscriber_id":"u","user_ids":[` + numbered(5000, `""`) + `]}`, `{"where":{` + numbered(5000, `"a#":{"gt":true}`) + `}}`,
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

// TestGrowthOfTheIndex puts filters of one subscriber in and takes them out, as when
// it connects and is gone, and one by one between Snapshots.
func TestGrowthOfTheIndex(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		each       bool
		n          int
	}{
		{"a value for each", `{"subscriber_id":"u","event_types":["t#"]}`, false, 1000},
		{"an attribute for each", `{"subscriber_id":"u","where":{"a#":{"eq":1}}}`, false, 2000},
		{"an attribute that exists for each", `{"subscriber_id":"u","where":{"a#":{"exists":true}}}`, false, 2000},
		{"prefixes", `{"subscriber_id":"u","where":{"a":{"prefix":"p#"}}}`, false, 1000},
		{"intervals", `{"subscriber_id":"u","min_amount":#}`, false, 1000},
		{"broad", `{"subscriber_id":"u","where":{"a":{"contains":"c#"}},"match_all":true}`, false, 1000},
		{"broad, one by one", `{"subscriber_id":"u","where":{"a":{"contains":"c#"}},"match_all":true}`, true, 500},
		{"lists", `{"subscriber_id":"u","user_ids":[` + numbered(50, `"#u@"`) + `]}`, false, 200},
	} {
		testenv.Growth(t, tt.name, tt.n, func(n int) func() {
			specs := make([]filter.Spec, n)
			for i := range specs {
				specs[i] = mustParse(t, strings.NewReplacer("#", fmt.Sprint(i), "@", fmt.Sprint(i)).Replace(tt.body))
			}
			return func() {
				x := filter.NewIndex()
				conditions := make([]*filter.Condition, n)
				for i := range specs {
					conditions[i] = x.Intern(&specs[i])
					x.Add(conditions[i], 0)
					if tt.each {
						x.Snapshot()
					}
				}
				x.Snapshot()
				for _, c := range conditions {
					x.Remove(c, 0)
					x.Release(c)
				}
			}
		})
	}
}

// TestGrowthOfMatching has the more filters, and the larger events. Beside the ratio,
// filters times the size of the event must not be what it takes.
func TestGrowthOfMatching(t *testing.T) {
	long := `"` + strings.Repeat("lorem ipsum, ", 2000) + `"`
	words := "[" + numbered(3000, `"word # of many"`) + "]"
	mixed := make([]string, 3000) // to sort what is in order takes less
	for i := range mixed {
		mixed[i] = fmt.Sprint(i*7919%len(mixed), ".5")
	}
	numbers := "[" + strings.Join(mixed, ",") + "]"
	for _, tt := range []struct{ name, where, value string }{
		{"contains in a long text", `{"contains":"no such #"}`, long},
		{"suffix of many", `{"suffix":"no such #"}`, words},
		{"contains in many", `{"contains":"word # of nothing"}`, words},
		{"ne of many", `{"ne":"word # of many"}`, words},
		{"not_in of numbers", `{"not_in":[#,1e9]}`, numbers},
		{"intervals of many", `{"gt":#.1,"lt":#.2,"contains":"x"}`, numbers},
		{"prefixes of many", `{"prefix":"word #"}`, words},
		{"equal to many", `{"eq":"word #"}`, words},
	} {
		match := func(n int, value string) (func(), func() int) {
			x := filter.NewIndex()
			for i := range n {
				where := strings.ReplaceAll(tt.where, "#", fmt.Sprint(i))
				s := filter.Spec{SubscriberID: "u", MatchAll: true}
				if err := json.Unmarshal([]byte(`{"a":`+where+`}`), &s.Where); err != nil {
					t.Fatal(err)
				}
				x.Add(x.Intern(&s), filter.Slot(i))
			}
			snap := x.Snapshot()
			var d event.Decoder
			var m filter.Matcher
			raw := []byte(`{"event_type":"x","a":` + value + `}`)
			return func() {
				ev, err := d.Decode(raw, snap.Paths())
				if err != nil {
					t.Fatal(err)
				}
				m.Match(snap, ev)
			}, func() int { return m.Effort() }
		}
		testenv.Growth(t, tt.name+", filters", 2000, func(n int) func() {
			work, _ := match(n, tt.value)
			return work
		})
		testenv.Growth(t, tt.name+", values", 24, func(n int) func() {
			work, _ := match(300, "["+tt.value+strings.Repeat(","+tt.value, n-1)+"]")
			return work
		})
		work, effort := match(4000, tt.value)
		work()
		if most := 64*len(tt.value) + 4000*4096; effort() > most {
			t.Errorf("%s: an effort of %d, want at most %d", tt.name, effort(), most)
		}
	}
}

func TestGrowthOfExplain(t *testing.T) {
	s := mustParse(t, `{"subscriber_id":"u","where":{"a":{"contains":"x","ne":"y","not_in":["z","q"]}},"match_all":true}`)
	for name, piece := range map[string]string{"texts": `"word #"`, "numbers": `#`, "objects": `{"b":[#]}`} {
		testenv.Growth(t, name, 2000, func(n int) func() {
			raw := []byte(`{"event_type":"x","a":[` + numbered(n, piece) + `]}`)
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
