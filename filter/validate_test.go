package filter

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestParseSpec(t *testing.T) {
	amount := func(f float64) *float64 { return &f }
	for _, tt := range []struct {
		body string
		want Spec
	}{
		{
			`{"subscriber_id":"user_1","event_types":["purchase"],"user_tiers":["premium"],"min_amount":100}`,
			Spec{SubscriberID: "user_1", EventTypes: []string{"purchase"}, UserTiers: []string{"premium"}, MinAmount: amount(100)},
		},
		{` {"min_amount" : -1.5e3 , "subscriber_id":"\u00e4/日本語"} ` + "\n", Spec{SubscriberID: "ä/日本語", MinAmount: amount(-1500)}},
		{`{"subscriber_id":"a","min_amount":0}`, Spec{SubscriberID: "a", MinAmount: amount(0)}},
		{`{"subscriber_id":"a","min_amount":0.1}`, Spec{SubscriberID: "a", MinAmount: amount(0.1)}},
		{`{"subscriber_id":"a","match_all":true}`, Spec{SubscriberID: "a", MatchAll: true}},
		{`{"subscriber_id":"a","event_types":["x y"],"match_all":false}`, Spec{SubscriberID: "a", EventTypes: []string{"x y"}}},
		{`{"subscriber_id":"` + strings.Repeat("é", 64) + `","match_all":true}`, Spec{SubscriberID: strings.Repeat("é", 64), MatchAll: true}},
	} {
		got, err := ParseSpec([]byte(tt.body))
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
		{`{`, "malformed JSON: unexpected EOF"},
		{`{"subscriber_id"`, "malformed JSON: unexpected EOF"},
		{`{"subscriber_id":`, "malformed JSON: unexpected EOF"},
		{`{"subscriber_id":"a"`, "malformed JSON: unexpected EOF"},
		{`{"subscriber_id":"a",}`, "malformed JSON: invalid character '}' looking for beginning of object key string"},
		{`{"subscriber_id" "a"}`, "malformed JSON: expected colon after object key"},
		{`{1:2}`, "malformed JSON: invalid character '1'"},
		{`{"subscriber_id":"a"}{}`, "malformed JSON: more after the object"},
		{`{"subscriber_id":"a"} x`, "malformed JSON: more after the object"},
		{"{\"subscriber_id\":\"\xff\"}", "malformed JSON: not valid UTF-8"},
		{`{"a":` + strings.Repeat("[", 20000) + `}`, "malformed JSON: invalid character '[' exceeded max depth"},
	} {
		_, err := ParseSpec([]byte(tt.body))
		if !errors.Is(err, ErrSyntax) || err.Error() != tt.want {
			t.Errorf("ParseSpec(%.60s): error %q, want %q", tt.body, err, tt.want)
		}
	}
}

const noCondition = `: no condition: this filter would match every event; give event_types, user_tiers or min_amount, or confirm with "match_all": true`

func TestParseSpecTellsAllThatIsWrong(t *testing.T) {
	const ok = `"subscriber_id":"a","event_types":["x"]`
	long := strings.Repeat("x", 129)
	for _, tt := range []struct {
		body string
		want []string
	}{
		{`{}`, []string{"/subscriber_id: required", noCondition}},
		{`{"subscriber_id":"a"}`, []string{noCondition}},
		{`{"subscriber_id":"a","match_all":false}`, []string{noCondition}},
		{`{` + ok + `,"match_all":true}`, []string{"/match_all: contradicts the conditions; leave it out, or leave them out"}},
		{`{` + ok + `,"event_type":"x"}`, []string{"/event_type: unknown field; allowed are subscriber_id, event_types, user_tiers, min_amount, match_all"}},
		{`{` + ok + `,"a/b~":1,"":1}`, []string{
			"/a~1b~0: unknown field; allowed are subscriber_id, event_types, user_tiers, min_amount, match_all",
			"/: unknown field; allowed are subscriber_id, event_types, user_tiers, min_amount, match_all",
		}},
		{`{` + ok + `,"event_types":["y"]}`, []string{"/event_types: given twice"}},
		{`{` + ok + `,"Event_Types":["y"]}`, []string{"/Event_Types: unknown field; allowed are subscriber_id, event_types, user_tiers, min_amount, match_all"}},
		{`{"subscriber_id":1,"event_types":"x","user_tiers":[1],"min_amount":"5","match_all":0}`, []string{
			"/subscriber_id: want a string, got 1",
			`/event_types: want a list of strings, got "x"`,
			"/user_tiers: want a list of strings, got [1]",
			`/min_amount: want a number that fits a 64-bit float, got "5"`,
			"/match_all: want true or false, got 0",
		}},
		{`{"subscriber_id":null,"event_types":null,"user_tiers":["x",null],"min_amount":null,"match_all":null}`, []string{
			"/subscriber_id: want a string, got null",
			"/event_types: want a list of strings, got null",
			`/user_tiers: want a list of strings, got ["x",null]`,
			"/min_amount: want a number that fits a 64-bit float, got null",
			"/match_all: want true or false, got null",
		}},
		{`{"subscriber_id":"a","min_amount":1e999}`, []string{"/min_amount: want a number that fits a 64-bit float, got 1e999"}},
		{`{"subscriber_id":"a","event_types":[],"user_tiers":[]}`, []string{
			"/event_types: an empty list matches nothing; leave the field out to match any value",
			"/user_tiers: an empty list matches nothing; leave the field out to match any value",
		}},
		{`{"subscriber_id":"a","event_types":["x","","x","` + long + `","\u0007"]}`, []string{
			"/event_types/1: empty string; want 1 to 128 bytes",
			"/event_types/2: same as /event_types/0",
			"/event_types/3: 129 bytes; at most 128 are allowed",
			"/event_types/4: control characters and invalid UTF-8 are not allowed",
		}},
		{`{"subscriber_id":"a","user_tiers":["y"` + strings.Repeat(`,"y"`, 100) + `]}`, []string{"/user_tiers: 101 values; at most 100 are allowed"}},
		{`{"subscriber_id":"` + long + `","match_all":true}`, []string{"/subscriber_id: 129 bytes; at most 128 are allowed"}},
		{`{"subscriber_id":"a b","match_all":true}`, []string{"/subscriber_id: ' ' is not allowed; spaces and control characters are not"}},
		{`{"subscriber_id":"a\u0000","match_all":true}`, []string{`/subscriber_id: '\x00' is not allowed; spaces and control characters are not`}},
		{`{"subscriber_id":"a\u00a0b","match_all":true}`, []string{`/subscriber_id: '\u00a0' is not allowed; spaces and control characters are not`}},
		{`{"subscriber_id":["` + strings.Repeat("é", 40) + `"],"match_all":true}`, []string{`/subscriber_id: want a string, got ["` + strings.Repeat("é", 29) + `…`}},
	} {
		_, err := ParseSpec([]byte(tt.body))
		bad, ok := errors.AsType[*Invalid](err)
		if !ok {
			t.Errorf("ParseSpec(%.80s): error %v, want *Invalid", tt.body, err)
			continue
		}
		if want := strings.Join(tt.want, "; "); bad.Error() != want || len(bad.Problems) != len(tt.want) {
			t.Errorf("ParseSpec(%.80s):\n got %s\nwant %s", tt.body, bad, want)
		}
	}
}

// TestValidate covers what JSON can't express.
func TestValidate(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, tt := range []struct {
		spec Spec
		want string
	}{
		{Spec{SubscriberID: "a", MinAmount: &inf}, "/min_amount: want a finite number"},
		{Spec{SubscriberID: "a", MinAmount: &nan}, "/min_amount: want a finite number"},
		{Spec{SubscriberID: "\xff", MatchAll: true}, "/subscriber_id: not valid UTF-8"},
		{Spec{SubscriberID: "a", EventTypes: []string{"\xff"}}, "/event_types/0: control characters and invalid UTF-8 are not allowed"},
	} {
		err := tt.spec.Validate()
		if err == nil || err.Error() != tt.want {
			t.Errorf("Validate(%+v) = %v, want %s", tt.spec, err, tt.want)
		}
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
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := ParseSpec(body)
		if err != nil {
			if bad, ok := errors.AsType[*Invalid](err); !ok && !errors.Is(err, ErrSyntax) || ok && len(bad.Problems) == 0 {
				t.Errorf("error %v of type %T, want one that wraps ErrSyntax, or an *Invalid with Problems", err, err)
			}
			return
		}
		if !json.Valid(body) {
			t.Error("accepted, but not valid JSON")
		}
		stored, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseSpec(stored)
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("stored as %s and read as %+v, %v; want %+v", stored, again, err, s)
		}
	})
}
