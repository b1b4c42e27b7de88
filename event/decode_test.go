package event

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const typical = `{"event_id":"evt_1","event_type":"purchase","user_id":"user_42","user_tier":"premium",` +
	`"amount":129.99,"timestamp":"2026-01-02T03:04:05Z","items":[{"sku":"a-1","n":2},{"sku":"b-2","n":1}]}`

var typicalPaths = NewPaths([]Path{
	{"event_type"}, {"user_tier"}, {"amount"}, {"timestamp"}, {"items", "sku"}, {"items", "n"},
})

func TestDecode(t *testing.T) {
	paths := NewPaths([]Path{{"event_type"}, {"user_tier"}, {"amount"}})
	long := strings.Repeat("x", 1<<16)
	for _, tt := range []struct {
		raw    string
		typ    string
		tier   string // the values as show has them
		amount string
		err    error
	}{
		{raw: typical, typ: "purchase", tier: `"premium"`, amount: "129.99"},
		{raw: `{"event_type":"a"}`, typ: "a"},
		{raw: " \r\n\t{ \"event_type\" : \"a\" } \n", typ: "a"},

		// The last of duplicates counts, whatever it is.
		{raw: `{"event_type":"a","event_type":"b"}`, typ: "b"},
		{raw: `{"event_type":"a","event_type":null}`, err: ErrNoType},
		{raw: `{"event_type":1,"event_type":"b"}`, typ: "b"},
		{raw: `{"event_type":"a","amount":1,"amount":2}`, typ: "a", amount: "2"},
		{raw: `{"event_type":"a","amount":1,"amount":"2"}`, typ: "a", amount: `"2"`},
		{raw: `{"event_type":"a","user_tier":"x","user_tier":[]}`, typ: "a", tier: "other"},

		// Only the top level counts, and case does.
		{raw: `{"x":{"event_type":"a"}}`, err: ErrNoType},
		{raw: `{"x":{"event_type":"a","amount":1},"event_type":"b"}`, typ: "b"},
		{raw: `{"Event_Type":"a"}`, err: ErrNoType},

		// All attributes but event_type may be of any type.
		{raw: `{"event_type":"a","user_tier":null,"amount":null}`, typ: "a", tier: "other", amount: "other"},
		{raw: `{"event_type":"a","user_tier":1,"amount":"1"}`, typ: "a", tier: "1", amount: `"1"`},
		{raw: `{"event_type":"a","user_tier":{},"amount":[1]}`, typ: "a", tier: "other", amount: "1"},
		{raw: `{"event_type":"a","user_tier":true,"amount":false}`, typ: "a", tier: "true", amount: "false"},
		{raw: `{"event_type":null}`, err: ErrNoType},
		{raw: `{"event_type":1}`, err: ErrNoType},
		{raw: `{"event_type":["a"]}`, err: ErrNoType},
		{raw: `{"event_type":""}`, err: ErrNoType},
		{raw: `{}`, err: ErrNoType},
		{raw: `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`, err: errCloudEvent},
		{raw: "\x00\x00\x00\x00\x01\x02\xff\xfe", err: ErrRegistry},
		{raw: "\xef\xbb\xbf" + `{"event_type":"a"}`, err: errMark},

		// Numbers.
		{raw: `{"event_type":"a","amount":1e999}`, typ: "a", amount: "+Inf"},
		{raw: `{"event_type":"a","amount":-1e999}`, typ: "a", amount: "-Inf"},
		{raw: `{"event_type":"a","amount":1e-999}`, typ: "a", amount: "0"},
		{raw: `{"event_type":"a","amount":-0}`, typ: "a", amount: "0"},
		{raw: `{"event_type":"a","amount":9007199254740993}`, typ: "a", amount: "9.007199254740992e+15"},
		{raw: `{"event_type":"a","amount":2.2250738585072011e-308}`, typ: "a", amount: "2.225073858507201e-308"},
		{raw: `{"event_type":"a","amount":0.` + strings.Repeat("1", 500) + `}`, typ: "a", amount: "0.1111111111111111"},
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
		{raw: `{"event_type":"\b\f\n\r\tA\u00e9\u65E5"}`, typ: "\b\f\n\r\tAé日"},
		{raw: `{"event_type":"\ud83d\ude00"}`, typ: "😀"},
		{raw: `{"event_type":"\ud83d"}`, typ: "\ufffd"},
		{raw: `{"event_type":"\ude00x","user_tier":"\ud83d\u0041"}`, typ: "\ufffdx", tier: `"�A"`},
		{raw: `{"event_type":"\ud83d\ud83d\ude00"}`, typ: "\ufffd😀"},
		{raw: `{"event_type":"\\ud83d"}`, typ: `\ud83d`},
		{raw: `{"event_type":"\ufffd` + "\ufffd" + `"}`, typ: "\ufffd\ufffd"},
		{raw: `{"event_type":"a\u0000b"}`, typ: "a\x00b"},
		{raw: "{\"event_type\":\"a\x00b\"}", err: ErrNotJSON},
		{raw: "{\"event_type\":\"a\nb\"}", err: ErrNotJSON},
		{raw: `{"event_type":"\x61"}`, err: ErrNotJSON},
		{raw: `{"event_type":"\u12"}`, err: ErrNotJSON},
		{raw: `{"event_type":"\u12g4"}`, err: ErrNotJSON},
		{raw: `{"event_type":"\`, err: ErrNotJSON},

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
		{raw: `{"event_type":"a","x":` + nested(MaxDepth) + `,}`, err: ErrNotJSON},
		{raw: `{"event_type":"a","x":` + nestedObjects(MaxDepth-1, "") + `}`, typ: "a"},
		{raw: `{"event_type":"a","x":` + nestedObjects(MaxDepth-1, `"user_tier":0`) + `}`, err: ErrTooDeep},
		{raw: nested(MaxDepth), err: ErrNotObject},
		{raw: nested(MaxDepth + 1), err: ErrTooDeep},
		{raw: `{"event_type":"a","x":` + nested(MaxDepth) + ",\"y\":\"\xff\"}", err: ErrNotUTF8},
		{raw: "{\"event_type\":\"a\",\"x\":01,\"y\":\"\xff\"}", err: ErrNotUTF8},
		{raw: `{"event_type":"a","x":"` + strings.Repeat("x", MaxBytes-25) + `"}`, typ: "a"},
		{raw: `{"event_type":"a","x":"` + strings.Repeat("x", MaxBytes) + `"}`, err: ErrTooLarge},
		{raw: nested(20000), err: ErrNotJSON}, // past the limit of encoding/json
	} {
		var d Decoder
		ev, err := d.Decode([]byte(tt.raw), paths)
		if !sameError(err, tt.err) {
			t.Errorf("%.60q: err = %.200v, want %v", tt.raw, err, tt.err)
			continue
		}
		if err != nil {
			if n := len(err.Error()); n > 100 {
				t.Errorf("%.60q: an error of %d bytes", tt.raw, n)
			}
			continue
		}
		if got := string(ev.Type); got != tt.typ {
			t.Errorf("%.60q: Type = %.200q, want %.200q", tt.raw, got, tt.typ)
		}
		want := []string{strconv.Quote(tt.typ), tt.tier, tt.amount}
		if got := show(ev, 3); !slices.Equal(got, want) {
			t.Errorf("%.60q: got %.200q, want %.200q", tt.raw, got, want)
		}
	}
}

// nested returns n nested arrays.
func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

// nestedObjects returns n nested objects, with inner in the last.
func nestedObjects(n int, inner string) string {
	return strings.Repeat(`{"x":`, n-1) + "{" + inner + "}" + strings.Repeat("}", n-1)
}

func sameError(got, want error) bool { return errors.Is(got, want) && (got == nil) == (want == nil) }

// show returns the values of the attributes below n, each's in one string.
func show(e *Event, n Attr) []string {
	all := make([]string, n)
	for a := range n {
		var values []string
		for v := e.First(a); v != nil; v = e.Next(v) {
			values = append(values, showValue(v))
		}
		all[a] = strings.Join(values, " ")
	}
	return all
}

func showValue(v *Value) string {
	switch v.Kind {
	case String:
		return strconv.Quote(string(v.Text))
	case Number:
		return strconv.FormatFloat(KeyNumber(v.Key), 'g', -1, 64)
	case Bool:
		return strconv.FormatBool(v.Key == 1)
	}
	return "other"
}

func TestDecodeValues(t *testing.T) {
	for _, tt := range []struct {
		name  string
		paths []Path
		raw   string // without event_type
		want  []string
	}{
		{"nested", []Path{{"a"}, {"a", "b"}, {"a", "b", "c"}}, `"a":{"b":{"c":1},"c":2}`, []string{"other", "other", "1"}},
		{"deeper than the path", []Path{{"a", "b"}}, `"a":{"b":{"b":1}}`, []string{"other"}},
		{"nowhere", []Path{{"a", "b"}, {"b"}}, `"a":1,"c":{"b":2}`, []string{"", ""}},
		{"a key with a dot", []Path{{"a.b"}, {"a", "b"}}, `"a.b":1`, []string{"1", ""}},
		{"empty names", []Path{{""}, {"", ""}}, `"":{"":1}`, []string{"other", "1"}},
		{"case", []Path{{"a"}}, `"A":1`, []string{""}},
		{"no normalisation", []Path{{"\u00e9"}}, `"e\u0301":1,"\u00e9":2`, []string{"2"}},
		{"a lone surrogate", []Path{{"\ufffd"}}, `"\udc00":1`, []string{"1"}},
		{"a long key", []Path{{strings.Repeat("k", 100)}}, `"` + strings.Repeat("k", 99) + `\u006b":1`, []string{"1"}},
		{"keys that begin alike", []Path{{"a"}, {"a\x00"}, {"aaaaaaaa"}, {"aaaaaaaaa"}},
			`"a":1,"a\u0000":2,"aaaaaaaa":3,"aaaaaaaaa":4`, []string{"1", "2", "3", "4"}},

		{"an array", []Path{{"a"}}, `"a":[1,"x",true,false]`, []string{`1 "x" true false`}},
		{"nested arrays", []Path{{"a"}}, `"a":[1,[2,[3]],[[[4]]]]`, []string{"1 2 3 4"}},
		{"equal to nothing", []Path{{"a"}, {"b"}, {"c"}, {"d"}}, `"a":null,"b":{},"c":[],"d":{"e":1}`,
			[]string{"other", "other", "other", "other"}},
		{"equal to nothing, in an array", []Path{{"a"}}, `"a":[null,1,{},[],[[]],{"b":2}]`,
			[]string{"other 1 other other other other"}},
		{"an array on the way", []Path{{"a", "b"}}, `"a":[{"b":1},{"c":9},2,null,[],{"b":[3,4]},[{"b":5},[{"b":6}]]]`,
			[]string{"1 3 4 5 6"}},
		{"an empty array on the way", []Path{{"a", "b"}}, `"a":[]`, []string{""}},
		{"two ways", []Path{{"a", "b"}, {"a", "c"}}, `"a":[{"b":1,"c":2},{"c":3,"b":4}]`, []string{"1 4", "2 3"}},
		{"an array and its elements", []Path{{"a"}, {"a", "b"}}, `"a":[{"b":1},2]`, []string{"other 2", "1"}},

		{"again", []Path{{"a"}}, `"a":[1,2],"b":0,"a":[3]`, []string{"3"}},
		{"again by another spelling", []Path{{"a"}}, `"a":1,"\u0061":2`, []string{"2"}},
		{"again, with fewer below", []Path{{"a"}, {"a", "b"}}, `"a":{"b":1},"a":2`, []string{"2", ""}},
		{"again, after nothing", []Path{{"a", "b"}, {"c"}}, `"a":{"x":1},"c":3,"a":{"b":1}`, []string{"1", "3"}},
		{"again, with nothing", []Path{{"a", "b"}, {"c"}}, `"a":{"b":1},"c":3,"a":{}`, []string{"", "3"}},
		{"again and again", []Path{{"a", "b"}}, `"a":{"b":1,"b":2},"a":{"b":3},"a":{"b":4,"b":5}`, []string{"5"}},
		{"again, in one element", []Path{{"a", "b"}}, `"a":[{"b":1},{"b":2,"b":3},{"b":4}]`, []string{"1 3 4"}},
		{"again, above", []Path{{"a", "b", "c"}, {"d"}},
			`"a":{"b":[{"c":1,"c":2}],"b":{"c":[3,4]}},"d":5,"a":{"b":{"c":6}},"d":7`, []string{"6", "7"}},
		{"again, in an object of the same keys", []Path{{"a"}, {"a", "a"}, {"a", "a", "a"}},
			`"a":{"a":{"a":1},"a":{"a":2}}`, []string{"other", "other", "2"}},

		{"two equal paths", []Path{{"a"}, {"a"}}, `"a":1`, []string{"1", ""}},
		{"empty paths", []Path{nil, {}, {"a"}}, `"a":1`, []string{"", "", "1"}},
		{"below event_type", []Path{{"event_type", "a"}}, `"event_type":{"a":1}`, []string{""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			paths := NewPaths(append([]Path{nil}, tt.paths...))
			for _, raw := range []string{`{"event_type":"t",` + tt.raw + `}`, `{` + tt.raw + `,"event_type":"t"}`} {
				if strings.Contains(tt.raw, "event_type") && strings.HasPrefix(raw, `{"event_type":"t"`) {
					continue // the last counts
				}
				var d Decoder
				ev, err := d.Decode([]byte(raw), paths)
				if err != nil {
					t.Fatalf("%s: %v", raw, err)
				}
				want := append([]string{`"t"`}, tt.want...)
				if got := show(ev, Attr(len(want))); !slices.Equal(got, want) {
					t.Errorf("%s: got %q, want %q", raw, got, want)
				}
				checkAttrs(t, ev, want)
			}
		})
	}
}

// checkAttrs checks that Attrs, Has and First agree with the values.
func checkAttrs(t *testing.T, e *Event, values []string) {
	t.Helper()
	var want []Attr
	for a, s := range values {
		a := Attr(a)
		if s != "" {
			want = append(want, a)
		}
		if got := e.First(a) != nil; got != (s != "") {
			t.Errorf("attribute %d: First = %v, want values %q", a, e.First(a), s)
		}
	}
	got := slices.Sorted(slices.Values(e.Attrs()))
	if !slices.Equal(got, want) {
		t.Errorf("Attrs = %v, want %v", got, want)
	}
}

func TestDecodeWithoutPaths(t *testing.T) {
	for _, paths := range []*Paths{nil, NewPaths(nil), NewPaths([]Path{{"user_tier"}})} {
		var d Decoder
		ev, err := d.Decode([]byte(typical), paths)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := show(ev, 2), []string{`"purchase"`, ""}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestDecodeTruncated(t *testing.T) {
	var d Decoder
	for i := range typical {
		if ev, err := d.Decode([]byte(typical[:i]), typicalPaths); !errors.Is(err, ErrNotJSON) {
			t.Errorf("%q: got %v, %v, want %v", typical[:i], ev, err, ErrNotJSON)
		}
	}
}

// An attribute of one event must not show up in the next, even if that is
// decoded with other paths.
func TestDecodeForgets(t *testing.T) {
	const next = `{"event_type":"b"}`
	few, want := NewPaths(nil), []string{`"b"`, "", "", "", "", ""}
	for _, tt := range []struct {
		name          string
		before, after *Paths
	}{
		{"the same paths", typicalPaths, typicalPaths},
		{"more paths", few, typicalPaths},
		{"fewer paths", typicalPaths, few},
	} {
		var d Decoder
		for _, raw := range []string{typical, `{"event_type":"a","user_tier":1`, typical} {
			d.Decode([]byte(raw), tt.before)
			ev, err := d.Decode([]byte(next), tt.after)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(ev, 6); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", tt.name, got, want)
			}
			checkAttrs(t, ev, want)
		}
	}
}

// What was unescaped first must stay when later texts need more room.
func TestDecodeUnescapesMany(t *testing.T) {
	var raw, want strings.Builder
	raw.WriteString(`{"event_type":"\u0074","user_tier":[0`)
	want.WriteString("0")
	for i := range 5000 {
		raw.WriteString(`,"` + strings.Repeat(`\u0078`, i%50) + strconv.Itoa(i) + `"`)
		want.WriteString(` "` + strings.Repeat("x", i%50) + strconv.Itoa(i) + `"`)
	}
	raw.WriteString("]}")
	var d Decoder
	ev, err := d.Decode([]byte(raw.String()), typicalPaths)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := show(ev, 2), []string{`"t"`, want.String()}; !slices.Equal(got, want) {
		t.Errorf("got %.200q, want %.200q", got, want)
	}
}

// To append to a text must not change what is behind it.
func TestDecodeClipsTexts(t *testing.T) {
	raw := []byte(`{"event_type":"a","user_tier":["\u0062","\u0063"]}`)
	before := bytes.Clone(raw)
	var d Decoder
	ev, err := d.Decode(raw, typicalPaths)
	if err != nil {
		t.Fatal(err)
	}
	for a := range Attr(2) {
		for v := ev.First(a); v != nil; v = ev.Next(v) {
			_ = append(v.Text, 'x')
		}
	}
	if got, want := show(ev, 2), []string{`"a"`, `"b" "c"`}; !slices.Equal(got, want) || !bytes.Equal(raw, before) {
		t.Errorf("got %q in %s, want %q in %s", got, raw, want, before)
	}
}

// Decode must leave the raw bytes alone: they are what is sent.
func TestDecodeKeepsRaw(t *testing.T) {
	raw := []byte(`{"event\u005ftype":"\u0061\ud83d","amount":1}`)
	before := bytes.Clone(raw)
	var d Decoder
	if _, err := d.Decode(raw, typicalPaths); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, before) {
		t.Errorf("raw became %s, want %s", raw, before)
	}
}

// A key that comes again must take no longer than one that comes once.
func TestDecodeBuriesDeep(t *testing.T) {
	const depth, wide = 250, 50_000
	var path Path
	raw := strings.Repeat("0,", wide) + "0"
	raw = `"a":[` + raw + `],"a":1`
	path = append(path, "a")
	for range depth {
		raw = `"a":{` + raw + `},"a":2`
		path = append(path, "a")
	}
	var d Decoder
	ev, err := d.Decode([]byte(`{"event_type":"t",`+raw+`}`), NewPaths([]Path{nil, {"a"}, path}))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := show(ev, 3), []string{`"t"`, "2", ""}; !slices.Equal(got, want) {
		t.Errorf("got %.200q, want %q", got, want)
	}
	ev, err = d.Decode([]byte(`{"event_type":"u"}`), nil) // after so many values
	if err != nil {
		t.Fatal(err)
	}
	if got, want := show(ev, 3), []string{`"u"`, "", ""}; !slices.Equal(got, want) {
		t.Errorf("got %.200q, want %q", got, want)
	}
}
