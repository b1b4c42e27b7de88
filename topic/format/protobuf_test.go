package format

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"eventstream/event"
)

const shop = `syntax = "proto3";
package shop;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "confluent/meta.proto";
import "confluent/type/decimal.proto";

enum Color { NONE = 0; RED = 1; }

message Scalars {
  option (confluent.message_meta).doc = "all of them";
  bool b = 1; int32 i32 = 2; int64 i64 = 3; uint32 u32 = 4; uint64 u64 = 5; sint32 s32 = 6; sint64 s64 = 7;
  fixed32 f32 = 8; fixed64 f64 = 9; sfixed32 sf32 = 10; sfixed64 sf64 = 11; float fl = 12; double db = 13;
  string text = 14; bytes raw = 15; Color color = 16;
}
message Order {
  message Line { string sku = 1; int32 n = 2; map<string, int32> m = 3; message Deep { string d = 1; } }
  string event_type = 1;
  optional int32 maybe = 2;
  repeated Line lines = 3;
  map<int64, Line> by_number = 4;
  map<string, Color> colors = 5;
  oneof pay { string card = 6; int64 cents = 7; Line line = 8; }
  repeated int32 packed = 9;
  repeated int32 loose = 10 [packed = false];
  Order inner = 11;
  map<bool, double> flags = 12;
}
message Known {
  google.protobuf.Timestamp at = 1; google.protobuf.Duration d = 2; google.protobuf.Struct s = 3; google.protobuf.Value v = 4;
  google.protobuf.ListValue l = 5; google.protobuf.FieldMask mask = 6; google.protobuf.Empty e = 7; google.protobuf.Any any = 8;
  google.protobuf.Int64Value i = 9; google.protobuf.StringValue t = 10; google.protobuf.BoolValue b = 11; google.protobuf.BytesValue r = 12;
  confluent.type.Decimal dec = 13; google.protobuf.DoubleValue db = 14;
}`

// compiled is a file as the library has it.
func compiled(t testing.TB, text string) protoreflect.FileDescriptor {
	t.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(protocompile.CompositeResolver{
		&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"test.proto": text})},
		&protocompile.SourceResolver{Accessor: openBuiltin},
	})}
	files, err := c.Compile(t.Context(), "test.proto")
	if err != nil {
		t.Fatal(err)
	}
	return files[0]
}

// protoOf returns a message, as the library writes it.
func protoOf(t testing.TB, file protoreflect.FileDescriptor, name, text string) []byte {
	t.Helper()
	m := dynamicpb.NewMessage(file.Messages().ByName(protoreflect.Name(name)))
	opts := protojson.UnmarshalOptions{Resolver: typesOf(t, file)}
	if err := opts.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// indexed returns a message with what stands before it.
func indexed(body []byte, indexes ...int64) []byte {
	head := binary.AppendVarint(nil, int64(len(indexes)))
	for _, i := range indexes {
		head = binary.AppendVarint(head, i)
	}
	return append(head, body...)
}

func readProto(t testing.TB, text string, body []byte) (string, error) {
	t.Helper()
	s, err := parseProtobuf([]string{""}, []string{text})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.read(nil, body)
	return string(out), err
}

// TestProtobuf: what becomes of each type. The library writes what we read.
func TestProtobuf(t *testing.T) {
	t.Parallel()
	file := compiled(t, shop)
	for _, tt := range []struct {
		name, message, value, want string
	}{
		{"defaults", "Scalars", `{}`, `{"b":false,"i32":0,"i64":0,"u32":0,"u64":0,"s32":0,"s64":0,"f32":0,"f64":0,"sf32":0,"sf64":0,"fl":0,"db":0,"text":"","raw":"","color":"NONE"}`},
		{"the largest", "Scalars", `{"b":true,"i32":2147483647,"i64":"9223372036854775807","u32":4294967295,"u64":"18446744073709551615","s32":2147483647,
			"s64":"9223372036854775807","f32":4294967295,"f64":"18446744073709551615","sf32":2147483647,"sf64":"9223372036854775807","fl":0.1,"db":409.94,"text":"a\"\u0001é","raw":"AP8B","color":"RED"}`,
			`{"b":true,"i32":2147483647,"i64":9223372036854775807,"u32":4294967295,"u64":18446744073709551615,"s32":2147483647,"s64":9223372036854775807,` +
				`"f32":4294967295,"f64":18446744073709551615,"sf32":2147483647,"sf64":9223372036854775807,"fl":0.1,"db":409.94,"text":"a\"\u0001é","raw":"AP8B","color":"RED"}`},
		{"the smallest", "Scalars", `{"i32":-2147483648,"i64":"-9223372036854775808","s32":-2147483648,"s64":"-9223372036854775808","sf32":-2147483648,
			"sf64":"-9223372036854775808","fl":"NaN","db":"-Infinity","color":7}`,
			`{"b":false,"i32":-2147483648,"i64":-9223372036854775808,"u32":0,"u64":0,"s32":-2147483648,"s64":-9223372036854775808,` +
				`"f32":0,"f64":0,"sf32":-2147483648,"sf64":-9223372036854775808,"fl":"NaN","db":"-Infinity","text":"","raw":"","color":7}`},
		{"empty", "Order", `{}`, `{"event_type":"","lines":[],"by_number":{},"colors":{},"packed":[],"loose":[],"flags":{}}`},
		{"all", "Order", `{"eventType":"paid","maybe":0,"lines":[{"sku":"a","n":1},{}],"byNumber":{"-5":{"sku":"b"},"9007199254740993":{}},"colors":{"x":"RED"},
			"cents":"0","packed":[1,-2],"loose":[3,4],"inner":{"card":"c"},"flags":{"true":0.5}}`,
			`{"event_type":"paid","maybe":0,"lines":[{"sku":"a","n":1,"m":{}},{"sku":"","n":0,"m":{}}],"by_number":{"-5":{"sku":"b","n":0,"m":{}},"9007199254740993":{"sku":"","n":0,"m":{}}},` +
				`"colors":{"x":"RED"},"cents":0,"packed":[1,-2],"loose":[3,4],"inner":{"event_type":"","lines":[],"by_number":{},"colors":{},"card":"c","packed":[],"loose":[],"flags":{}},"flags":{"true":0.5}}`},
		{"nothing that is known", "Known", `{}`, `{}`},
		{"what is known", "Known", `{"at":"2026-09-21T14:13:20.5Z","d":"-1.500s","s":{"a":[1,null,{"b":true}]},"v":"x","l":[1.5],"mask":"aB,c","e":{},
			"i":"9223372036854775807","t":"","b":false,"r":"AQ==","dec":{"value":"Jwb=","precision":4,"scale":2},"db":"NaN"}`,
			`{"at":"2026-09-21T14:13:20.5Z","d":"-1.5s","s":{"a":[1,null,{"b":true}]},"v":"x","l":[1.5],"mask":"a_b,c","e":{},"i":9223372036854775807,"t":"","b":false,"r":"AQ==","dec":99.90,"db":"NaN"}`},
		{"zeros that are known", "Known", `{"at":"1970-01-01T00:00:00Z","d":"0s","s":{},"v":null,"l":[],"mask":"","i":"0","dec":{}}`,
			`{"at":"1970-01-01T00:00:00Z","d":"0s","s":{},"v":null,"l":[],"mask":"","i":0,"dec":0}`},
		{"decimal that is none", "Known", `{"dec":{"value":"AQ==","scale":-2}}`, `{"dec":{"value":"AQ==","precision":0,"scale":-2}}`},
		{"any, known", "Known", `{"any":{"@type":"type.googleapis.com/shop.Order.Line","sku":"a"}}`, `{"any":{"@type":"type.googleapis.com/shop.Order.Line","sku":"a","n":0,"m":{}}}`},
		{"any, of what is more than its members", "Known", `{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"2s"}}`,
			`{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"2s"}}`},
		{"any, of nothing", "Known", `{"any":{}}`, `{"any":{"@type":"","value":""}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := int64(file.Messages().ByName(protoreflect.Name(tt.message)).Index())
			got, err := readProto(t, shop, indexed(protoOf(t, file, tt.message, tt.value), at))
			if err != nil || got != tt.want {
				t.Errorf("got %s, %v\nwant %s", got, err, tt.want)
			}
			if !json.Valid([]byte(got)) {
				t.Errorf("%s is no JSON", got)
			}
		})
	}
}

// typesOf are those of a file and of its imports, for an Any.
func typesOf(t testing.TB, file protoreflect.FileDescriptor) *dynamicpb.Types {
	t.Helper()
	all := new(protoregistry.Files)
	for i := range file.Imports().Len() {
		if err := all.RegisterFile(file.Imports().Get(i).FileDescriptor); err != nil {
			t.Fatal(err)
		}
	}
	if err := all.RegisterFile(file); err != nil {
		t.Fatal(err)
	}
	return dynamicpb.NewTypes(all)
}

// TestProtobufWire: what the library does not write, and others may.
func TestProtobufWire(t *testing.T) {
	t.Parallel()
	text := func(number protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), s)
	}
	varint := func(number protowire.Number, n uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), n)
	}
	cat := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	in := func(number protowire.Number, body []byte) []byte { return text(number, string(body)) }
	const small = `syntax = "proto3"; message M { string a = 1; M m = 2; oneof o { string x = 3; M y = 4; int32 z = 7; } repeated int32 n = 5; map<string, M> e = 6;
		optional string p = 8; message In { message Deep { int32 d = 1; } map<int32, int32> f = 1; message Next { int32 i = 2; } } }`
	const empty = `"n":[],"e":{}`
	for _, tt := range []struct {
		name, schema string
		body         []byte
		want         string
	}{
		{"no indexes", small, append([]byte{0}, text(1, "v")...), `{"a":"v",` + empty + `}`},
		{"the last of a field", small, indexed(cat(text(1, "v"), text(1, "w")), 0), `{"a":"w",` + empty + `}`},
		{"parts of a message", small, indexed(cat(in(2, text(1, "v")), text(1, "a"), in(2, varint(7, 1))), 0), `{"a":"a","m":{"a":"v","z":1,` + empty + `},` + empty + `}`},
		{"the last of a oneof", small, indexed(cat(text(3, "x"), in(4, text(1, "v")), varint(7, 9)), 0), `{"a":"","z":9,` + empty + `}`},
		{"a oneof comes back", small, indexed(cat(in(4, text(1, "lost")), text(3, "x"), in(4, nil)), 0), `{"a":"","y":{"a":"",` + empty + `},` + empty + `}`},
		{"packed and not", small, indexed(cat(varint(5, 1), in(5, []byte{2, 3}), text(1, "v"), in(5, nil), varint(5, 4)), 0), `{"a":"v","n":[1,2,3,4],"e":{}}`},
		{"an empty packed list", small, indexed(in(5, nil), 0), `{"a":"",` + empty + `}`},
		{"an entry without anything", small, indexed(in(6, nil), 0), `{"a":"","n":[],"e":{"":{"a":"",` + empty + `}}}`},
		{"unknown fields, and other kinds", small, indexed(cat(varint(100, 1), varint(1, 1), text(101, "v"), text(8, "")), 0), `{"a":"",` + empty + `,"p":""}`},
		{"a type in a type", small, indexed(varint(1, 5), 0, 0, 0), `{"d":5}`},
		{"entries of maps are no types", small, indexed(varint(2, 5), 0, 0, 1), `{"i":5}`},
		{"proto2", `syntax = "proto2"; message M { optional int32 a = 1 [default = 7]; repeated int32 n = 2; optional group G = 3 { optional string s = 1; } map<string, int32> m = 4; }`,
			indexed(cat(varint(2, 1), varint(2, 2), protowire.AppendTag(nil, 3, protowire.StartGroupType), text(1, "g"), protowire.AppendTag(nil, 3, protowire.EndGroupType), in(4, nil)), 0),
			`{"n":[1,2],"g":{"s":"g"},"m":{"":0}}`},
		{"editions", `edition = "2023"; message M { int32 a = 1; int32 b = 2 [features.field_presence = IMPLICIT]; }`, []byte{0}, `{"b":0}`},
		{"a time of no year", `syntax = "proto3"; import "google/protobuf/timestamp.proto"; message M { google.protobuf.Timestamp t = 1; }`,
			indexed(in(1, varint(1, 1<<50)), 0), `{"t":{"seconds":1125899906842624,"nanos":0}}`},
		{"any, unknown", `syntax = "proto3"; import "google/protobuf/any.proto"; message M { google.protobuf.Any a = 1; }`,
			indexed(in(1, cat(text(1, "x/y.Z"), text(2, "v"))), 0), `{"a":{"@type":"x/y.Z","value":"dg=="}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := readProto(t, tt.schema, tt.body); err != nil || got != tt.want {
				t.Errorf("got %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

// TestProtobufRefuses: what is no message of the schema, or takes too much.
func TestProtobufRefuses(t *testing.T) {
	t.Parallel()
	const small = `syntax = "proto3"; message M { repeated M m = 1; repeated bool b = 2; optional int32 i = 3; }`
	deep := []byte{}
	for range 400 {
		deep = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), deep)
	}
	many := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), make([]byte, 1<<20))
	merged := protowire.AppendBytes(protowire.AppendTag(nil, 9, protowire.BytesType), make([]byte, 4<<20)) // of no field
	for range 200 {
		merged = append([]byte{10, 0}, protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), merged)...)
	}
	zeros := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), make([]byte, 60<<20))
	optional := `syntax = "proto3"; message M { repeated M m = 1;`
	for i := range 1000 {
		optional += fmt.Sprintf("optional int32 f%d = %d;", i, i+2)
	}
	for _, tt := range []struct {
		name, schema string
		body         []byte
		want         string
	}{
		{"nothing", small, nil, "ends too early"},
		{"no such index", small, indexed(nil, 1), "no message at index 1"},
		{"no such index in it", small, indexed(nil, 0, 3), "no message at index 3"},
		{"negative indexes", small, binary.AppendVarint(nil, -1), "a list of -1 indexes"},
		{"indexes without end", small, binary.AppendVarint(nil, 1<<40), "ends too early"},
		{"no messages", `syntax = "proto3"; enum E { A = 0; }`, []byte{0}, "no message"},
		{"no Protobuf", small, []byte("\x00\xff\xff"), "no Protobuf"},
		{"a length beyond the end", small, []byte("\x00\x0a\x05a"), "no Protobuf"},
		{"a packed list that ends", small, []byte("\x00\x12\x01\x80"), "no Protobuf"},
		{"deep", small, indexed(deep, 0), event.ErrTooDeep.Error()},
		{"much from little", small, indexed(bytes.Repeat(many, 2), 0), event.ErrTooLarge.Error()},
		{"parts of messages in parts of messages", `syntax = "proto3"; message M { M m = 1; }`, indexed(merged, 0), errWork.Error()},
		{"a text of zeros", `syntax = "proto3"; message M { string s = 1; }`, indexed(zeros, 0), event.ErrTooLarge.Error()},
		{"bytes of zeros", `syntax = "proto3"; message M { bytes b = 1; }`, indexed(zeros, 0), event.ErrTooLarge.Error()},
		{"a mask of zeros", `syntax = "proto3"; import "google/protobuf/field_mask.proto"; message M { google.protobuf.FieldMask f = 1; }`,
			indexed(protowire.AppendBytes([]byte{10}, zeros), 0), event.ErrTooLarge.Error()},
		{"an Any of zeros", `syntax = "proto3"; import "google/protobuf/any.proto"; message M { google.protobuf.Any a = 1; }`,
			indexed(protowire.AppendBytes([]byte{10}, zeros), 0), event.ErrTooLarge.Error()},
		{"much work for little", optional + "}", indexed(bytes.Repeat([]byte{10, 0}, 1<<17), 0), errWork.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := readProto(t, tt.schema, tt.body); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %.100s, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestProtobufSchemas(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		names, texts []string
		err          string
	}{
		{"a reference", []string{"other/line.proto", ""}, []string{`syntax = "proto3"; package o; message L { int32 i = 1; }`,
			`syntax = "proto3"; import "other/line.proto"; message M { o.L l = 1; }`}, ""},
		{"no reference", []string{""}, []string{`syntax = "proto3"; import "other/line.proto"; message M {}`}, "other/line.proto"},
		{"a reference of a standard file", []string{"google/protobuf/empty.proto", ""}, []string{`syntax = "proto3"; package google.protobuf; message Empty {}`,
			`syntax = "proto3"; import "google/protobuf/empty.proto"; message M { google.protobuf.Empty l = 1; }`}, ""},
		{"no schema", []string{""}, []string{`{"type":"int"}`}, "syntax error"},
		{"a file of ours that is none", []string{""}, []string{`syntax = "proto3"; import "../format.go"; message M {}`}, "format.go"},
	} {
		s, err := parseProtobuf(tt.names, tt.texts)
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
		if err == nil {
			if got, err := s.read(nil, []byte("\x00\x0a\x00")); err != nil || !strings.HasPrefix(string(got), `{"l":{`) {
				t.Errorf("%s: %s, %v", tt.name, got, err)
			}
		}
	}
}
