package filter_test

import (
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"eventstream/filter"
	"eventstream/filter/filtertest"
)

func TestPatch(t *testing.T) {
	const stored = `{"subscriber_id":"ada","event_types":["purchase","refund"],"min_amount":100,"where":{"a.b":{"gte":1,"lt":5},"c":{"eq":"x"}}}`
	for _, tt := range []struct{ patch, want string }{
		{`{}`, stored},
		{`{"min_amount":null}`, `{"subscriber_id":"ada","event_types":["purchase","refund"],"where":{"a.b":{"gte":1,"lt":5},"c":{"eq":"x"}}}`},
		{`{"event_types":["login"],"countries":["DE"]}`, `{"subscriber_id":"ada","event_types":["login"],"countries":["DE"],"min_amount":100,"where":{"a.b":{"gte":1,"lt":5},"c":{"eq":"x"}}}`},
		{`{"where":{"a.b":{"lt":null,"lte":7},"c":null}}`, `{"subscriber_id":"ada","event_types":["purchase","refund"],"min_amount":100,"where":{"a.b":{"gte":1,"lte":7}}}`},
		{`{"where":null,"nothing":null,"any":null}`, `{"subscriber_id":"ada","event_types":["purchase","refund"],"min_amount":100}`},
		{`{"where":{"new":{"in":[1,2],"ne":null}}}`, `{"subscriber_id":"ada","event_types":["purchase","refund"],"min_amount":100,"where":{"a.b":{"gte":1,"lt":5},"c":{"eq":"x"},"new":{"in":[1,2]}}}`},
		{`{"min_amount":{"x":1}}`, `/min_amount: want a number that fits a 64-bit float, got {"x":1}`},
		{`{"subscriber_id":null}`, `/subscriber_id: required`},
		{`{"id":"x"}`, `/id: unknown field`},
		{`{"where":{"c":{"eq":"y","eq":"z"}}}`, `/where/c/eq: given twice`},
		{`{"min_amount":1,"min_amount":1}`, `/min_amount: given twice`},
		{`{"any":[{"a":{"eq":1,"eq":2}}]}`, `/any/0/a/eq: given twice`},
		{`{"where":{"a.b":{"gte":9}}}`, `/where/a.b/lt: empty`},
		{`{"expr":"a == 1"}`, `/expr: expressions are not supported here`},
		{`{"expr_any":[]}`, `/expr_any: is made from expr; leave it out`},
		{`[]`, `malformed JSON: want a JSON object`},
		{`{"a":1}{}`, `malformed JSON at byte 8: invalid character '{' after top-level value`},
		{"{\"a\":\"\xff\"}", `malformed JSON at byte 7: not valid UTF-8`},
		{``, `malformed JSON: want a JSON object`},
	} {
		var s filter.Spec
		if err := json.Unmarshal([]byte(stored), &s); err != nil {
			t.Fatal(err)
		}
		got, err := s.Patch([]byte(tt.patch), nil)
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Patch(%s): error %v, want %s", tt.patch, err, tt.want)
			}
			continue
		}
		if b, _ := json.Marshal(got); string(b) != tt.want {
			t.Errorf("Patch(%s) =\n %s, want\n %s", tt.patch, b, tt.want)
		}
	}
}

// TestPatchIsAMerge holds Patch to the pseudocode of RFC 7396 on random patches:
// parts of another filter, and holes.
func TestPatchIsAMerge(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	patched := 0
	for range 2000 {
		s, other := filtertest.Spec(rng), filtertest.Spec(rng)
		patch := make(map[string]any)
		for k, v := range asMap(t, other) {
			switch rng.IntN(3) {
			case 0:
				patch[k] = v
			case 1:
				patch[k] = nil
			}
		}
		body, _ := json.Marshal(patch)
		made := func(string) ([]filter.Where, error) { return other.ExprAny, nil }
		got, err := s.Patch(body, made)
		merged, _ := json.Marshal(mergeRFC(asMap(t, s), patch))
		want, wantErr := filter.ParseSpec(merged, made)
		if !reflect.DeepEqual(got, want) || (err == nil) != (wantErr == nil) {
			t.Fatalf("%+v patched by %s:\n got %+v, %v\nwant %+v, %v", s, body, got, err, want, wantErr)
		}
		if err == nil {
			patched++
		} else if !errors.As(err, new(*filter.Invalid)) {
			t.Fatalf("%s: %v", body, err)
		}
	}
	if patched < 200 {
		t.Errorf("only %d patches made a filter", patched)
	}
}

func asMap(t *testing.T, s filter.Spec) map[string]any {
	t.Helper()
	s.ExprAny = nil
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	m, err := filter.DecodeEvent(b) // any object; numbers stay as they are written
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mergeRFC(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	old, _ := target.(map[string]any)
	out := maps.Clone(old)
	if out == nil {
		out = make(map[string]any)
	}
	for name, value := range changes {
		if value == nil {
			delete(out, name)
		} else {
			out[name] = mergeRFC(out[name], value)
		}
	}
	return out
}
