package event

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// slowDecode is Decode in the obvious way. It returns the values of each path as
// show does.
func slowDecode(raw []byte, paths []Path) (typ string, values []string, err error) {
	switch {
	case len(raw) > MaxBytes:
		return "", nil, ErrTooLarge
	case bytes.HasPrefix(raw, []byte{0}):
		return "", nil, ErrRegistry
	case !utf8.Valid(raw):
		return "", nil, ErrNotUTF8
	case !json.Valid(raw):
		return "", nil, ErrNotJSON
	case depth(raw) > MaxDepth:
		return "", nil, ErrTooDeep
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var all any
	if err := dec.Decode(&all); err != nil {
		return "", nil, err
	}
	object, ok := all.(map[string]any)
	if !ok {
		return "", nil, ErrNotObject
	}
	if typ, ok = object["event_type"].(string); !ok || typ == "" {
		return "", nil, ErrNoType
	}
	values = make([]string, len(paths))
	for i, path := range paths {
		if len(path) > 0 {
			values[i] = strings.Join(slowValues(all, path), " ")
		}
	}
	return typ, values, nil
}

func slowValues(v any, path Path) (values []string) {
	switch v := v.(type) {
	case map[string]any:
		if len(path) == 0 {
			return []string{"other"}
		}
		if child, ok := v[path[0]]; ok {
			return slowValues(child, path[1:])
		}
		return nil
	case []any:
		if len(path) == 0 && len(v) == 0 {
			return []string{"other"}
		}
		for _, element := range v {
			values = append(values, slowValues(element, path)...)
		}
		return values
	}
	if len(path) > 0 {
		return nil
	}
	switch v := v.(type) {
	case string:
		return []string{strconv.Quote(v)}
	case json.Number:
		f, _ := strconv.ParseFloat(v.String(), 64)
		return []string{strconv.FormatFloat(f+0, 'g', -1, 64)} // -0 is 0
	case bool:
		return []string{strconv.FormatBool(v)}
	}
	return []string{"other"}
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

// pathSets are those that Decode is compared with slowDecode for.
var pathSets = [...][]Path{
	{{"event_type"}, {"user_tier"}, {"amount"}, {"items", "sku"}, {"items"}, {"items", "n"}, {"timestamp"}},
	{{"event_type"}},
	{{"event_type"}, {"a"}, {"b"}, {"a", "a"}, {"a", "b"}, {"b", "a"}, {"a", "b", "c"}, {"a", "a", "a"}, {"event_type", "a"}},
	{{"event_type"}, nil, {"x"}, {"x", "event_type"}, {""}, {"\ufffd"}, {"é"}, {"twelve bytes"}, {"more than sixteen bytes"}},
}

// decoders are one for each of pathSets, which come to know the keys of events,
// and one for all.
type decoders struct {
	each [len(pathSets)]Decoder
	all  Decoder
}

// check compares Decode with slowDecode for all pathSets.
func (d *decoders) check(t *testing.T, raw []byte) {
	t.Helper()
	before := bytes.Clone(raw)
	for i, list := range pathSets {
		typ, want, wantErr := slowDecode(raw, list)
		for _, d := range []*Decoder{&d.each[i], &d.all} {
			ev, err := d.Decode(raw, pathTrees[i])
			if !sameError(err, wantErr) {
				t.Fatalf("%q, paths %q: err = %v, want %v", raw, list, err, wantErr)
			}
			if err != nil {
				continue
			}
			if got := show(ev, Attr(len(list))); !slices.Equal(got, want) || string(ev.Type) != typ {
				t.Fatalf("%q, paths %q: got %q of type %q, want %q of type %q", raw, list, got, ev.Type, want, typ)
			}
			checkAttrs(t, ev, want)
		}
	}
	if !bytes.Equal(raw, before) {
		t.Fatalf("raw became %q, want %q", raw, before)
	}
}

var pathTrees = [...]*Paths{NewPaths(pathSets[0]), NewPaths(pathSets[1]), NewPaths(pathSets[2]), NewPaths(pathSets[3])}

// Events of few keys, so that paths are found and keys come again.
func TestDecodeRandom(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	var d decoders
	valid := 0
	for range 6_000 {
		raw := g.object(0)
		if g.IntN(4) == 0 { // spoil it
			raw = raw[:g.IntN(len(raw))] + string(rune(g.IntN(300))) + raw[g.IntN(len(raw)):]
		}
		d.check(t, []byte(raw))
		if _, _, err := slowDecode([]byte(raw), nil); err == nil {
			valid++
		}
	}
	if valid < 2_000 {
		t.Errorf("%d events are valid, want 2000 or more", valid)
	}
}

type generator struct{ *rand.Rand }

func (g generator) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g generator) space() string {
	if g.IntN(4) > 0 {
		return ""
	}
	return g.pick(" ", "\n", "\t\r", "        ")
}

func (g generator) object(level int) string {
	s := "{" + g.space()
	if level == 0 {
		s += `"event_type":` + g.space() + `"t",`
	}
	for i := range g.IntN(6) {
		if i > 0 {
			s += g.space() + "," + g.space()
		}
		s += g.key(level) + g.space() + ":" + g.space() + g.value(level+1)
	}
	if level == 0 {
		s = strings.TrimSuffix(s, ",")
	}
	return s + g.space() + "}"
}

func (g generator) key(level int) string {
	if level == 0 && g.IntN(20) == 0 {
		return `"event_type"`
	}
	return g.pick(`"a"`, `"a"`, `"a"`, `"b"`, `"b"`, `"c"`, `"\u0061"`, `"x"`, `""`, `"items"`, `"sku"`, `"n"`, `"é"`, `"\ud800"`,
		`"user_tier"`, `"amount"`, `"timestamp"`, `"twelve bytes"`, `"twelve byte"`, `"more than sixteen bytes"`, `"event_type "`)
}

func (g generator) value(level int) string {
	if g.IntN(40) == 0 {
		return g.pick("01", "1.", "-", "1e", `"\x"`, "\"a\x01\"", "\"\xff\"", "nul", "[,]", "\v1", "\u00a01", "")
	}
	n := g.IntN(12)
	if level > 5 {
		n %= 8
	}
	switch {
	case n < 2:
		return g.pick("0", "-0", "1", "12.50", "-3e2", "1E+3", "9007199254740993", "1e999", "1e-999", "123456789012345678")
	case n < 4:
		return g.pick(`""`, `"x"`, `"seven b"`, `"eight by"`, `"nine byte"`, `"longer than sixteen bytes"`, `"é"`, `"日本語のテキスト"`)
	case n < 5:
		return g.pick(`"\u00e9"`, `"a\\b"`, `"\"quoted\" and long"`, `"\ud83d\ude00"`, `"\ud83d\u0041"`)
	case n < 8:
		return g.pick("null", "true", "false", "{}", "[]", "[ ]", "{ }", "[[]]")
	case n < 10:
		return g.object(level)
	}
	s := "["
	for i := range g.IntN(4) {
		if i > 0 {
			s += ","
		}
		s += g.space() + g.value(level+1) + g.space()
	}
	return s + "]"
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		typical, `{"event_type":"a","amount":1e999}`, `{"event_type":"\ud83d\ude00","user_tier":"\ud83d"}`,
		`{"event\u005ftype":"a","event_type":null}`, `{"x":{"event_type":"a"}}`, `{"event_type":"a","amount":-0.0e-3}`,
		`[1,"2",null,true]`, "{\"event_type\":\"\xff\"}", `{"event_type":"a","x":` + nested(MaxDepth) + `}`,
		`{"":0,"event_type":"\\\"","user_tier":""}`,
		"\x00\x80",
		`{"event_type":"a","a":{"b":{"c":[1,{}]},"b":[{"c":2},[{"c":3}]]},"a":[{"a":{"a":1}},null,[]],"b":{"a":"é"}}`,
		`{"event_type":"a","twelve bytes":1,"more than sixteen bytes":"\ud800","\ufffd":[true,false],"é":{"é":[]}}`,
	} {
		f.Add([]byte(s), []byte(typical))
	}
	f.Fuzz(func(t *testing.T, before, raw []byte) {
		var d decoders
		for _, raw := range [][]byte{before, raw, raw} { // reuse must not matter
			d.check(t, raw)
		}
	})
}
