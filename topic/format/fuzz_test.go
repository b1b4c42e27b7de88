package format

import (
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"

	"eventstream/event"
)

// checkRead reads a value, which may be anything, and checks what becomes of it.
func checkRead(t *testing.T, s schema, body []byte) {
	out, err := s.read([]byte("x"), body)
	if err != nil {
		return
	}
	// The last text may have six times its bytes, before that is noticed.
	if len(out) > event.MaxBytes+6*min(len(body), event.MaxBytes)+100 {
		t.Errorf("%d bytes of JSON for %d", len(out), len(body))
	}
	if utf8.Valid(out) && !json.Valid(out[1:]) {
		t.Errorf("no JSON: %q", out[1:])
	}
	var d event.Decoder
	if _, err := d.Decode(out[1:], nil); errors.Is(err, event.ErrNotJSON) {
		t.Errorf("%v: %q", err, out[1:])
	}
}

// FuzzAvro: whatever stands in a value, it is JSON or an error.
func FuzzAvro(f *testing.F) {
	text := `{"type":"record","name":"n","fields":[
		{"name":"a","type":["null","boolean","int","long","float","double","bytes","string"]},
		{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},
		{"name":"m","type":{"type":"map","values":{"type":"array","items":["null","n"]}}},
		{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
		{"name":"f","type":{"type":"fixed","name":"F","size":12,"logicalType":"duration"}},
		{"name":"t","type":[{"type":"int","logicalType":"date"},{"type":"long","logicalType":"timestamp-micros"}]}]}`
	s, err := parseAvro([]string{text})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("\x0e\x06abc\x02\x00\x04\x27\x06\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x00\xd4\xc0\x02"))
	f.Add([]byte("\x00\x00\x02\x02k\x80\x80\x80\x80\x80\x80\x01"))
	f.Fuzz(func(t *testing.T, body []byte) { checkRead(t, s, body) })
}

// FuzzAvroSchema: whatever a registry calls a schema, it is one or an error.
func FuzzAvroSchema(f *testing.F) {
	f.Add(`{"type":"record","name":"n","fields":[{"name":"a","type":["null","n"]}]}`, []byte("\x02\x00"))
	f.Add(`["null",{"type":"array","items":{"type":"fixed","name":"F","size":2}}]`, []byte("\x02\x02ab\x00"))
	f.Add(`{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}`, []byte("\x02\x01"))
	f.Fuzz(func(t *testing.T, text string, body []byte) {
		if s, err := parseAvro([]string{text}); err == nil {
			checkRead(t, s, body)
		}
	})
}

// FuzzProtobuf: whatever stands in a message, it is JSON or an error.
func FuzzProtobuf(f *testing.F) {
	s, err := parseProtobuf([]string{""}, []string{shop})
	if err != nil {
		f.Fatal(err)
	}
	file := compiled(f, shop)
	f.Add(indexed(protoOf(f, file, "Scalars", `{"i64":"5","text":"a","db":0.5}`), 0))
	f.Add(indexed(protoOf(f, file, "Order", `{"lines":[{"sku":"a"}],"byNumber":{"5":{}},"card":"c","packed":[1],"loose":[2]}`), 1))
	f.Add(indexed(protoOf(f, file, "Known", `{"at":"2026-09-21T14:13:20.5Z","s":{"a":[1,null]},"any":{"@type":"x/shop.Order.Line","sku":"a"},"dec":{"value":"AQ==","scale":2}}`), 2))
	f.Fuzz(func(t *testing.T, body []byte) { checkRead(t, s, body) })
}
