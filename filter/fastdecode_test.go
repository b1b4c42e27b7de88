package filter_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"eventstream/filter"
	"eventstream/filter/filtertest"
)

// TestPlain tells what need not go to the strict decoder.
func TestPlain(t *testing.T) {
	for _, tt := range []struct {
		json string
		want bool
	}{
		{`{"subscriber_id":"a","event_types":["b"],"user_tiers":["c","d"],"user_ids":["e"],"countries":["f"],"min_amount":-0.5,"max_amount":10,"match_all":true}`, true},
		{" {\t\"countries\" : [ \"Köln\" ,\r\n\"b\" ] , \"max_amount\": 0 } ", true}, // of jsonb, and more
		{`{"event_types":["1","2","3","4","5","6","7","8","9"]}`, true},
		{`{"subscriber_id":"a","subscriber_id":"b","countries":["a","b"],"countries":["c"],"min_amount":1,"min_amount":2}`, true},
		{`{"subscriber_id":""}`, true},
		{`{"min_amount":-0,"max_amount":123456789012345678901234567890.5}`, true},
		{``, false},
		{`null`, false},
		{`{}`, false},
		{`[]`, false},
		{`{"subscriber_id":"a"`, false},
		{`{"subscriber_id":"a",}`, false},
		{`{"subscriber_id":"a"} x`, false},
		{`{"subscriber_id":"a"}{`, false},
		{`{"subscriber_id":null}`, false},
		{`{"subscriber_id":1}`, false},
		{`{"subscriber_id":"a\n"}`, false},
		{`{"subscriber_id":"\u0061"}`, false},
		{"{\"subscriber_id\":\"a\nb\"}", false},
		{"{\"subscriber_id\":\"\xff\"}", false},
		{"{\"subscriber_id\":\"\xed\xa0\x80\"}", false},
		{`{"Subscriber_ID":"a"}`, false},
		{`{"subscriber_id ":"a"}`, false},
		{`{"event_types":[]}`, false},
		{`{"event_types":null}`, false},
		{`{"event_types":[null]}`, false},
		{`{"event_types":["a",]}`, false},
		{`{"event_types":["a"`, false},
		{`{"event_types":"a"}`, false},
		{`{"min_amount":1e3}`, false},
		{`{"min_amount":01}`, false},
		{`{"min_amount":-01}`, false},
		{`{"min_amount":.5}`, false},
		{`{"min_amount":1.}`, false},
		{`{"min_amount":+1}`, false},
		{`{"min_amount":--1}`, false},
		{`{"min_amount":1-1}`, false},
		{`{"min_amount":1.2.3}`, false},
		{`{"min_amount":-}`, false},
		{`{"min_amount":0x10}`, false},
		{`{"min_amount":"1"}`, false},
		{`{"min_amount":1` + strings.Repeat("0", 400) + `}`, false},
		{`{"match_all":false}`, false},
		{`{"match_all":truex}`, false},
		{`{"cities":["a"]}`, false},
		{`{"where":{"a":{"eq":1}}}`, false},
		{`{"expr":"a == 1"}`, false},
	} {
		if got := filter.DecodesFast([]byte(tt.json)); got != tt.want {
			t.Errorf("%.80s: decoded fast = %t, want %t", tt.json, got, tt.want)
		}
		checkDecodeStored(t, []byte(tt.json))
	}
}

// FuzzDecodeStored compares it with the strict decoder.
func FuzzDecodeStored(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		f.Add(filtertest.Stored(f, filtertest.Spec(rng)))
	}
	f.Add([]byte(`{"max_amount": 1.5, "countries": ["ä", "b"], "match_all": true, "subscriber_id": "a"}`))
	f.Add([]byte(`{"user_ids":["a"],"user_ids":["b","c"],"min_amount":-0,"min_amount":1e3,"EVENT_TYPES":[null]}`))
	f.Fuzz(checkDecodeStored)
}

// checkDecodeStored fails if DecodeStored does not do as the strict decoder does.
func checkDecodeStored(t *testing.T, b []byte) {
	t.Helper()
	before := string(b)
	var want filter.Spec
	wantErr := want.UnmarshalJSON(b)
	got, err := filter.DecodeStored(b)
	if fmt.Sprint(err) != fmt.Sprint(wantErr) || errors.Is(err, filter.ErrUnknown) != errors.Is(wantErr, filter.ErrUnknown) {
		t.Fatalf("%q: error %v, want %v", b, err, wantErr)
	}
	if string(b) != before {
		t.Fatalf("%q has become %q", before, b)
	}
	clear(b)                                                                // none of it is kept
	text, wantText := filtertest.Stored(t, got), filtertest.Stored(t, want) // they tell 0 from -0
	if !reflect.DeepEqual(got, want) || string(text) != string(wantText) {
		t.Fatalf("%q read as %+v, want %+v", before, got, want)
	}
}

func BenchmarkDecodeStored(b *testing.B) {
	text := []byte(`{"min_amount": 0.4387265982374, "user_tiers": ["tier_1"], "event_types": ["type_3", "type_17"], "subscriber_id": "user_123456"}`)
	for name, decode := range map[string]func([]byte) (filter.Spec, error){
		"plain":  filter.DecodeStored,
		"strict": func(b []byte) (s filter.Spec, err error) { err = s.UnmarshalJSON(b); return s, err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decode(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
