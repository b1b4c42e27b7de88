package format

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/hamba/avro/v2"

	"eventstream/event"
)

// avroOf returns a value, as the library writes it.
func avroOf(t testing.TB, text string, value any) []byte {
	t.Helper()
	s, err := avro.ParseWithCache(text, "", new(avro.SchemaCache))
	if err != nil {
		t.Fatal(err)
	}
	b, err := avro.Marshal(s, value)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readAvro returns the JSON of a value.
func readAvro(t testing.TB, text string, body []byte) (string, error) {
	t.Helper()
	s, err := parseAvro([]string{text})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.read(nil, body)
	return string(out), err
}

// TestAvro: what becomes of each type. The library writes what we read.
func TestAvro(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 9, 21, 14, 13, 20, 123456000, time.UTC)
	logical := func(typ, name string) string { return fmt.Sprintf(`{"type":%q,"logicalType":%q}`, typ, name) }
	for _, tt := range []struct {
		name, schema string
		value        any
		want         string
	}{
		{"null", `"null"`, nil, `null`},
		{"true", `"boolean"`, true, `true`},
		{"false", `"boolean"`, false, `false`},
		{"int", `"int"`, -7, `-7`},
		{"the largest long", `"long"`, int64(math.MaxInt64), `9223372036854775807`},
		{"the smallest long", `"long"`, int64(math.MinInt64), `-9223372036854775808`},
		{"a long no float has", `"long"`, int64(9007199254740993), `9007199254740993`},
		{"float", `"float"`, float32(0.1), `0.1`},
		{"double", `"double"`, 409.94, `409.94`},
		{"a large double", `"double"`, 1e300, `1e+300`},
		{"no number", `"double"`, math.NaN(), `"NaN"`},
		{"infinite", `"double"`, math.Inf(1), `"Infinity"`},
		{"infinite below", `"float"`, float32(math.Inf(-1)), `"-Infinity"`},
		{"bytes", `"bytes"`, []byte{0, 255, 1}, `"AP8B"`},
		{"string", `"string"`, "a\"\\\n\t\r\x01é", `"a\"\\\n\t\r\u0001é"`},
		{"fixed", `{"type":"fixed","name":"f","size":3}`, [3]byte{1, 2, 3}, `"AQID"`},
		{"enum", `{"type":"enum","name":"e","symbols":["RED","GREEN"]}`, "GREEN", `"GREEN"`},
		{"array", `{"type":"array","items":"int"}`, []int{1, 2, 3}, `[1,2,3]`},
		{"empty array", `{"type":"array","items":"int"}`, []int{}, `[]`},
		{"map", `{"type":"map","values":"int"}`, map[string]int{"a b": 1}, `{"a b":1}`},
		{"empty map", `{"type":"map","values":"int"}`, map[string]int{}, `{}`},
		{"union, null", `["null","string"]`, nil, `null`},
		{"union, string", `["null","string"]`, map[string]any{"string": "x"}, `"x"`},
		{"union of records", `["null",{"type":"record","name":"a.b.R","fields":[{"name":"x","type":"int"}]}]`,
			map[string]any{"a.b.R": map[string]any{"x": 1}}, `{"x":1}`},
		{"empty record", `{"type":"record","name":"r","fields":[]}`, map[string]any{}, `{}`},
		{"recursive record", `{"type":"record","name":"n","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","n"]}]}`,
			map[string]any{"v": 1, "next": map[string]any{"n": map[string]any{"v": 2, "next": nil}}}, `{"v":1,"next":{"v":2,"next":null}}`},
		{"a type that is used twice", `{"type":"record","name":"r","namespace":"x.y","fields":[
			{"name":"a","type":{"type":"fixed","name":"F","size":1}},{"name":"b","type":"F"},{"name":"c","type":"x.y.F"}]}`,
			map[string]any{"a": [1]byte{1}, "b": [1]byte{2}, "c": [1]byte{3}}, `{"a":"AQ==","b":"Ag==","c":"Aw=="}`},
		{"decimal", `{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}`, big.NewRat(9990, 100), `99.90`},
		{"decimal below one", `{"type":"bytes","logicalType":"decimal","precision":9,"scale":4}`, big.NewRat(-5, 10000), `-0.0005`},
		{"decimal without scale", `{"type":"bytes","logicalType":"decimal","precision":9}`, big.NewRat(-300, 1), `-300`},
		{"large decimal", `{"type":"bytes","logicalType":"decimal","precision":40,"scale":1}`,
			new(big.Rat).SetFrac(new(big.Int).Neg(new(big.Int).Exp(big.NewInt(10), big.NewInt(30), nil)), big.NewInt(10)), `-100000000000000000000000000000.0`},
		{"fixed decimal", `{"type":"fixed","name":"d","size":12,"logicalType":"decimal","precision":20,"scale":3}`, big.NewRat(-1, 8), `-0.125`},
		{"date", logical("int", "date"), time.Date(2026, 9, 21, 0, 0, 0, 0, time.UTC), `"2026-09-21"`},
		{"time", logical("int", "time-millis"), 14*time.Hour + 5*time.Millisecond, `"14:00:00.005"`},
		{"time, finer", logical("long", "time-micros"), 23*time.Hour + time.Microsecond, `"23:00:00.000001"`},
		{"time of no day", logical("int", "time-millis"), -time.Millisecond, `-1`},
		{"instant", logical("long", "timestamp-millis"), at, `"2026-09-21T14:13:20.123Z"`},
		{"instant, finer", logical("long", "timestamp-micros"), at, `"2026-09-21T14:13:20.123456Z"`},
		{"instant, finest", logical("long", "timestamp-nanos"), at.UnixNano() + 789, `"2026-09-21T14:13:20.123456789Z"`},
		{"instant beyond RFC 3339", logical("long", "timestamp-millis"), time.UnixMilli(math.MaxInt64 / 1000), `9223372036854775`},
		{"local time", logical("long", "local-timestamp-millis"), at, `"2026-09-21T14:13:20.123"`},
		{"local time, finer", logical("long", "local-timestamp-micros"), at, `"2026-09-21T14:13:20.123456"`},
		{"uuid", logical("string", "uuid"), "0b2f0f5c-7a55-4a8e-8a57-4f3a0a9d2f10", `"0b2f0f5c-7a55-4a8e-8a57-4f3a0a9d2f10"`},
		{"fixed uuid", `{"type":"fixed","name":"u","size":16,"logicalType":"uuid"}`, [16]byte{1, 2, 15: 9}, `"01020000-0000-0000-0000-000000000009"`},
		{"duration", `{"type":"fixed","name":"p","size":12,"logicalType":"duration"}`, avro.LogicalDuration{Months: 1, Days: 2, Milliseconds: 3},
			`{"months":1,"days":2,"milliseconds":3}`},
		{"logical type that nobody knows", logical("long", "io.debezium.time"), int64(5), `5`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readAvro(t, tt.schema, avroOf(t, tt.schema, tt.value))
			if err != nil || got != tt.want {
				t.Errorf("got %s, %v, want %s", got, err, tt.want)
			}
			if !json.Valid([]byte(got)) {
				t.Errorf("%s is no JSON", got)
			}
		})
	}
}

// TestAvroSchemas: schemas that registries have, with what strict parsers refuse.
func TestAvroSchemas(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		texts []string
		body  []byte
		want  string
		err   string
	}{
		{"a default of another type", []string{`{"type":"record","name":"r","fields":[{"name":"x","type":"int","default":null}]}`}, []byte{2}, `{"x":1}`, ""},
		{"a reference", []string{`{"type":"record","name":"a.Inner","fields":[{"name":"x","type":"int"}]}`, `{"type":"record","name":"Outer","fields":[{"name":"i","type":"a.Inner"}]}`}, []byte{2}, `{"i":{"x":1}}`, ""},
		{"names that are no identifiers", []string{`{"type":"record","name":"Value","namespace":"my-server.inventory","fields":[{"name":"größe","type":{"type":"enum","name":"1st","symbols":["a-b"]}}]}`},
			[]byte{0}, `{"größe":"a-b"}`, ""},
		{"no reference", []string{`{"type":"record","name":"Outer","fields":[{"name":"i","type":"a.Inner"}]}`}, nil, "", "a.Inner"},
		{"no JSON", []string{`{`}, nil, "", "no JSON"},
		{"a negative size", []string{`{"type":"fixed","name":"f","size":-1}`}, nil, "", "cannot be negative"},
		{"a large scale", []string{`{"type":"bytes","logicalType":"decimal","precision":5000,"scale":2000}`}, nil, "", "scale 2000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := parseAvro(tt.texts)
			var got []byte
			if err == nil {
				got, err = s.read(nil, tt.body)
			}
			if string(got) != tt.want || tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %s, %v, want %s, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

// TestAvroRefuses: values that are not of their schema, or that say that they are huge.
func TestAvroRefuses(t *testing.T) {
	t.Parallel()
	doubling := `"null"`
	for i := range 40 {
		doubling = fmt.Sprintf(`{"type":"record","name":"r%d","fields":[{"name":"a","type":%s},{"name":"b","type":"%s"}]}`, i, doubling, map[bool]string{true: "null", false: fmt.Sprint("r", i-1)}[i == 0])
	}
	zeros := append(binary.AppendVarint(nil, 60<<20), make([]byte, 60<<20)...)
	for _, tt := range []struct {
		name, schema string
		body         []byte
		want         string
	}{
		{"nothing", `"int"`, nil, "ends too early"},
		{"text that ends", `"string"`, []byte{8, 'a'}, "ends too early"},
		{"negative length", `"string"`, []byte{1}, "length -1"},
		{"number without end", `"long"`, []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "more than 64 bits"},
		{"int", `"int"`, []byte("\xff\xff\xff\xff\xff\x01"), "more than 32 bits"},
		{"boolean", `"boolean"`, []byte{2}, "a boolean is 2"},
		{"enum", `{"type":"enum","name":"e","symbols":["A"]}`, []byte{2}, "no symbol 1"},
		{"union", `["null","int"]`, []byte{4}, "no type 2"},
		{"too much", `"int"`, []byte{2, 2}, "left at the value's end: 1"},
		{"2^40 nulls", `{"type":"array","items":"null"}`, []byte("\x80\x80\x80\x80\x80\x80\x01"), event.ErrTooLarge.Error()},
		{"2^40 nulls in a block of a size", `{"type":"array","items":"null"}`, []byte("\xff\xff\xff\xff\xff\x7f\x02"), event.ErrTooLarge.Error()},
		{"2^40 members out of nothing", doubling, nil, event.ErrTooLarge.Error()},
		{"records without end", `{"type":"record","name":"r","fields":[{"name":"r","type":"r"}]}`, nil, event.ErrTooDeep.Error()},
		{"arrays without end", `{"type":"record","name":"r","fields":[{"name":"r","type":{"type":"array","items":"r"}}]}`,
			[]byte(strings.Repeat("\x02", 1000)), event.ErrTooDeep.Error()},
		{"a text of zeros", `"string"`, zeros, event.ErrTooLarge.Error()},
		{"bytes of zeros", `"bytes"`, zeros, event.ErrTooLarge.Error()},
		{"a fixed of zeros", `{"type":"fixed","name":"f","size":62914560}`, zeros[len(zeros)-60<<20:], event.ErrTooLarge.Error()},
		{"decimal without end", `{"type":"bytes","logicalType":"decimal","precision":9}`, append([]byte{0x80, 0x10}, make([]byte, 1024)...), "a decimal of 1024 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := readAvro(t, tt.schema, tt.body); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %.100s, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// TestAppendString compares with encoding/json, at every place of eight bytes.
func TestAppendString(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		for at := range 20 {
			text := []byte("abcdefghijklmnopqrst")
			text[at] = byte(c)
			var back string
			if got := appendString(nil, text); c < 0x80 && (json.Unmarshal(got, &back) != nil || back != string(text)) {
				t.Errorf("%q: got %s", text, got)
			}
			if got := string(quoted(string(text[at:]))); c >= 0x80 && got != `"`+string(text[at:])+`"` {
				t.Errorf("%q: got %s", text[at:], got)
			}
		}
	}
}
