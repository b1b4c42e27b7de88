package topic

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
)

// TestDebezium: changes as Kafka Connect's converters write them.
func TestDebezium(t *testing.T) {
	t.Parallel()
	asked := event.NewPaths([]event.Path{{"event_type"}, {"timestamp"}, {"amount"}, {"after", "email"}})
	amount := Field{Name: "amount", Place: Place{Path: "after.total"}, As: event.AsNumber}
	table := Field{Name: "event_type", Place: Place{Path: "source.table"}}
	change := func(op, before, after string) string {
		return `{"before":` + before + `,"after":` + after + `,"source":{"connector":"postgresql","ts_ms":1790000000123,"table":"orders"},"op":"` + op + `","ts_ms":1790000000999,"transaction":null}`
	}
	row := `{"id":1,"email":"a@example.org","total":"99.90"}`
	made := change("c", "null", row)
	for _, tt := range []struct {
		name   string
		fields []Field
		value  string
		data   string // the value if empty
		want   string
		err    error
	}{
		{"made", []Field{amount}, made, "", "c 2026-09-21T14:13:20.123Z 99.9 a@example.org", nil},
		{"changed", []Field{amount}, change("u", row, `{"id":1,"email":"b@example.org","total":"1"}`), "", "u 2026-09-21T14:13:20.123Z 1 b@example.org", nil},
		{"deleted", nil, change("d", row, "null"), "", "d 2026-09-21T14:13:20.123Z  ", nil},
		{"read", nil, change("r", "null", row), "", "r 2026-09-21T14:13:20.123Z  a@example.org", nil},
		{"mapped otherwise", []Field{table}, made, "", "orders 2026-09-21T14:13:20.123Z  a@example.org", nil},
		{"with its schema", nil, `{"schema":{"type":"struct","fields":[{"field":"payload"}],"name":"x.Envelope"},"payload":` + made + `}`, made, "c 2026-09-21T14:13:20.123Z  a@example.org", nil},
		{"the payload first", nil, `{ "payload": ` + made + `, "schema": null }`, made, "c 2026-09-21T14:13:20.123Z  a@example.org", nil},
		{"a column that is called payload", nil, change("c", "null", `{"payload":1,"schema":2,"email":"x"}`), "", "c 2026-09-21T14:13:20.123Z  x", nil},
		{"tombstone with a schema", nil, `{"schema":null,"payload":null}`, "", "", ErrTombstone},
		{"tombstone as JSON", nil, ` null `, "", "", ErrTombstone},
		{"no change", nil, `{"ts_ms":1}`, "", "", event.ErrNoType},
		{"no JSON", nil, `{"payload"`, "", "", event.ErrNotJSON},
		{"a payload that is none", nil, `{"schema":1,"payload":[1]}`, "", "", event.ErrNotObject},
	} {
		s, err := NewSource(tt.fields, Debezium)
		if err != nil {
			t.Fatal(err)
		}
		var d Decoder
		data, ev, err := s.Decode(t.Context(), &d, &kgo.Record{Value: []byte(tt.value)}, asked)
		if err != nil || tt.err != nil {
			if !errors.Is(err, tt.err) {
				t.Errorf("%s: got %v, want %v", tt.name, err, tt.err)
			}
			continue
		}
		var got []string
		for a := range event.Attr(4) {
			got = append(got, firstOf(ev, a))
		}
		want := tt.data
		if want == "" {
			want = tt.value
		}
		if text := strings.Join(got, " "); text != tt.want || string(data) != want {
			t.Errorf("%s: got %q of %s, want %q of %s", tt.name, text, data, tt.want, want)
		}
		if !IsDebezium([]byte(tt.value)) {
			t.Errorf("%s is not recognised", tt.name)
		}
	}
	for _, other := range []string{`{"op":"c"}`, `{"op":"create","source":{}}`, `{"source":{}}`, `[]`, `{"schema":1,"payload":null}`, ``} {
		if IsDebezium([]byte(other)) {
			t.Errorf("%s is taken for a change", other)
		}
	}
	var d Decoder
	s, _ := NewSource(nil, Debezium)
	if _, _, err := s.Decode(t.Context(), &d, &kgo.Record{}, nil); !errors.Is(err, ErrTombstone) {
		t.Errorf("without a value: %v, want ErrTombstone", err)
	}
	if _, err := ParseEnvelope("cdc"); err == nil || !strings.Contains(err.Error(), "allowed is debezium") {
		t.Errorf("got %v", err)
	}
}
