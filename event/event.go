// Package event holds the one thing that flows through the pipeline: an event,
// its coordinate in Kafka (ID), where it is to be delivered (Address), and the
// token from which a client resumes (Cursor).
//
// An event is a JSON object that is passed on byte for byte. Only the
// attributes that filters can name are decoded.
package event

import (
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

// Reasons why a record is no event.
var (
	ErrNotUTF8   = errors.New("not valid UTF-8")
	ErrNotJSON   = errors.New("not valid JSON")
	ErrNotObject = errors.New("not a JSON object")
	ErrNoType    = errors.New("event_type: a non-empty string is required")
)

// A Decoder decodes events one after another and reuses its memory. The zero
// value works. It is not safe for concurrent use.
type Decoder struct {
	parser fastjson.Parser
	ev     Event
}

// Decode checks that raw is a complete JSON object in UTF-8 with an event_type,
// and returns a view of it. As in encoding/json, the last of duplicate keys
// counts. An attribute of another type than filters expect counts as absent.
func (d *Decoder) Decode(raw []byte) (*Event, error) {
	// The bytes are later sent inside other JSON and in WebSocket text frames:
	// a record that is not strictly valid would break its neighbours.
	if !utf8.Valid(raw) {
		return nil, ErrNotUTF8
	}
	if !json.Valid(raw) {
		return nil, ErrNotJSON
	}
	v, err := d.parser.ParseBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotJSON, err)
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
		d.ev.Type = stringBytes(v)
	case "user_tier":
		d.ev.UserTier = stringBytes(v)
	case "amount":
		d.ev.Amount, d.ev.HasAmount = number(v)
	}
}

func stringBytes(v *fastjson.Value) []byte {
	b, err := v.StringBytes()
	if err != nil {
		return nil
	}
	return b
}

// number parses exactly: fastjson's own conversion is off by one unit in the
// last place for some values, which a filter's min_amount would notice.
func number(v *fastjson.Value) (float64, bool) {
	if v.Type() != fastjson.TypeNumber {
		return 0, false
	}
	var buf [32]byte
	f, err := strconv.ParseFloat(string(v.MarshalTo(buf[:0])), 64)
	if math.IsInf(f, 0) {
		return f, true // 1e999 is a number, larger than any limit
	}
	return f, err == nil
}
