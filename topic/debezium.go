package topic

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"eventstream/event"
)

// Envelope is what the JSON of events is inside of.
type Envelope string

// Debezium is the envelope of changes of rows: before, after, op, source. With its schema
// beside it, as Kafka Connect's JsonConverter writes it by default, it is in the member payload.
const Debezium Envelope = "debezium"

// ParseEnvelope returns the envelope that is called so.
func ParseEnvelope(name string) (Envelope, error) {
	if name != string(Debezium) {
		return "", fmt.Errorf("%.60q: allowed is %s", name, Debezium)
	}
	return Debezium, nil
}

// fields returns those that a mapping lacks.
func (e Envelope) fields(mapped []Field) (all []Field) {
	if e != Debezium {
		return mapped
	}
	all = slices.Clone(mapped)
	for _, f := range []Field{
		{Name: "event_type", Place: Place{Path: "op"}},
		{Name: "timestamp", Place: Place{Path: "source.ts_ms"}, As: event.AsUnixMilli},
	} {
		if !slices.ContainsFunc(mapped, func(own Field) bool { return own.Name == f.Name }) {
			all = append(all, f)
		}
	}
	return all
}

// Open returns what is in the envelope. Of Debezium it is the change, without its schema.
func (e Envelope) Open(data []byte) ([]byte, error) {
	if e != Debezium {
		return data, nil
	}
	if string(bytes.TrimSpace(data)) == "null" {
		return nil, ErrTombstone
	}
	if !bytes.Contains(data, []byte(`"payload"`)) {
		return data, nil // most have no schema
	}
	var has map[string]json.RawMessage
	if json.Unmarshal(data, &has) != nil {
		return data, nil // the event's decoder says why
	}
	payload, ok := has["payload"]
	_, schema := has["schema"]
	switch {
	case !ok || !schema || len(has) > 2:
		return data, nil
	case string(payload) == "null":
		return nil, ErrTombstone
	}
	return payload, nil
}

// IsDebezium reports whether JSON looks like a change of a row, in its envelope.
func IsDebezium(data []byte) bool {
	data, err := Debezium.Open(data)
	if err != nil || !strings.Contains(string(data), `"op"`) {
		return false
	}
	var change struct {
		Op     string
		Source map[string]any
	}
	return json.Unmarshal(data, &change) == nil && len(change.Op) == 1 && strings.Contains("crudtm", change.Op) && change.Source != nil
}
