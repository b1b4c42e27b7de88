// Package event holds the one thing that flows through the pipeline: an event,
// its coordinate in Kafka (ID), where it is to be delivered (Address), and the
// token from which a client resumes (Cursor).
//
// An event is a JSON object that is passed on byte for byte. Only the
// attributes that filters ask for are decoded.
package event

import (
	"bytes"
	"errors"
	"fmt"
)

// Event is a view of one event's JSON: the values of the attributes that were
// asked for. It belongs to the Decoder that made it and is valid until that
// Decoder's next call.
type Event struct {
	Type []byte // event_type, never empty

	attrs  []Attr  // those that have values
	first  []int32 // by Attr: the place of its first value in values plus 1
	values []Value
}

// Attrs returns the attributes that were asked for and that the event has, in
// no particular order and each once.
func (e *Event) Attrs() []Attr { return e.attrs }

// First returns the first value of a, nil if the event has none.
func (e *Event) First(a Attr) *Value {
	if int(a) >= len(e.first) || e.first[a] == 0 {
		return nil
	}
	return &e.values[e.first[a]-1]
}

// Next returns the value after v of the same attribute, nil if v is the last.
func (e *Event) Next(v *Value) *Value {
	if v.next == 0 {
		return nil
	}
	return &e.values[v.next-1]
}

// MaxDepth bounds how deep an event may be nested; the event itself is one level
// and a value in it another.
const MaxDepth = 300

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

// Frequent cases of ErrNotJSON and ErrNoType.
var (
	ErrRegistry   = fmt.Errorf("%w: it begins with a byte 0, as records of a Schema Registry do", ErrNotJSON)
	errMark       = fmt.Errorf("%w: it begins with a byte order mark; leave that out", ErrNotJSON)
	errCloudEvent = fmt.Errorf("%w; a CloudEvent needs its content-type header", ErrNoType)
)

func noType(raw []byte) error {
	if bytes.Contains(raw, []byte(`"specversion"`)) {
		return errCloudEvent
	}
	return ErrNoType
}
