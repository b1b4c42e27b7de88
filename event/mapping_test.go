package event

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// mappings are those that DecodeMapped is compared with Overlay for, with what is outside.
var mappings = [...]struct {
	fields  []Field
	outside [][]byte
}{
	{fields: nil},
	{fields: []Field{{Name: "event_type", Path: Path{"a"}}}},
	{fields: []Field{{Name: "event_type", Path: Path{"a", "b"}, As: AsString}, {Name: "amount", Path: Path{"b"}, As: AsNumber}}},
	{fields: []Field{{Name: "a", Path: Path{"b"}, As: AsString}, {Name: "b", Path: Path{"a"}}}}, // changed places
	{fields: []Field{{Name: "timestamp", Path: Path{"n"}, As: AsUnix}, {Name: "x", Path: Path{"n"}, As: AsUnixMilli}, {Name: "sku", Path: Path{"n"}}}},
	{fields: []Field{{Name: "items", Path: Path{"a"}}, {Name: "user_tier", Path: Path{"items", "sku"}, As: AsUnixMicro}}},
	{
		fields:  []Field{{Name: "event_type"}, {Name: "a", As: AsNumber}, {Name: "é", Path: Path{"é", "é"}}, {Name: "b", As: AsUnixMilli}},
		outside: [][]byte{[]byte("typed"), []byte("99.90"), nil},
	},
	{fields: []Field{{Name: "event_type"}}, outside: [][]byte{[]byte("")}},
	{fields: []Field{{Name: "event_type"}}},
}

// mappedPaths are asked for of each.
var mappedPaths = []Path{
	{"event_type"}, {"timestamp"}, {"x"}, {"sku"}, {"n"}, {"a"}, {"b"}, {"a", "b"}, {"b", "a"}, {"amount"},
	{"items", "sku"}, {"items"}, {"items", "a"}, {"user_tier"}, {"é"}, {"é", "é"}, nil,
}

var mappedTree = NewPaths(mappedPaths)

// checkMapped compares DecodeMapped with Overlay, for all mappings.
func checkMapped(t *testing.T, d *Decoder, raw []byte) {
	t.Helper()
	var all map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	whole := depth(raw) <= MaxDepth && dec.Decode(&all) == nil
	for i, tt := range mappings {
		m, err := NewMapping(tt.fields, "")
		if err != nil {
			t.Fatal(err)
		}
		ev, err := d.DecodeMapped(raw, mappedTree, m, tt.outside)
		if !whole {
			if err == nil {
				t.Fatalf("%q, mapping %d: it is decoded, want an error", raw, i)
			}
			continue
		}
		mapped := m.Overlay(all, tt.outside)
		typ := slowValues(mapped, Path{"event_type"})
		if len(typ) != 1 || typ[0] == `""` || typ[0][0] != '"' {
			if err != ErrNoType {
				t.Fatalf("%q, mapping %d: err = %v, want that there is no type in %q", raw, i, err, typ)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%q, mapping %d: err = %v, want type %q", raw, i, err, typ)
		}
		want := make([]string, len(mappedPaths))
		for a, path := range mappedPaths {
			if len(path) > 0 {
				want[a] = strings.Join(slowValues(mapped, path), " ")
			}
		}
		if got := show(ev, Attr(len(mappedPaths))); !slices.Equal(got, want) {
			t.Fatalf("%q, mapping %d: got %q, want %q", raw, i, got, want)
		}
		checkAttrs(t, ev, want)
		checkSizes(t, ev)
	}
}

// checkSizes checks what Size says of each value.
func checkSizes(t *testing.T, e *Event) {
	t.Helper()
	for _, a := range e.Attrs() {
		for v := e.First(a); v != nil; v = e.Next(v) {
			want := 0
			for w := v; w != nil; w = e.Next(w) {
				want += len(w.Text) + 1
			}
			if v.Size() != want {
				t.Fatalf("size of attribute %d is %d, want %d", a, v.Size(), want)
			}
		}
	}
}

func TestDecodeMappedRandom(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(3, 4))}
	var d Decoder
	for range 1_000 {
		raw := []byte(g.object(0))
		if _, _, err := slowDecode(raw, nil); err == nil || err == ErrNoType {
			checkMapped(t, &d, raw)
		}
	}
}

func FuzzDecodeMapped(f *testing.F) {
	f.Add([]byte(`{"event_type":"t","a":{"b":true},"b":"12.50","n":[1790000000,"1790000000123",1.5,"x",{}],"items":[{"sku":-1}]}`))
	f.Add([]byte(`{"a":"t","a":7,"b":[[]],"n":1e30,"é":{"é":null}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, _, err := slowDecode(raw, nil); err != nil && err != ErrNoType {
			return
		}
		var d Decoder
		checkMapped(t, &d, raw)
		checkMapped(t, &d, raw) // reuse must not matter
	})
}

func TestMapping(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, raw string
		fields    []Field
		outside   [][]byte
		want      string // of event_type, user_id, amount and timestamp
	}{
		{"Stripe", `{"id":"evt_1","type":"charge.succeeded","created":1790000000,"data":{"object":{"customer":"cus_9","amount":2500}}}`,
			[]Field{
				{"event_type", Path{"type"}, AsIs}, {"user_id", Path{"data", "object", "customer"}, AsIs},
				{"amount", Path{"data", "object", "amount"}, AsIs}, {"timestamp", Path{"created"}, AsUnix},
			}, nil, `"charge.succeeded" "cus_9" 2500 "2026-09-21T14:13:20Z"`},
		{"Shopify, the topic in a header", `{"id":450789469,"total_price":"409.94","customer":{"id":207119551}}`,
			[]Field{{"event_type", nil, AsIs}, {"user_id", Path{"customer", "id"}, AsString}, {"amount", Path{"total_price"}, AsNumber}},
			[][]byte{[]byte("orders/create")}, `"orders/create" "207119551" 409.94 `},
		{"Debezium", `{"op":"c","ts_ms":1790000000123,"after":{"id":7,"email":"a@example.org"}}`,
			[]Field{{"event_type", Path{"op"}, AsIs}, {"user_id", Path{"after", "id"}, AsString}, {"timestamp", Path{"ts_ms"}, AsUnixMilli}},
			nil, `"c" "7"  "2026-09-21T14:13:20.123Z"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := NewMapping(tt.fields, "")
			if err != nil {
				t.Fatal(err)
			}
			var d Decoder
			ev, err := d.DecodeMapped([]byte(tt.raw), NewPaths([]Path{{"event_type"}, {"user_id"}, {"amount"}, {"timestamp"}}), m, tt.outside)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(show(ev, 4), " "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestNewMapping(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fields []Field
		want   string
	}{
		{[]Field{{Name: ""}}, "field 1 has no name"},
		{[]Field{{Name: "a"}, {Name: "a", Path: Path{"b"}}}, `"a" is mapped twice`},
		{make([]Field, MaxFields+1), "65 fields; at most 64 are allowed"},
	} {
		if _, err := NewMapping(tt.fields, ""); err == nil || err.Error() != tt.want {
			t.Errorf("%v: %v, want %s", tt.fields, err, tt.want)
		}
	}
	m, err := NewMapping([]Field{{Name: "event_type"}}, "the header kind")
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	if _, err := d.DecodeMapped([]byte(`{}`), nil, m, nil); err == nil || !strings.Contains(err.Error(), "in the header kind") {
		t.Errorf("no type: %v, want that it says where it is to be", err)
	}
	if ev, err := d.DecodeMapped([]byte(`{"event_type":"a"}`), nil, m.Inner(), nil); err != nil || string(ev.Type) != "a" {
		t.Errorf("without a record: %v, want the member", err)
	}
}
