package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"eventstream/api"
	"eventstream/auth"
	"eventstream/filter"
	"eventstream/store"
)

func TestDryRun(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	test := func(body string) answer { return s.do("POST", "/filters:test", body) }
	a := test(`{"filters":[` + adas + `,{"subscriber_id":"ada","expr":"amount > 5"}],"events":[{"event_type":"purchase"},{"event_type":"login","amount":6}]}`)
	want(t, "status", a.status, 200)
	want(t, "body", a.body, `{"results":[`+
		`{"filter":0,"event":0,"matches":true},`+
		`{"filter":0,"event":1,"matches":false,"failed":[{"field":"/event_types","attribute":"event_type","asked":"in [\"purchase\"]","found":"\"login\""}]},`+
		`{"filter":1,"event":0,"matches":false,"failed":[{"field":"/expr","attribute":"amount","asked":"gt 5","found":"nothing: the event has no such attribute"}]},`+
		`{"filter":1,"event":1,"matches":true}]}`+"\n")
	want(t, "stored", len(s.publisher.changes), 0)

	list := func(n int, of string) string { return "[" + strings.TrimSuffix(strings.Repeat(of+",", n), ",") + "]" }
	const ev = `{"event_type":"x"}`
	numbers := make([]string, 10_000)
	for i := range numbers {
		numbers[i] = fmt.Sprint(i)
	}
	large := `{"subscriber_id":"ada","where":{"a":{"in":[` + strings.Join(numbers, ",") + `]}}}`
	for _, tt := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"empty", ``, 400, "malformed-json"},
		{"no list", `{}`, 422, `[{"field":"/filters","detail":"required: a list of at least one"},{"field":"/events","detail":"required: a list of at least one"}]`},
		{"other field", `{"filter":` + adas + `,"events":[],"events":[]}`, 422, `{"field":"/filter","detail":"unknown field; allowed are filters, events"},{"field":"/events","detail":"0 elements; want 1 to 100"},{"field":"/events","detail":"given twice"}`},
		{"null", `{"filters":null,"events":{}}`, 422, `{"field":"/filters","detail":"want a list of objects, got null"},{"field":"/events","detail":"want a list of objects, got {}"}`},
		{"wrong filter and event", `{"filters":[` + adas + `,{"subscriber_id":"a b"}],"events":[{},1,` + ev + `]}`, 422,
			`{"field":"/filters/1/subscriber_id","detail":"' ' is not allowed; spaces, and control, format and private-use characters are not"},`},
		{"wrong events", `{"filters":[` + adas + `],"events":[{},1,` + ev + `]}`, 422, `[{"field":"/events/0","detail":"no event: event_type: a non-empty string is required"},{"field":"/events/1","detail":"no event: not a JSON object"}]`},
		{"too many", `{"filters":` + list(101, adas) + `,"events":` + list(1, ev) + `}`, 422, `101 elements; want 1 to 100`},
		{"too many pairs", `{"filters":` + list(50, adas) + `,"events":` + list(50, ev) + `}`, 422, `50 filters times 50 events are 2500 pairs; at most 1000 are allowed`},
		{"large", `{"filters":` + list(1, large) + `,"events":` + list(2, `{"event_type":"x","a":[`+strings.Join(numbers[:1000], ",")+`]}`) + `}`, 200, `"event":1`},
		{"far too large", `{"filters":` + list(3, large) + `,"events":` + list(100, `{"event_type":"x","a":[`+strings.Join(numbers[:900], ",")+`]}`) + `}`, 422, `too large to be tried on each other`},
	} {
		if a := test(tt.body); a.status != tt.status || !strings.Contains(a.body, tt.want) {
			t.Errorf("%s: %d %.2000s; want %d, %s", tt.name, a.status, a.body, tt.status, tt.want)
		}
	}
}

func TestExplainEvent(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	_, first := s.create(strings.Replace(adas, "ada", "a/b", 1))
	_, second := s.create(`{"subscriber_id":"a/b","min_amount":10}`)
	s.create(adas)
	explain := func(query string) answer { return s.do("GET", "/subscribers/a%2Fb/explain?"+query, "") }
	a := explain("event=" + url.QueryEscape(`{"event_type":"purchase","amount":"7"}`))
	want(t, "status", a.status, 200)
	want(t, "body", a.body, `{"subscriber_id":"a/b","matches":true,"filters":[`+
		`{"id":"`+string(first)+`","revision":1,"matches":true},`+
		`{"id":"`+string(second)+`","revision":1,"matches":false,"failed":[{"field":"/min_amount","attribute":"amount","asked":"gte 10","found":"\"7\""}]}],"next_cursor":null}`+"\n")
	a = explain("limit=1&event=" + url.QueryEscape(`{"event_type":"login"}`))
	if !strings.Contains(a.body, `"matches":false,"filters":[{"id":"`+string(first)) || !strings.Contains(a.body, `"next_cursor":"`+string(first)+`"`) {
		t.Errorf("a page of one: %s", a.body)
	}
	a = explain("limit=1&cursor=" + string(first) + "&event=" + url.QueryEscape(`{"event_type":"login"}`))
	if !strings.Contains(a.body, `"filters":[{"id":"`+string(second)) || !strings.Contains(a.body, `"next_cursor":null`) {
		t.Errorf("the second page: %s", a.body)
	}
	for _, tt := range []struct{ query, want string }{
		{"", `{"field":"?event","detail":"required: the event as JSON, such as {\"event_type\":\"purchase\"}"}`},
		{"event=", `{"field":"?event","detail":"no event: not valid JSON"}`},
		{"event={}", `{"field":"?event","detail":"no event: event_type: a non-empty string is required"}`},
		{"events={}", `{"field":"?events","detail":"unknown; allowed are event, live, limit, cursor"}`},
		{"event=1&subscriber_id=ada", `{"field":"?subscriber_id","detail":"unknown; allowed are event, live, limit, cursor"}`},
	} {
		if a := explain(tt.query); a.status != 400 || !strings.Contains(a.body, tt.want) {
			t.Errorf("%s: %d %s; want 400, %s", tt.query, a.status, a.body, tt.want)
		}
	}
	want(t, "of a bad subscriber", s.do("GET", "/subscribers/a%20b/explain?event={}", "").status, 400)
	a = s.do("GET", "/subscribers/nobody/explain?event="+url.QueryEscape(`{"event_type":"x"}`), "")
	want(t, "of nobody", a.body, `{"subscriber_id":"nobody","matches":false,"filters":[],"next_cursor":null}`+"\n")
}

// TestExplainStopsEarly: a page of large filters ends before it takes too long,
// and the pages after it have the rest.
func TestExplainStopsEarly(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	values := make([]filter.Scalar, filter.MaxValues)
	for i := range values {
		values[i] = filter.Num(float64(i))
	}
	spec, err := json.Marshal(filter.Spec{SubscriberID: "ada", Where: filter.Where{"a": {In: values}}})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		s.create(string(spec))
	}
	event := url.QueryEscape(`{"event_type":"x","a":"` + strings.Repeat("y", 5000) + `"}`)
	n, pages, cursor := 0, 0, ""
	for more := true; more; pages++ {
		var page struct {
			Filters    []struct{ Matches bool }
			NextCursor *string `json:"next_cursor"`
		}
		if err := unmarshal(s.do("GET", "/subscribers/ada/explain?event="+event+cursor, "").body, &page); err != nil {
			t.Fatal(err)
		}
		n += len(page.Filters)
		if more = page.NextCursor != nil; more {
			cursor = "&cursor=" + *page.NextCursor
		}
	}
	if n != 5 || pages != 2 {
		t.Errorf("%d filters on %d pages, want 5 on 2", n, pages)
	}
}

// heavyDryRun is one of much work.
var heavyDryRun = `{"filters":[{"subscriber_id":"ada","where":{"a":{"contains":"x","ne":"y"}},"match_all":true}],"events":[{"event_type":"x","a":["` +
	strings.Repeat(`z","`, 10_000) + `"]}]}`

// TestDryRunsAreBounded: much work waits for no place, and little needs none.
func TestDryRunsAreBounded(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	s.create(`{"subscriber_id":"ada","where":{"a":{"contains":"` + strings.Repeat("x", 250) + `"}},"match_all":true}`)
	large := "/subscribers/ada/explain?event=" + url.QueryEscape(`{"event_type":"x","a":"`+strings.Repeat("y", 5000)+`"}`)
	release := s.server.HoldDryRuns()
	for what, a := range map[string]answer{"POST": s.do("POST", "/filters:test", heavyDryRun), "GET": s.do("GET", large, "")} {
		if a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "urn:eventstream:problem:busy") {
			t.Errorf("%s of much work while there is no place: %d %s", what, a.status, a.body)
		}
	}
	small := `{"filters":[` + adas + `],"events":[{"event_type":"x"}]}`
	want(t, "POST of little work", s.do("POST", "/filters:test", small).status, 200)
	want(t, "GET of little work", s.do("GET", "/subscribers/ada/explain?event="+anEvent, "").status, 200)
	release()
	want(t, "POST of much work", s.do("POST", "/filters:test", heavyDryRun).status, 200)
	want(t, "GET of much work", s.do("GET", large, "").status, 200)
}

// TestDryRunsAreCounted: much work counts as many requests of the key.
func TestDryRunsAreCounted(t *testing.T) {
	keys := &keyring{}
	key := []string{"Authorization", "Bearer " + keys.create(t, auth.ScopeRead)}
	s := startGuarded(t, api.Config{Limits: api.LimitConfig{PerKey: 100, Redis: &clock{}}}, keys)
	left := func(what string, a answer, status int, limit string) {
		t.Helper()
		want(t, what, a.status, status)
		want(t, what+": RateLimit", a.header.Get("RateLimit"), limit)
	}
	left("a request", s.do("GET", "/filters", "", key...), 200, `"key";r=99;t=1`)
	left("much work", s.do("POST", "/filters:test", heavyDryRun, key...), 200, `"key";r=66;t=1`)
	left("a request", s.do("GET", "/filters", "", key...), 200, `"key";r=65;t=1`)
	left("much work", s.do("POST", "/filters:test", heavyDryRun, key...), 200, `"key";r=32;t=1`)
	a := s.do("POST", "/filters:test", heavyDryRun, key...)
	left("much work that is too much", a, 429, `"key";r=31;t=1`)
	if !strings.Contains(a.body, "counts as 32 more") {
		t.Errorf("the answer does not say what it counts as: %s", a.body)
	}
	left("a request", s.do("GET", "/filters", "", key...), 200, `"key";r=30;t=1`)
}
