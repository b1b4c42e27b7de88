// Package event holds the one thing that flows through the pipeline: an event,
// its coordinate in Kafka (ID), where it is to be delivered (Address), and the
// token from which a client resumes (Cursor).
//
// An event is a JSON object that is passed on byte for byte. Only the
// attributes that filters can name are decoded.
package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/valyala/fastjson"
)

// Event is a view of one event's JSON. Its byte slices belong to the Decoder
// that made it and are valid until that Decoder's next call.
type Event struct {
	Type      []byte  // event_type, never empty
	UserTier  []byte  // user_tier, nil if absent or not a string
	Amount    float64 // amount, if HasAmount
	HasAmount bool    // amount is present and a number
}

// MaxDepth bounds how deep an event may be nested; the event itself is one level
// and a value in it another.
const MaxDepth = fastjson.MaxDepth

// MaxBytes bounds an event's JSON. Kafka's own default limit is a quarter of it.
const MaxBytes = 4 << 20

// Reasons why a record is no event.
var (
	ErrTooLarge  = fmt.Errorf("larger than %d bytes", MaxBytes)
	ErrNotUTF8   = errors.New("not valid UTF-8")
	ErrNotJSON   = errors.New("not valid JSON")
	ErrTooDeep   = fmt.Errorf("JSON nested deeper than %d levels", MaxDepth)
	ErrNotObject = errors.New("not a JSON object")
	ErrNoType    = errors.New("event_type: a non-empty string is required")
)

// A Decoder decodes events one after another and reuses its memory. The zero
// value works. It is not safe for concurrent use.
type Decoder struct {
	parser fastjson.Parser
	ev     Event
	raw    []byte // scratch: one value as it is written
}

// Decode checks that raw is a complete JSON object in UTF-8 with an event_type,
// and returns a view of it. As in encoding/json, the last of duplicate keys
// counts. An attribute of another type than filters expect counts as absent.
func (d *Decoder) Decode(raw []byte) (*Event, error) {
	// The bytes are later sent inside other JSON and in WebSocket text frames:
	// a record that is not strictly valid would break its neighbours.
	if len(raw) > MaxBytes {
		return nil, ErrTooLarge
	}
	if !utf8.Valid(raw) {
		return nil, ErrNotUTF8
	}
	if !json.Valid(raw) {
		return nil, ErrNotJSON
	}
	v, err := d.parser.ParseBytes(raw)
	if err != nil {
		return nil, ErrTooDeep // json.Valid has refused all else
	}
	obj, err := v.Object()
	if err != nil {
		return nil, ErrNotObject
	}
	d.ev = Event{}
	obj.Visit(d.visit)
	if len(d.ev.Type) == 0 {
		return nil, ErrNoType
	}
	return &d.ev, nil
}

func (d *Decoder) visit(key []byte, v *fastjson.Value) {
	switch string(key) {
	case "event_type":
		d.ev.Type = d.text(v)
	case "user_tier":
		d.ev.UserTier = d.text(v)
	case "amount":
		d.ev.Amount, d.ev.HasAmount = d.number(v)
	}
}

// text returns a string's value, nil if v is none. fastjson unescapes lone
// surrogates differently from encoding/json, so that a filter would not match
// what its author sees in the decoded event: strings with \u take the slow way.
func (d *Decoder) text(v *fastjson.Value) []byte {
	// First, because to ask for the type unescapes in place.
	d.raw = v.MarshalTo(d.raw[:0])
	if v.Type() != fastjson.TypeString {
		return nil
	}
	if bytes.Contains(d.raw, []byte(`\u`)) {
		var s string
		_ = json.Unmarshal(d.raw, &s) // it has been validated
		return []byte(s)
	}
	b, _ := v.StringBytes() // its type has been checked
	return b
}

// number parses exactly: fastjson's own conversion is off by one unit in the
// last place for some values, which a filter's min_amount would notice.
func (d *Decoder) number(v *fastjson.Value) (float64, bool) {
	if v.Type() != fastjson.TypeNumber {
		return 0, false
	}
	d.raw = v.MarshalTo(d.raw[:0])
	f, err := strconv.ParseFloat(string(d.raw), 64)
	if math.IsInf(f, 0) {
		return f, true // 1e999 is a number, larger than any limit
	}
	return f, err == nil
}
