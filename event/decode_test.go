package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

const typical = `{"event_id":"evt_1","event_type":"purchase","user_id":"user_42","user_tier":"premium",` +
	`"amount":129.99,"timestamp":"2026-01-02T03:04:05Z","items":[{"sku":"a-1","n":2},{"sku":"b-2","n":1}]}`

func TestDecode(t *testing.T) {
	num := func(f float64) *float64 { return &f }
	long := strings.Repeat("x", 1<<16)
	for _, tt := range []struct {
		raw    string
		typ    string
		tier   string
		amount *float64
		err    error
	}{
		{raw: typical, typ: "purchase", tier: "premium", amount: num(129.99)},
		{raw: `{"event_type":"a"}`, typ: "a"},
		{raw: " \r\n\t{ \"event_type\" : \"a\" } \n", typ: "a"},

		// The last of duplicates counts, whatever it is.
		{raw: `{"event_type":"a","event_type":"b"}`, typ: "b"},
		{raw: `{"event_type":"a","event_type":null}`, err: ErrNoType},
		{raw: `{"event_type":1,"event_type":"b"}`, typ: "b"},
		{raw: `{"event_type":"a","amount":1,"amount":2}`, typ: "a", amount: num(2)},
		{raw: `{"event_type":"a","amount":1,"amount":"2"}`, typ: "a"},
		{raw: `{"event_type":"a","user_tier":"x","user_tier":[]}`, typ: "a"},

		// Only the top level counts, and case does.
		{raw: `{"x":{"event_type":"a"}}`, err: ErrNoType},
		{raw: `{"x":{"event_type":"a","amount":1},"event_type":"b"}`, typ: "b"},
		{raw: `{"Event_Type":"a"}`, err: ErrNoType},

		// An attribute of a wrong type counts as absent.
		{raw: `{"event_type":"a","user_tier":null,"amount":null}`, typ: "a"},
		{raw: `{"event_type":"a","user_tier":1,"amount":"1"}`, typ: "a"},
		{raw: `{"event_type":"a","user_tier":{},"amount":[1]}`, typ: "a"},
		{raw: `{"event_type":"a","user_tier":true,"amount":true}`, typ: "a"},
		{raw: `{"event_type":null}`, err: ErrNoType},
		{raw: `{"event_type":1}`, err: ErrNoType},
		{raw: `{"event_type":["a"]}`, err: ErrNoType},
		{raw: `{"event_type":""}`, err: ErrNoType},
		{raw: `{}`, err: ErrNoType},

		// Numbers.
		{raw: `{"event_type":"a","amount":1e999}`, typ: "a", amount: num(math.Inf(1))},
		{raw: `{"event_type":"a","amount":-1e999}`, typ: "a", amount: num(math.Inf(-1))},
		{raw: `{"event_type":"a","amount":1e-999}`, typ: "a", amount: num(0)},
		{raw: `{"event_type":"a","amount":-0}`, typ: "a", amount: num(math.Copysign(0, -1))},
		{raw: `{"event_type":"a","amount":9007199254740993}`, typ: "a", amount: num(9007199254740992)},
		{raw: `{"event_type":"a","amount":2.2250738585072011e-308}`, typ: "a", amount: num(2.2250738585072011e-308)},
		{raw: `{"event_type":"a","amount":0.` + strings.Repeat("1", 500) + `}`, typ: "a", amount: num(1.0 / 9)},
		{raw: `{"event_type":"a","amount":01}`, err: ErrNotJSON},
		{raw: `{"event_type":"a","amount":+1}`, err: ErrNotJSON},
		{raw: `{"event_type":"a","amount":.5}`, err: ErrNotJSON},
		{raw: `{"event_type":"a","amount":1.}`, err: ErrNotJSON},
		{raw: `{"event_type":"a","amount":NaN}`, err: ErrNotJSON},
		{raw: `{"event_type":"a","amount":Infinity}`, err: ErrNotJSON},
		{raw: `{"event_type":"a","amount":0x10}`, err: ErrNotJSON},

		// Strings and keys.
		{raw: `{"event_type":"` + long + `"}`, typ: long},
		{raw: `{"event\u005ftype":"a"}`, typ: "a"},
		{raw: `{"\u0065vent_type":"\u0061\n\/\"\\"}`, typ: "a\n/\"\\"},
		{raw: `{"event_type":"\ud83d\ude00"}`, typ: "😀"},
		{raw: `{"event_type":"\ud83d"}`, typ: "\ufffd"},
		{raw: `{"event_type":"\ude00x","user_tier":"\ud83d\u0041"}`, typ: "\ufffdx", tier: "\ufffdA"},
		{raw: `{"event_type":"\ud83d\ud83d\ude00"}`, typ: "\ufffd😀"},
		{raw: `{"event_type":"\\ud83d"}`, typ: `\ud83d`},
		{raw: `{"event_type":"\ufffd` + "\ufffd" + `"}`, typ: "\ufffd\ufffd"},
		{raw: `{"event_type":"a\u0000b"}`, typ: "a\x00b"},
		{raw: "{\"event_type\":\"a\x00b\"}", err: ErrNotJSON},
		{raw: "{\"event_type\":\"a\nb\"}", err: ErrNotJSON},
		{raw: `{"event_type":"\x61"}`, err: ErrNotJSON},
		{raw: `{"event_type":"\u12"}`, err: ErrNotJSON},

		// Not one JSON object in UTF-8.
		{raw: "\ufeff" + `{"event_type":"a"}`, err: ErrNotJSON},
		{raw: `{"event_type":"a"}x`, err: ErrNotJSON},
		{raw: `{"event_type":"a"}{}`, err: ErrNotJSON},
		{raw: `{"event_type":"a",}`, err: ErrNotJSON},
		{raw: `{'event_type':'a'}`, err: ErrNotJSON},
		{raw: `{"event_type":"a"} // b`, err: ErrNotJSON},
		{raw: "{\"event_type\":\"\xff\"}", err: ErrNotUTF8},
		{raw: "{\"event_type\":\"a\",\"x\":\"\xed\xa0\x80\"}", err: ErrNotUTF8},
		{raw: ``, err: ErrNotJSON},
		{raw: ` `, err: ErrNotJSON},
		{raw: `null`, err: ErrNotObject},
		{raw: `"event_type"`, err: ErrNotObject},
		{raw: `[{"event_type":"a"}]`, err: ErrNotObject},

		// Depth: the object is one level.
		{raw: `{"event_type":"a","x":` + nested(MaxDepth-1) + `}`, typ: "a"},
		{raw: `{"event_type":"a","x":` + nested(MaxDepth) + `}`, err: ErrTooDeep},
		{raw: `{"event_type":"a","x":"` + strings.Repeat("x", MaxBytes-25) + `"}`, typ: "a"},
		{raw: `{"event_type":"a","x":"` + strings.Repeat("x", MaxBytes) + `"}`, err: ErrTooLarge},
		{raw: nested(20000), err: ErrNotJSON}, // past the limit of encoding/json
	} {
		var d Decoder
		ev, err := d.Decode([]byte(tt.raw))
		if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%.60q: err = %.200v, want %v", tt.raw, err, tt.err)
			continue
		}
		if err != nil {
			if n := len(err.Error()); n > 100 {
				t.Errorf("%.60q: an error of %d bytes", tt.raw, n)
			}
			continue
		}
		want := Event{Type: []byte(tt.typ)}
		if tt.tier != "" {
			want.UserTier = []byte(tt.tier)
		}
		if tt.amount != nil {
			want.Amount, want.HasAmount = *tt.amount, true
		}
		if !same(ev, &want) {
			t.Errorf("%.60q: got %.200s, want %.200s", tt.raw, show(ev), show(&want))
		}
	}
}

// nested returns n nested arrays.
func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

// same compares bit by bit: -0 is not 0.
func same(a, b *Event) bool {
	return bytes.Equal(a.Type, b.Type) && bytes.Equal(a.UserTier, b.UserTier) &&
		(a.UserTier == nil) == (b.UserTier == nil) &&
		math.Float64bits(a.Amount) == math.Float64bits(b.Amount) && a.HasAmount == b.HasAmount
}

func show(e *Event) string {
	s := "type " + strconv.Quote(string(e.Type))
	if e.UserTier != nil {
		s += ", tier " + strconv.Quote(string(e.UserTier))
	}
	if e.HasAmount {
		s += ", amount " + strconv.FormatFloat(e.Amount, 'g', -1, 64)
	}
	return s
}

func TestDecodeTruncated(t *testing.T) {
	var d Decoder
	for i := range typical {
		if ev, err := d.Decode([]byte(typical[:i])); !errors.Is(err, ErrNotJSON) {
			t.Errorf("%q: got %v, %v, want %v", typical[:i], ev, err, ErrNotJSON)
		}
	}
}

// An attribute of one event must not show up in the next.
func TestDecodeForgets(t *testing.T) {
	var d Decoder
	for _, raw := range []string{typical, `{"event_type":"b"}`} {
		if _, err := d.Decode([]byte(raw)); err != nil {
			t.Fatal(err)
		}
	}
	ev, err := d.Decode([]byte(`{"event_type":"b"}`))
	if want := (Event{Type: []byte("b")}); err != nil || !same(ev, &want) {
		t.Errorf("got %s, %v, want %s", show(ev), err, show(&want))
	}
}

// Decode must leave the raw bytes alone: they are what is sent.
func TestDecodeKeepsRaw(t *testing.T) {
	raw := []byte(`{"event\u005ftype":"\u0061\ud83d","amount":1}`)
	before := bytes.Clone(raw)
	var d Decoder
	if _, err := d.Decode(raw); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, before) {
		t.Errorf("raw became %s, want %s", raw, before)
	}
}

// slowDecode is Decode in the obvious way.
func slowDecode(raw []byte) (*Event, error) {
	if !utf8.Valid(raw) {
		return nil, ErrNotUTF8
	}
	if !json.Valid(raw) {
		return nil, ErrNotJSON
	}
	if depth(raw) > MaxDepth {
		return nil, ErrTooDeep
	}
	var attrs map[string]json.RawMessage // not a struct: that ignores case
	if err := json.Unmarshal(raw, &attrs); err != nil || attrs == nil {
		return nil, ErrNotObject
	}
	var ev Event
	if s, ok := slowValue[string](attrs["event_type"]); ok {
		ev.Type = []byte(s)
	}
	if s, ok := slowValue[string](attrs["user_tier"]); ok {
		ev.UserTier = []byte(s)
	}
	if n, ok := slowValue[json.Number](attrs["amount"]); ok {
		ev.Amount, _ = strconv.ParseFloat(n.String(), 64)
		ev.HasAmount = true
	}
	if len(ev.Type) == 0 {
		return nil, ErrNoType
	}
	return &ev, nil
}

func slowValue[T any](raw json.RawMessage) (T, bool) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		var none T
		return none, false
	}
	got, ok := v.(T)
	return got, ok
}

// depth returns how deep valid JSON is nested, as Decode counts: a value within
// n arrays or objects is at n+1.
func depth(raw []byte) int {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	deepest, open := 0, 0
	for {
		tok, err := dec.Token()
		if err != nil {
			return deepest
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			open++
			deepest = max(deepest, open)
		case json.Delim('}'), json.Delim(']'):
			open--
		default:
			rest := bytes.TrimLeft(raw[dec.InputOffset():], " \t\r\n")
			if !bytes.HasPrefix(rest, []byte(":")) { // a key is no value
				deepest = max(deepest, open+1)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		typical, `{"event_type":"a","amount":1e999}`, `{"event_type":"\ud83d\ude00","user_tier":"\ud83d"}`,
		`{"event\u005ftype":"a","event_type":null}`, `{"x":{"event_type":"a"}}`, `{"event_type":"a","amount":-0.0e-3}`,
		`[1,"2",null,true]`, "{\"event_type\":\"\xff\"}", `{"event_type":"a","x":` + nested(MaxDepth) + `}`,
		`{"":0,"event_type":"\\\"","user_tier":""}`,
	} {
		f.Add([]byte(s), []byte(typical))
	}
	f.Fuzz(func(t *testing.T, before, raw []byte) {
		var d Decoder
		for _, raw := range [][]byte{before, raw, raw} { // reuse must not matter
			got, err := d.Decode(raw)
			want, wantErr := slowDecode(raw)
			if !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
				t.Fatalf("%q: err = %v, want %v", raw, err, wantErr)
			}
			if err == nil && !same(got, want) {
				t.Fatalf("%q: got %s, want %s", raw, show(got), show(want))
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	var d Decoder
	raw := []byte(typical)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		d.Decode(raw)
	}
}
