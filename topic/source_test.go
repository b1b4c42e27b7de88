package topic

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
)

func TestSource(t *testing.T) {
	t.Parallel()
	asked := event.NewPaths([]event.Path{{"event_type"}, {"user_id"}, {"amount"}, {"tenant"}})
	header := func(pairs ...string) (h []kgo.RecordHeader) {
		for i := 0; i < len(pairs); i += 2 {
			h = append(h, kgo.RecordHeader{Key: pairs[i], Value: []byte(pairs[i+1])})
		}
		return h
	}
	typed := Field{Name: "event_type", Place: Place{Path: "type"}}
	for _, tt := range []struct {
		name   string
		fields []Field
		record kgo.Record
		want   string // of those asked for
		err    string
	}{
		{"in the JSON", []Field{typed, {Name: "user_id", Place: Place{Path: "user.id"}, As: event.AsString}},
			kgo.Record{Value: []byte(`{"type":"a","user":{"id":7},"user_id":"not this"}`)}, "a 7  ", ""},
		{"header, the last of the name, and the key", []Field{
			{Name: "event_type", Place: Place{Header: "kind"}}, {Name: "user_id", Place: Place{Key: true}}, {Name: "amount", Place: Place{Header: "sum"}, As: event.AsNumber},
		}, kgo.Record{Key: []byte("ada"), Headers: header("kind", "x", "kind", "y", "sum", "99.90"), Value: []byte(`{}`)}, "y ada 99.9 ", ""},
		{"topic and constant", []Field{{Name: "event_type", Place: Place{Topic: true}}, {Name: "tenant", Place: Place{Const: "shop"}}},
			kgo.Record{Topic: "orders", Value: []byte(`{}`)}, "orders   shop", ""},
		{"CloudEvent in headers, with an extension", []Field{{Name: "tenant", Place: Place{CloudEvent: "tenantid"}}},
			kgo.Record{Headers: header("ce_specversion", "1.0", "ce_type", "a", "ce_tenantid", "t1"), Value: []byte(`{"amount":1}`)}, "a  1 t1", ""},
		{"CloudEvent in an envelope", []Field{{Name: "tenant", Place: Place{CloudEvent: "source"}}, {Name: "amount", Place: Place{CloudEvent: "n"}, As: event.AsNumber}},
			kgo.Record{Headers: header("content-type", "application/cloudevents+json"), Value: []byte(`{"specversion":"1.0","type":"a","source":"/shop","n":5}`)}, "a  5 /shop", ""},
		{"no header", []Field{{Name: "event_type", Place: Place{Header: "kind"}}},
			kgo.Record{Value: []byte(`{"event_type":"a"}`)}, "", "event_type: a non-empty string is required, in the header kind"},
		{"no type at the path", []Field{typed}, kgo.Record{Value: []byte(`{"type":7}`)}, "", "in type"},
		{"tombstone", []Field{typed}, kgo.Record{}, "", ErrTombstone.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := NewSource(tt.fields, "")
			if err != nil {
				t.Fatal(err)
			}
			var d Decoder
			data, ev, err := s.Decode(t.Context(), &d, &tt.record, asked)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for a := range event.Attr(4) {
				got = append(got, firstOf(ev, a))
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("got %q of %s, want %q", text, data, tt.want)
			}
		})
	}
}

// firstOf shows the first value of an attribute.
func firstOf(e *event.Event, a event.Attr) string {
	v := e.First(a)
	switch {
	case v == nil:
		return ""
	case v.Kind == event.Number:
		return strconv.FormatFloat(event.KeyNumber(v.Key), 'g', -1, 64)
	}
	return string(v.Text)
}

func TestNilSource(t *testing.T) {
	t.Parallel()
	var s *Source
	var d Decoder
	raw := `{"event_type":"a","type":"b"}`
	data, ev, err := s.Decode(t.Context(), &d, &kgo.Record{Value: []byte(raw)}, nil)
	if err != nil || string(data) != raw || string(ev.Type) != "a" || s.Mapping() != nil {
		t.Errorf("got %s, %v, mapping %v; want the record's value as it is", data, err, s.Mapping())
	}
	if _, _, err := s.Decode(t.Context(), &d, &kgo.Record{Value: []byte(`{}`)}, nil); !errors.Is(err, event.ErrNoType) {
		t.Errorf("got %v, want ErrNoType", err)
	}
}

func TestNewSource(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		field Field
		want  string
	}{
		{Field{Name: "a"}, "want one of"},
		{Field{Name: "a", Place: Place{Path: "x", Key: true}}, "want one of"},
		{Field{Name: "a", Place: Place{Path: "x..y"}}, "want a path such as"},
		{Field{Name: "a.b", Place: Place{Path: "x"}}, "without dots"},
		{Field{Place: Place{Path: "x"}}, "has no name"},
	} {
		if _, err := NewSource([]Field{tt.field}, ""); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.field, err, tt.want)
		}
	}
}

// upper is a format of values that are JSON in capital letters.
type upper struct{}

func (upper) Append(_ context.Context, dst, value []byte) ([]byte, error) {
	if string(value) == "later" {
		return nil, ErrNotYet
	}
	return append(dst, strings.ToLower(string(value))...), nil
}

// TestSourceIn: a format gives the JSON that all else is made of.
func TestSourceIn(t *testing.T) {
	t.Parallel()
	s, err := NewSource([]Field{{Name: "event_type", Place: Place{Path: "kind"}}}, "")
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	for _, tt := range []struct {
		name   string
		source *Source
		record kgo.Record
		data   string
		typ    string
		err    error
	}{
		{"mapped", s.In(upper{}), kgo.Record{Value: []byte(`{"KIND":"A"}`)}, `{"kind":"a"}`, "a", nil},
		{"not mapped", (*Source)(nil).In(upper{}), kgo.Record{Value: []byte(`{"EVENT_TYPE":"B"}`)}, `{"event_type":"b"}`, "b", nil},
		{"tombstone", s.In(upper{}), kgo.Record{}, "", "", ErrTombstone},
		{"headers of a CloudEvent change nothing", s.In(upper{}), kgo.Record{Value: []byte(`{"KIND":"A"}`),
			Headers: []kgo.RecordHeader{{Key: "ce_type", Value: []byte("x")}}}, `{"kind":"a"}`, "a", nil},
		{"later", s.In(upper{}), kgo.Record{Value: []byte("later")}, "", "", ErrNotYet},
		{"no type", s.In(upper{}), kgo.Record{Value: []byte("{}")}, "", "", event.ErrNoType},
		{"large", s.In(upper{}), kgo.Record{Value: []byte(`{"KIND":"A","X":"` + strings.Repeat("Y", keepJSON) + `"}`)},
			`{"kind":"a","x":"` + strings.Repeat("y", keepJSON) + `"}`, "a", nil},
		{"after it", s.In(upper{}), kgo.Record{Value: []byte(`{"KIND":"A"}`)}, `{"kind":"a"}`, "a", nil},
	} {
		data, ev, err := tt.source.Decode(t.Context(), &d, &tt.record, nil)
		if !errors.Is(err, tt.err) || string(data) != tt.data || ev != nil && string(ev.Type) != tt.typ {
			t.Errorf("%s: got %.100s, %v, %v, want %.100s, %v", tt.name, data, ev, err, tt.data, tt.err)
		}
	}
	if cap(d.json) > keepJSON {
		t.Error("a large buffer is kept")
	}
}

// TestFramed: a frame in a topic of JSON says whose it is.
func TestFramed(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"\x00\x00\x00\x00\x07\x02\x06": "not valid JSON: a Schema Registry frame with schema id 7, but the source's format is json",
		"\x00\x00":                     event.ErrRegistry.Error(),
		`{}`:                           event.ErrNoType.Error(),
	} {
		var d Decoder
		if _, _, err := (*Source)(nil).Decode(t.Context(), &d, &kgo.Record{Value: []byte(value)}, nil); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", value, err, want)
		}
	}
}
