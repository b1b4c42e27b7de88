package index_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/filter/filtertest"
	"eventstream/filter/index"
	"eventstream/internal/testenv"
)

func mustParse(t *testing.T, body string) filter.Spec {
	t.Helper()
	s, err := filter.ParseSpec([]byte(body), nil)
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
		{"lists", `{"subscriber_id":"u","user_ids":[` + filtertest.Numbered(50, `"#u@"`) + `]}`, false, 200},
	} {
		testenv.Growth(t, tt.name, tt.n, func(n int) func() {
			specs := make([]filter.Spec, n)
			for i := range specs {
				specs[i] = mustParse(t, strings.NewReplacer("#", fmt.Sprint(i), "@", fmt.Sprint(i)).Replace(tt.body))
			}
			return func() {
				x := index.New(index.Options{})
				conditions := make([]*index.Condition, n)
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
	words := "[" + filtertest.Numbered(3000, `"word # of many"`) + "]"
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
			x := index.New(index.Options{})
			for i := range n {
				where := strings.ReplaceAll(tt.where, "#", fmt.Sprint(i))
				s := filter.Spec{SubscriberID: "u", MatchAll: true}
				if err := json.Unmarshal([]byte(`{"a":`+where+`}`), &s.Where); err != nil {
					t.Fatal(err)
				}
				x.Add(x.Intern(&s), index.Slot(i))
			}
			snap := x.Snapshot()
			var d event.Decoder
			var m index.Matcher
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
