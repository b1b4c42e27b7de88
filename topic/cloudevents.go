package topic

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrTombstone reports a record without a value. It marks the end of a key in a
// compacted topic, and is no event and no mistake.
var ErrTombstone = errors.New("no value (tombstone)")

// ErrCloudEvent is wrapped by all that is wrong with a CloudEvents envelope.
var ErrCloudEvent = errors.New("CloudEvent")

// IsMark reports a record that is none: Kafka's own note that a transaction was committed
// or aborted. It has an offset like any other.
func IsMark(r *kgo.Record) bool { return r.Attrs.IsControl() }

// Value returns the JSON of the event that a record carries. A plain record's
// value is returned as it is, unchecked. Of a CloudEvent, in structured or in
// binary mode, it is the data, in which event_id, event_type, timestamp and
// user_id are filled from id, type, time and subject where the data lacks them. Data that
// is no JSON object becomes the event's member data.
func Value(r *kgo.Record) ([]byte, error) {
	mode, contentType := modeOf(r)
	switch {
	case r.Value == nil && mode != inHeaders:
		return nil, ErrTombstone
	case mode == inEnvelope:
		return structured(r.Value, string(contentType))
	case mode == inHeaders:
		return binaryMode(r, string(contentType))
	}
	return r.Value, nil
}

// IsCloudEvent reports whether a record says that it is one.
func IsCloudEvent(r *kgo.Record) bool {
	m, _ := modeOf(r)
	return m != bare
}

// mode is where a record has the attributes of a CloudEvent.
type mode uint8

const (
	bare       mode = iota // it is none
	inEnvelope             // structured mode
	inHeaders              // binary mode
)

func modeOf(r *kgo.Record) (m mode, contentType []byte) {
	for _, h := range r.Headers {
		switch {
		case h.Key == "ce_specversion" || h.Key == "ce_type":
			m = inHeaders
		case strings.EqualFold(h.Key, "content-type"):
			contentType = h.Value
		}
	}
	if len(contentType) >= len(envelope) && bytes.EqualFold(contentType[:len(envelope)], envelope) {
		m = inEnvelope
	}
	return m, contentType
}

// cloudEventAttribute returns an attribute of a CloudEvent as text, nil if there is none.
func cloudEventAttribute(r *kgo.Record, name string) []byte {
	switch m, _ := modeOf(r); m {
	case inHeaders:
		return header(r, "ce_"+name)
	case inEnvelope:
		var members map[string]json.RawMessage
		if json.Unmarshal(r.Value, &members) != nil {
			return nil
		}
		var text string
		switch v := members[name]; {
		case v == nil || string(v) == "null":
			return nil
		case json.Unmarshal(v, &text) == nil:
			return []byte(text)
		default:
			return v
		}
	}
	return nil
}

// header returns the last header of a name, nil if there is none.
func header(r *kgo.Record, name string) []byte {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == name {
			return h.Value
		}
	}
	return nil
}

// envelope begins the content types of everything but binary mode.
var envelope = []byte("application/cloudevents")

// cloudEvent is what both modes come down to.
type cloudEvent struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Type        string          `json:"type"`
	Time        string          `json:"time"`
	Subject     string          `json:"subject"`
	ContentType string          `json:"datacontenttype"`
	Data        json.RawMessage `json:"data"`
	Base64      *string         `json:"data_base64"`
}

func structured(value []byte, contentType string) ([]byte, error) {
	if format, _, err := mime.ParseMediaType(contentType); err != nil || format != "application/cloudevents+json" {
		return nil, fmt.Errorf("%w: content-type %q: only application/cloudevents+json works", ErrCloudEvent, contentType)
	}
	var ce cloudEvent
	if err := json.Unmarshal(value, &ce); err != nil {
		return nil, fmt.Errorf("%w: envelope: %w", ErrCloudEvent, err)
	}
	if ce.Base64 != nil {
		if ce.Data != nil {
			return nil, fmt.Errorf("%w: both data and data_base64", ErrCloudEvent)
		}
		data, err := base64.StdEncoding.DecodeString(*ce.Base64)
		if err != nil {
			return nil, fmt.Errorf("%w: data_base64: %w", ErrCloudEvent, err)
		}
		ce.Data = data
	}
	return ce.event()
}

func binaryMode(r *kgo.Record, contentType string) ([]byte, error) {
	ce := cloudEvent{ContentType: contentType, Data: r.Value}
	for _, h := range r.Headers {
		switch h.Key {
		case "ce_specversion":
			ce.SpecVersion = string(h.Value)
		case "ce_id":
			ce.ID = string(h.Value)
		case "ce_type":
			ce.Type = string(h.Value)
		case "ce_time":
			ce.Time = string(h.Value)
		case "ce_subject":
			ce.Subject = string(h.Value)
		}
	}
	return ce.event()
}

// event returns the data, completed with attributes of the envelope.
func (ce *cloudEvent) event() ([]byte, error) {
	if ce.SpecVersion != "1.0" {
		return nil, fmt.Errorf("%w: specversion %q: only 1.0 works", ErrCloudEvent, ce.SpecVersion)
	}
	if ce.Type == "" {
		return nil, fmt.Errorf("%w: type is missing", ErrCloudEvent)
	}
	if !isJSON(ce.ContentType) {
		return nil, fmt.Errorf("%w: datacontenttype %q: only JSON works", ErrCloudEvent, ce.ContentType)
	}
	data := bytes.TrimSpace(ce.Data)
	if len(data) == 0 || string(data) == "null" {
		data = []byte("{}") // an event may be only its attributes
	}
	if data[0] != '{' {
		if !json.Valid(data) {
			return nil, fmt.Errorf("%w: data is not valid JSON", ErrCloudEvent)
		}
		data = slices.Concat([]byte(`{"data":`), data, []byte("}"))
	}
	var has map[string]json.RawMessage
	if err := json.Unmarshal(data, &has); err != nil {
		return nil, fmt.Errorf("%w: data is not valid JSON", ErrCloudEvent)
	}
	return complete(data, has, [][2]string{
		{"event_id", ce.ID}, {"event_type", ce.Type}, {"timestamp", ce.Time}, {"user_id", ce.Subject},
	})
}

// complete puts members that an object lacks before its others, which stay byte
// for byte as they are.
func complete(object []byte, has map[string]json.RawMessage, members [][2]string) ([]byte, error) {
	out := []byte{'{'}
	for _, m := range members {
		if _, ok := has[m[0]]; ok || m[1] == "" {
			continue
		}
		value, err := json.Marshal(m[1])
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrCloudEvent, m[0], err)
		}
		out = append(out, '"')
		out = append(out, m[0]...)
		out = append(out, '"', ':')
		out = append(out, value...)
		out = append(out, ',')
	}
	if len(out) == 1 {
		return object, nil
	}
	if len(has) == 0 {
		out[len(out)-1] = '}'
		return out, nil
	}
	return append(out, object[1:]...), nil
}

// isJSON reports whether a datacontenttype says JSON, which it does if absent.
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasSuffix(t, "/json") || strings.HasSuffix(t, "+json"))
}
