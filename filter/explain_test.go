package filter_test

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"eventstream/filter"
	"eventstream/filter/filtertest"
)

func TestExplain(t *testing.T) {
	for _, tt := range []struct{ spec, event, want string }{
		{`{"subscriber_id":"a","event_types":["purchase"],"min_amount":100}`, `{"event_type":"purchase","amount":100}`,
			`{"matches":true}`},
		{`{"subscriber_id":"a","event_types":["purchase","refund"],"min_amount":100}`, `{"event_type":"login"}`,
			`{"matches":false,"failed":[{"field":"/event_types","attribute":"event_type","asked":"in [\"purchase\", \"refund\"]","found":"\"login\""},` +
				`{"field":"/min_amount","attribute":"amount","asked":"gte 100","found":"nothing: the event has no such attribute"}]}`},
		{`{"subscriber_id":"a","min_amount":1,"where":{"amount":{"lt":5,"ne":3}}}`, `{"event_type":"x","amount":[0,9,3]}`,
			`{"matches":false,"failed":[{"field":"/where/amount/ne","attribute":"amount","asked":"ne 3","found":"0, 9, 3"}]}`},
		{`{"subscriber_id":"a","min_amount":1,"where":{"amount":{"lt":5}}}`, `{"event_type":"x","amount":[0,9]}`,
			`{"matches":false,"failed":[{"field":"/min_amount","attribute":"amount","asked":"gte 1 and lt 5","found":"0, 9"}]}`},
		{`{"subscriber_id":"a","any":[{"a.b":{"prefix":"x"}},{"c":{"exists":true}}]}`, `{"event_type":"x","a":{"b":[null,{},true,1e3,[],"y",7]}}`,
			`{"matches":false,"failed":[{"field":"/any/0/a.b/prefix","attribute":"a.b","asked":"prefix \"x\"","found":"null, an object, true, 1e3, [] and 2 more"},` +
				`{"field":"/any/1/c/exists","attribute":"c","asked":"exists true","found":"nothing: the event has no such attribute"}]}`},
		{`{"subscriber_id":"a","where":{"a":{"between":[1,2]}}}`, `{"event_type":"x","a":[]}`,
			`{"matches":false,"failed":[{"field":"/where/a/between","attribute":"a","asked":"between [1, 2]","found":"[]"}]}`},
	} {
		var s filter.Spec
		if err := json.Unmarshal([]byte(tt.spec), &s); err != nil {
			t.Fatal(err)
		}
		ev, err := filter.DecodeEvent([]byte(tt.event))
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := json.Marshal(s.Explain(ev)); string(got) != tt.want {
			t.Errorf("%s on %s:\n got %s\nwant %s", tt.spec, tt.event, got, tt.want)
		}
	}
}

// TestExplainAgreesWithMatch on random filters and events. What it says of an
// event that doesn't match is true: each failure that is one operator is one of
// the filter's, and alone refuses the event as well.
func TestExplainAgreesWithMatch(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	matches, checked := 0, 0
	for range 5000 {
		s, raw := filtertest.Spec(rng), filtertest.Event(rng)
		ev, err := filter.DecodeEvent(raw)
		if err != nil {
			t.Fatal(err)
		}
		x := s.Explain(ev)
		if x.Matches != s.Match(ev) || x.Matches != (len(x.Failed)+x.Omitted == 0) {
			t.Fatalf("%+v on %s: Match = %t, explained as %+v", s, raw, s.Match(ev), x)
		}
		if x.Matches {
			matches++
		}
		for _, g := range filter.Operators(&s) {
			alone, told := g.Alone(), g.Failure(ev)
			for _, f := range x.Failed {
				if f != told {
					continue
				}
				if checked++; alone.Match(ev) {
					t.Fatalf("%+v on %s: told %+v, but that alone matches", s, raw, f)
				}
			}
		}
	}
	if matches < 250 || checked < 2500 {
		t.Errorf("%d matches, %d failures checked", matches, checked)
	}
}
