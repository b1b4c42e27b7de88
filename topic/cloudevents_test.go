package topic

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
)

// headers makes record headers of "key: value" lines.
func headers(lines ...string) (hs []kgo.RecordHeader) {
	for _, l := range lines {
		k, v, _ := strings.Cut(l, ": ")
		hs = append(hs, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	return hs
}

func TestValue(t *testing.T) {
	binary := func(more ...string) []kgo.RecordHeader {
		return headers(append([]string{"ce_specversion: 1.0", "ce_id: e1", "ce_type: purchase", "ce_source: /shop"}, more...)...)
	}
	structured := headers("content-type: application/cloudevents+json; charset=utf-8")
	for _, tt := range []struct {
		name    string
		headers []kgo.RecordHeader
		value   string
		want    string
		err     string // part of it
	}{
		{name: "plain", value: `{"event_type":"login"}`, want: `{"event_type":"login"}`},
		{name: "plain, not even JSON", value: "\xff", want: "\xff"},
		{name: "plain, unknown content type", headers: headers("content-type: text/csv"), value: `{}`, want: `{}`},
		{name: "plain, other headers", headers: headers("traceparent: 00-1", "ce_extra: 1"), value: `{}`, want: `{}`},

		{name: "binary", headers: binary(), value: `{"amount":5}`, want: `{"event_id":"e1","event_type":"purchase","amount":5}`},
		{name: "binary, all attributes", headers: binary("ce_time: 2026-01-02T03:04:05Z", "ce_subject: user_1", "content-type: application/json"),
			value: `{"amount":5}`, want: `{"event_id":"e1","event_type":"purchase","timestamp":"2026-01-02T03:04:05Z","user_id":"user_1","amount":5}`},
		{name: "binary, the data's own attributes win", headers: binary("ce_subject: user_1"),
			value: `{"event_type":"refund","event_id":"x","user_id":"u"}`, want: `{"event_type":"refund","event_id":"x","user_id":"u"}`},
		{name: "binary, numbers keep their digits", headers: binary(), value: ` {"amount": 5.00} `, want: `{"event_id":"e1","event_type":"purchase","amount": 5.00}`},
		{name: "binary, empty object", headers: binary(), value: `{ }`, want: `{"event_id":"e1","event_type":"purchase"}`},
		{name: "binary, no data", headers: binary(), value: "", want: `{"event_id":"e1","event_type":"purchase"}`},
		{name: "binary, escapes", headers: binary(`ce_subject: a"b`), value: `{}`, want: `{"event_id":"e1","event_type":"purchase","user_id":"a\"b"}`},
		{name: "binary, JSON by suffix", headers: binary("content-type: application/vnd.shop+json"), value: `{}`, want: `{"event_id":"e1","event_type":"purchase"}`},
		{name: "binary, Avro", headers: binary("content-type: application/avro"), value: `{}`, err: `datacontenttype "application/avro"`},
		{name: "binary, an array", headers: binary(), value: ` [1]`, want: `{"event_id":"e1","event_type":"purchase","data":[1]}`},
		{name: "binary, null", headers: binary(), value: `null`, want: `{"event_id":"e1","event_type":"purchase"}`},
		{name: "binary, no JSON", headers: binary(), value: `nul`, err: "not valid JSON"},
		{name: "binary, no type", headers: headers("ce_specversion: 1.0", "ce_id: e1"), value: `{}`, err: "type is missing"},
		{name: "binary, no version", headers: headers("ce_type: purchase"), value: `{}`, err: `specversion ""`},

		{name: "structured", headers: structured,
			value: `{"specversion":"1.0","id":"e1","type":"purchase","source":"/shop","subject":"user_1","time":"2026-01-02T03:04:05Z","data":{"amount":5}}`,
			want:  `{"event_id":"e1","event_type":"purchase","timestamp":"2026-01-02T03:04:05Z","user_id":"user_1","amount":5}`},
		{name: "structured, header in capitals", headers: headers("Content-Type: Application/CloudEvents+JSON"),
			value: `{"specversion":"1.0","id":"e1","type":"purchase","data":{}}`, want: `{"event_id":"e1","event_type":"purchase"}`},
		{name: "structured, base64", headers: structured,
			value: `{"specversion":"1.0","id":"e1","type":"purchase","data_base64":"eyJhbW91bnQiOjV9"}`, want: `{"event_id":"e1","event_type":"purchase","amount":5}`},
		{name: "structured, both", headers: structured,
			value: `{"specversion":"1.0","id":"e1","type":"purchase","data":{},"data_base64":"e30="}`, err: "both data"},
		{name: "structured, bad base64", headers: structured,
			value: `{"specversion":"1.0","id":"e1","type":"purchase","data_base64":"!"}`, err: "data_base64"},
		{name: "structured, XML inside", headers: structured,
			value: `{"specversion":"1.0","id":"e1","type":"purchase","datacontenttype":"application/xml","data":"<a/>"}`, err: "datacontenttype"},
		{name: "structured, data a string", headers: structured, value: `{"specversion":"1.0","type":"purchase","data":"x"}`, want: `{"event_type":"purchase","data":"x"}`},
		{name: "structured, data null", headers: structured, value: `{"specversion":"1.0","type":"purchase","data":null}`, want: `{"event_type":"purchase"}`},
		{name: "structured, old version", headers: structured, value: `{"specversion":"0.2","type":"purchase","data":{}}`, err: `specversion "0.2"`},
		{name: "structured, no envelope", headers: structured, value: `[]`, err: "envelope"},
		{name: "structured, Avro", headers: headers("content-type: application/cloudevents+avro"), value: `x`, err: "only application/cloudevents+json"},
		{name: "batch", headers: headers("content-type: application/cloudevents-batch+json"), value: `[]`, err: "only application/cloudevents+json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Value(&kgo.Record{Headers: tt.headers, Value: []byte(tt.value)})
			switch {
			case tt.err == "" && err != nil:
				t.Fatalf("Value: %v", err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !errors.Is(err, ErrCloudEvent)):
				t.Fatalf("Value: got error %v, want an ErrCloudEvent with %q", err, tt.err)
			case string(got) != tt.want:
				t.Errorf("Value: got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestValueOfTombstone(t *testing.T) {
	if _, err := Value(&kgo.Record{Key: []byte("user_1")}); !errors.Is(err, ErrTombstone) {
		t.Errorf("Value: got %v, want ErrTombstone", err)
	}
}

func TestValueOfPlainRecordDoesNotCopy(t *testing.T) {
	r := &kgo.Record{Value: []byte(`{"event_type":"login"}`), Headers: headers("content-type: application/json", "traceparent: x")}
	if n := testing.AllocsPerRun(100, func() { Value(r) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func FuzzValue(f *testing.F) {
	f.Add("application/cloudevents+json", "", "", []byte(`{"specversion":"1.0","id":"e1","type":"purchase","data":{"a":1}}`))
	f.Add("application/json", "1.0", "purchase", []byte(`{"event_type":null,"user_id":"u"}`))
	f.Add("", "", "", []byte(`{}`))
	f.Add("", "1.0", "\xff", []byte(` { } `))
	f.Fuzz(func(t *testing.T, contentType, version, ceType string, value []byte) {
		before := bytes.Clone(value)
		r := &kgo.Record{Value: value, Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte(contentType)}}}
		if version != "" {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_specversion", Value: []byte(version)},
				kgo.RecordHeader{Key: "ce_type", Value: []byte(ceType)}, kgo.RecordHeader{Key: "ce_id", Value: []byte("e1")})
		}
		got, err := Value(r)
		if !bytes.Equal(value, before) {
			t.Fatalf("the record's value changed from %q to %q", before, value)
		}
		if err != nil || bytes.Equal(got, value) {
			return
		}
		// Only a CloudEvent is changed, and what comes of it is an event, unless
		// its own event_type is none or it isn't UTF-8.
		var object map[string]json.RawMessage
		if err := json.Unmarshal(got, &object); err != nil {
			t.Fatalf("got %q, no JSON object: %v", got, err)
		}
		var d event.Decoder
		if _, err := d.Decode(got, nil); err != nil && !errors.Is(err, event.ErrNoType) && !errors.Is(err, event.ErrNotUTF8) {
			t.Fatalf("got %q, no event: %v", got, err)
		}
	})
}
