// Package format reads the values of records that were written with a Schema Registry:
// Avro, Protobuf, and JSON with a JSON Schema. They become JSON, of which docs/formats.md
// says how each type looks.
//
// No value makes more JSON than an event may have, nor is it deeper. A value whose schema
// can't be had now is topic.ErrNotYet. All other errors say that it can never be read.
package format

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"eventstream/event"
	"eventstream/topic"
)

// Kind is how values are written.
type Kind string

// The kinds.
const (
	JSON       Kind = "json" // without a registry; it is no Format
	Avro       Kind = "avro"
	Protobuf   Kind = "protobuf"
	JSONSchema Kind = "json_schema"
)

// Kinds are all of these.
var Kinds = []Kind{JSON, Avro, Protobuf, JSONSchema}

// ParseKind returns the kind that is called so.
func ParseKind(name string) (Kind, error) {
	var all []string
	for _, k := range Kinds {
		if string(k) == name {
			return k, nil
		}
		all = append(all, string(k))
	}
	return "", fmt.Errorf("%.60q: allowed are %s", name, strings.Join(all, ", "))
}

// NeedsRegistry reports whether values can't be read without one.
func (k Kind) NeedsRegistry() bool { return k == Avro || k == Protobuf }

// Format is a topic.Format.
type Format struct {
	kind     Kind
	registry *Registry
}

// New returns the Format of a kind, by the schemas of a Registry; nil if the kind needs none.
func New(kind Kind, r *Registry) *Format { return &Format{kind, r} }

// Append appends the JSON of a value to dst.
func (f *Format) Append(ctx context.Context, dst, value []byte) ([]byte, error) {
	id, body, ok := topic.Frame(value)
	if !ok {
		return nil, f.unframed(value)
	}
	if f.kind == JSONSchema {
		if err := room(dst, len(body)); err != nil {
			return nil, err
		}
		return append(dst, body...), nil
	}
	if id > math.MaxInt32 {
		return nil, fmt.Errorf("schema id %d: the largest is %d", id, math.MaxInt32)
	}
	s, err := f.registry.find(ctx, f.kind, id)
	if err != nil {
		return nil, err
	}
	out, err := s.read(dst, body)
	if err != nil {
		return nil, fmt.Errorf("%s by schema id %d: %w", f.kind, id, err)
	}
	return out, nil
}

// unframed says what a value is instead.
func (f *Format) unframed(value []byte) error {
	what := "its first byte is not 0"
	switch {
	case len(value) == 0:
		what = "it is empty"
	case value[0] == 0:
		what = "it ends before the schema id"
	case value[0] == '{':
		what = "it looks like JSON"
	}
	return fmt.Errorf("no Schema Registry frame, which the source's format %s needs: %s", f.kind, what)
}

// schema reads values.
type schema interface {
	// read appends the JSON of a value, without its frame, to dst.
	read(dst, body []byte) ([]byte, error)
}

// What is wrong with values.
var (
	errShort = errors.New("the value ends too early")
	errLeft  = errors.New("bytes are left at the value's end")
)

// room tells if n bytes more are too many for JSON, before they are appended.
func room(out []byte, n int) error {
	if len(out)+n > event.MaxBytes {
		return full(len(out)+n, 0)
	}
	return nil
}

// full tells what is wrong with JSON of n bytes in which a value is depth deep.
func full(n, depth int) error {
	switch {
	case n > event.MaxBytes:
		return fmt.Errorf("as JSON it is %w", event.ErrTooLarge)
	case depth > event.MaxDepth:
		return event.ErrTooDeep
	}
	return nil
}
