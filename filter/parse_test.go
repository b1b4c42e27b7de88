package filter_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"eventstream/filter"
	"eventstream/filter/filtertest"
)

func TestParseSpec(t *testing.T) {
	amount := func(f float64) *float64 { return &f }
	for _, tt := range []struct {
		body string
		want filter.Spec
	}{
		{
			`{"subscriber_id":"user_1","event_types":["purchase"],"user_tiers":["premium"],"min_amount":100}`,
			filter.Spec{SubscriberID: "user_1", EventTypes: []string{"purchase"}, UserTiers: []string{"premium"}, MinAmount: amount(100)},
		},
		{` {"min_amount" : -1.5e3 , "subscriber_id":"\u00e4/日本語"} ` + "\n", filter.Spec{SubscriberID: "ä/日本語", MinAmount: amount(-1500)}},
		{`{"subscriber_id":"a","min_amount":0}`, filter.Spec{SubscriberID: "a", MinAmount: amount(0)}},
		{`{"subscriber_id":"a","min_amount":0.1}`, filter.Spec{SubscriberID: "a", MinAmount: amount(0.1)}},
		{`{"subscriber_id":"a","match_all":true}`, filter.Spec{SubscriberID: "a", MatchAll: true}},
		{`{"subscriber_id":"a","event_types":["x y"],"match_all":false}`, filter.Spec{SubscriberID: "a", EventTypes: []string{"x y"}}},
		{
			`{"subscriber_id":"a","user_ids":["u"],"countries":["DE"],"max_amount":5,"where":{"a.b":{"eq":"x","not_in":[1,true]},` +
				`"c":{"between":["2026-01-02T03:04:05Z","2027-01-02T03:04:05+02:00"]}},"any":[{"d":{"prefix":"p","exists":true}}]}`,
			filter.Spec{
				SubscriberID: "a", UserIDs: []string{"u"}, Countries: []string{"DE"}, MaxAmount: amount(5),
				Where: filter.Where{
					"a.b": {Eq: new(filter.Text("x")), NotIn: []filter.Scalar{filter.Num(1), filter.Flag(true)}},
					"c":   {Between: []filter.Scalar{filter.Text("2026-01-02T03:04:05Z"), filter.Text("2027-01-02T03:04:05+02:00")}},
				},
				Any: []filter.Where{{"d": {Prefix: new("p"), Exists: new(true)}}},
			},
		},
		{`{"subscriber_id":"a","min_amount":1152921504606847000}`, filter.Spec{SubscriberID: "a", MinAmount: amount(1 << 60)}}, // as encoding/json writes it
		{`{"subscriber_id":"a","min_amount":1152921504606846976}`, filter.Spec{SubscriberID: "a", MinAmount: amount(1 << 60)}},
		{`{"subscriber_id":"` + strings.Repeat("é", 64) + `","match_all":true}`, filter.Spec{SubscriberID: strings.Repeat("é", 64), MatchAll: true}},
	} {
		got, err := filter.ParseSpec([]byte(tt.body), nil)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("ParseSpec(%s) = %+v, %v; want %+v, nil", tt.body, got, err, tt.want)
		}
	}
}

func TestParseSpecRefusesWhatIsNoObject(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{``, "malformed JSON: want a JSON object"},
		{`null`, "malformed JSON: want a JSON object"},
		{`[]`, "malformed JSON: want a JSON object"},
		{`subscriber_id=a`, "malformed JSON: want a JSON object"},
		{`{`, "malformed JSON at byte 1: unexpected end of JSON input"},
		{`{"subscriber_id"`, "malformed JSON at byte 16: unexpected end of JSON input"},
		{`{"subscriber_id":`, "malformed JSON at byte 17: unexpected end of JSON input"},
		{`{"subscriber_id":"a"`, "malformed JSON at byte 20: unexpected end of JSON input"},
		{`{"subscriber_id":"a",}`, "malformed JSON at byte 22: invalid character '}' looking for beginning of object key string"},
		{`{"subscriber_id" "a"}`, `malformed JSON at byte 18: invalid character '"' after object key`},
		{`{1:2}`, "malformed JSON at byte 2: invalid character '1' looking for beginning of object key string"},
		{`{"subscriber_id":"a"}{}`, "malformed JSON at byte 22: invalid character '{' after top-level value"},
		{`{"subscriber_id":"a"} x`, "malformed JSON at byte 23: invalid character 'x' after top-level value"},
		{"{\"subscriber_id\":\"\xff\"}", "malformed JSON at byte 19: not valid UTF-8"},
		{`{"a":` + strings.Repeat("[", 20000) + `}`, "malformed JSON at byte 37: nested deeper than 32 levels"},
		{`{"\"":"[{` + strings.Repeat("[{", 40) + `","a":` + strings.Repeat(`{"b":`, 31) + `]}`, "malformed JSON at byte 251: invalid character ']' looking for beginning of value"},
	} {
		_, err := filter.ParseSpec([]byte(tt.body), nil)
		if !errors.Is(err, filter.ErrSyntax) || err.Error() != tt.want {
			t.Errorf("ParseSpec(%.60s): error %q, want %q", tt.body, err, tt.want)
		}
	}
}

const noCondition = `no condition: this filter would match every event; give event_types, user_tiers, user_ids, countries, min_amount, max_amount, where, any or expr, or confirm with "match_all": true`

func TestParseSpecTellsAllThatIsWrong(t *testing.T) {
	const ok = `"subscriber_id":"a","event_types":["x"]`
	long := strings.Repeat("x", 257)
	for _, tt := range []struct {
		body string
		want []string
	}{
		{`{}`, []string{"/subscriber_id: required", noCondition}},
		{`{"subscriber_id":"a"}`, []string{noCondition}},
		{`{"subscriber_id":"a","match_all":false}`, []string{noCondition}},
		{`{` + ok + `,"event_type":"x"}`, []string{"/event_type: unknown field; allowed are " + filter.FieldNames + "; did you mean event_types?"}},
		{`{` + ok + `,"a/b~":1,"":1}`, []string{
			"/a~1b~0: unknown field; allowed are " + filter.FieldNames,
			"/: unknown field; allowed are " + filter.FieldNames,
		}},
		{`{` + ok + `,"event_types":["y"]}`, []string{"/event_types: given twice"}},
		{`{` + ok + `,"Event_Types":["y"]}`, []string{"/Event_Types: unknown field; allowed are " + filter.FieldNames + "; did you mean event_types?"}},
		{`{"subscriber_id":1,"event_types":"x","user_tiers":[1],"min_amount":"5","match_all":0}`, []string{
			"/subscriber_id: want a string, got 1",
			`/event_types: want a list of strings, got "x"`,
			"/user_tiers/0: want a string, got 1",
			`/min_amount: want a number that fits a 64-bit float, got "5"`,
			"/match_all: want true or false, got 0",
		}},
		{`{"subscriber_id":null,"event_types":null,"user_tiers":["x",null],"min_amount":null,"match_all":null}`, []string{
			"/subscriber_id: want a string, got null",
			"/event_types: want a list of strings, got null",
			"/user_tiers/1: want a string, got null",
			"/min_amount: want a number that fits a 64-bit float, got null",
			"/match_all: want true or false, got null",
		}},
		{`{"subscriber_id":"a","min_amount":1e999}`, []string{"/min_amount: want a number that fits a 64-bit float, got 1e999"}},
		{`{"subscriber_id":"a","event_types":[],"user_tiers":[]}`, []string{
			"/event_types: an empty list matches nothing; leave the field out to match any value",
			"/user_tiers: an empty list matches nothing; leave the field out to match any value",
		}},
		{`{"subscriber_id":"a","event_types":["x","","x","` + long + `","\u0007"]}`, []string{
			"/event_types/1: empty string; want 1 to 256 bytes",
			`/event_types/2: "x" is /event_types/0 already; give each value once`,
			"/event_types/3: 257 bytes; at most 256 are allowed",
			"/event_types/4: the control character U+0007 is not allowed",
		}},
		{`{"subscriber_id":"a","user_tiers":["y"` + strings.Repeat(`,"y"`, 10000) + `]}`, []string{"/user_tiers: 10001 values; at most 10000 are allowed"}},
		{`{"subscriber_id":"` + long + `","match_all":true}`, []string{"/subscriber_id: 257 bytes; at most 128 are allowed"}},
		{`{"subscriber_id":"a b","match_all":true}`, []string{"/subscriber_id: ' ' is not allowed; spaces, and control, format and private-use characters are not"}},
		{`{"subscriber_id":"a\u0000","match_all":true}`, []string{`/subscriber_id: '\x00' is not allowed; spaces, and control, format and private-use characters are not`}},
		{`{"subscriber_id":"a\u00a0b","match_all":true}`, []string{`/subscriber_id: '\u00a0' is not allowed; spaces, and control, format and private-use characters are not`}},
		{`{"subscriber_id":["` + strings.Repeat("é", 40) + `"],"match_all":true}`, []string{`/subscriber_id: want a string, got ["` + strings.Repeat("é", 29) + `…`}},
	} {
		_, err := filter.ParseSpec([]byte(tt.body), nil)
		bad, ok := errors.AsType[*filter.Invalid](err)
		if !ok {
			t.Errorf("ParseSpec(%.80s): error %v, want *Invalid", tt.body, err)
			continue
		}
		if want := strings.Join(tt.want, "; "); bad.Error() != want || len(bad.Problems) != len(tt.want) {
			t.Errorf("ParseSpec(%.80s):\n got %s\nwant %s", tt.body, bad, want)
		}
	}
}

// translateTest is a small stand-in for the translation of expr.
func translateTest(expr string) ([]filter.Where, error) {
	switch expr {
	case "bad":
		return nil, &filter.SyntaxError{2, 7, "unknown function f"}
	case "never":
		return nil, nil
	case "always":
		return []filter.Where{{}}, nil
	case "small or large":
		return []filter.Where{{"amount": {Lt: new(filter.Num(5))}}, {"amount": {Gt: new(filter.Num(50))}}}, nil
	case "broad":
		return []filter.Where{{"a": {Eq: new(filter.Num(1))}}, {"a": {Ne: new(filter.Num(1))}}}, nil
	case "long value":
		return []filter.Where{{"a": {In: []filter.Scalar{filter.Text("x"), filter.Text(strings.Repeat("x", 257))}}}}, nil
	case "many":
		var list []filter.Where
		for i := range 9 {
			list = append(list, filter.Where{"a": {Eq: new(filter.Num(float64(i)))}})
		}
		return list, nil
	}
	return []filter.Where{{"a": {Eq: new(filter.Text(expr))}}}, nil
}

func TestParseSpecTranslatesExpr(t *testing.T) {
	for _, tt := range []struct{ fields, want string }{
		{`"expr":"x"`, ""},
		{`"expr":"small or large"`, ""},
		{`"expr":"small or large","min_amount":10`, ""}, // one of the two is left
		{`"expr":"small or large","any":[{"amount":{"gt":10}},{"amount":{"lt":2}}]`, ""},
		{`"expr":"broad","event_types":["x"]`, ""},
		{`"expr":"broad","match_all":true`, ""},
		{`"expr":"` + strings.Repeat("x", 256) + `"`, ""},
		{`"expr":"bad"`, "/expr: line 2, column 7: unknown function f"},
		{`"expr":"bad","event_types":[""]`, "/expr: line 2, column 7: unknown function f; /event_types/0: empty string; want 1 to 256 bytes"},
		{`"expr":"never"`, "/expr: has not been translated into conditions, or can never hold"},
		{`"expr":"always"`, "/expr: holds for every event, at least with one of its alternatives; ask for something in all of them"},
		{`"expr":"` + strings.Repeat("x", 4097) + `"`, "/expr: 4097 bytes; at most 4096 are allowed"},
		{`"expr":"long value"`, "/expr: a, in: 257 bytes; at most 256 are allowed"},
		{`"expr":"broad"`, "/expr: " + filter.TooBroad},
		{`"expr":"small or large","min_amount":10,"max_amount":20`, "/expr: amount, lt: empty: no value is both lt 5 and gte 10 (/min_amount); and so with all other alternatives"},
		{
			`"expr":"small or large","where":{"amount":{"lt":"2026-01-02T03:04:05Z"}}`,
			"/expr: amount, lt: a number, but lt (/where/amount/lt) has a timestamp; an attribute has one interval, of numbers or of timestamps; " +
				"/expr: amount, gt: a number, but lt (/where/amount/lt) has a timestamp; an attribute has one interval, of numbers or of timestamps",
		},
		{`"expr":"many","any":[{"b":{"eq":1}},{"b":{"eq":2}}]`, "/expr: comes to 9 alternatives, and to 18 with each of the 2 of any; at most 16 are allowed"},
		{`"expr":"x","expr_any":[]`, "/expr_any: is made from expr; leave it out"},
	} {
		s, err := filter.ParseSpec([]byte(`{"subscriber_id":"a",`+tt.fields+`}`), translateTest)
		if got := fmt.Sprint(err); got != tt.want && (err != nil || tt.want != "") {
			t.Errorf("ParseSpec({%.80s}):\n got %s\nwant %s", tt.fields, got, tt.want)
		}
		if err == nil && (s.Expr == "" || len(s.ExprAny) == 0) {
			t.Errorf("ParseSpec({%.80s}) = %+v without Expr or ExprAny", tt.fields, s)
		}
	}
}

// TestParseSpecTellsAHundredProblems: a long list of wrong values is not
// answered with a longer one.
func TestParseSpecTellsAHundredProblems(t *testing.T) {
	_, err := filter.ParseSpec([]byte(`{"event_types":[1`+strings.Repeat(",1", 5000)+`]}`), nil)
	bad, ok := errors.AsType[*filter.Invalid](err)
	if !ok || len(bad.Problems) != 101 {
		t.Fatalf("error %.200v, want an *Invalid with 101 Problems", err)
	}
	if got, want := bad.Problems[100], (filter.Problem{"", "there are more problems than these 100"}); got != want {
		t.Errorf("the last one is %v, want %v", got, want)
	}
}

// FuzzParseSpec: what is accepted keeps its meaning when it is stored and read.
func FuzzParseSpec(f *testing.F) {
	for _, seed := range []string{
		`{"subscriber_id":"user_1","event_types":["purchase"],"user_tiers":["premium"],"min_amount":100}`,
		`{"subscriber_id":"a","match_all":true}`,
		`{"subscriber_id":"\ud83d\ude00","event_types":["<\u2028>","\ud800"],"min_amount":-0.0}`,
		`{"subscriber_id":"a","min_amount":5e-324}`,
		`{"subscriber_id":"a","event_types":[],"a~/b":{"c":[1]},"subscriber_id":null}`,
		`{"a" "b"}`, `[{}]`, "\xff", `{"min_amount":1e999}`,
	} {
		f.Add([]byte(seed))
	}
	for _, l := range filtertest.Corners(f, "testdata/corners.txt") {
		if l.Mark == "filter" || l.Mark == "refused" {
			f.Add(l.WithField("subscriber_id"))
		}
	}
	for _, expr := range []string{"x", "bad", "never", "always", "small or large", "broad", "long value", "many"} {
		f.Add([]byte(`{"subscriber_id":"a","max_amount":20,"expr":"` + expr + `"}`))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := filter.ParseSpec(body, translateTest)
		if err != nil {
			if bad, ok := errors.AsType[*filter.Invalid](err); !ok && !errors.Is(err, filter.ErrSyntax) || ok && len(bad.Problems) == 0 {
				t.Errorf("error %v of type %T, want one that wraps ErrSyntax, or an *Invalid with Problems", err, err)
			}
			return
		}
		if !json.Valid(body) {
			t.Error("accepted, but not valid JSON")
		}
		survives(t, s)
		s.Match(map[string]any{"amount": 10.0, "a": []any{"x", nil}})
	})
}

// TestParseStored: what was stored can be read again, without what was added.
func TestParseStored(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for range 500 {
		s := filtertest.Spec(rng)
		body, err := json.Marshal(filter.Filter{ID: "01890a5d-ac96-774b-bcce-b302099a8057", Revision: 7, Spec: s})
		if err != nil {
			t.Fatal(err)
		}
		got, err := filter.ParseStored(body, func(string) ([]filter.Where, error) { return s.ExprAny, nil })
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("ParseStored(%s) = %+v, %v; want %+v", body, got, err, s)
		}
	}
	for _, body := range []string{
		`{"id":"x","subscriber_id":"ada","event_types":["a"],"revisions":1}`,
		`{"id":"x","id":"y","subscriber_id":"ada","event_types":["a"]}`,
	} {
		if s, err := filter.ParseStored([]byte(body), nil); err == nil {
			t.Errorf("ParseStored(%s) = %+v, want an error", body, s)
		}
	}
}
