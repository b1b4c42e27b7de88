package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"eventstream/event"
	"eventstream/internal/jsontext"
)

type field struct {
	name  string
	value json.RawMessage
}

// Field is one member of a JSON object.
type Field struct {
	Name  string
	Value json.RawMessage
}

// Fields splits a JSON object into its members, in order, duplicates included, for bodies
// that have a Spec or an event as a member. The error wraps ErrSyntax.
func Fields(body []byte) ([]Field, error) {
	if !utf8.Valid(body) { // halves of surrogates may be in what is no Spec, such as events
		_, err := document(body)
		return nil, err
	}
	if err := shallow(body, event.MaxDepth+2); err != nil {
		return nil, err
	}
	fields, err := object(body)
	if err != nil {
		return nil, err
	}
	out := make([]Field, len(fields))
	for i, f := range fields {
		out[i] = Field{f.name, f.value}
	}
	return out, nil
}

// maxSpecDepth is how deeply the JSON of a Spec may nest. A valid Spec has five levels. The
// others leave room for better messages about a Spec that is not. More would cost time, as
// the content of an object is read again at each level.
const maxSpecDepth = 32

// document is object for a body from outside.
func document(body []byte) ([]field, error) {
	if at, flaw := jsontext.Flaw(body); flaw != "" {
		return nil, fmt.Errorf("%w at byte %d: %s", ErrSyntax, at+1, flaw)
	}
	if err := shallow(body, maxSpecDepth); err != nil {
		return nil, err
	}
	return object(body)
}

// shallow refuses what nests deeper than so many levels.
func shallow(body []byte, most int) error {
	if at := deeperAt(body, most); at >= 0 {
		return fmt.Errorf("%w at byte %d: nested deeper than %d levels", ErrSyntax, at+1, most)
	}
	return nil
}

// deeperAt returns where body goes below so many levels, or -1. It need not be JSON.
func deeperAt(body []byte, most int) int {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > most {
				return i
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return -1
}

// object splits a JSON object into its fields, in order, duplicates included.
func object(body []byte) ([]field, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	tok, err := dec.Token()
	if err != nil || tok != json.Delim('{') {
		return nil, malformed(body)
	}
	var fields []field
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, malformed(body)
		}
		f := field{name: key.(string)} // Token yields only strings as keys
		if err := dec.Decode(&f.value); err != nil {
			return nil, malformed(body)
		}
		fields = append(fields, f)
	}
	if _, err := dec.Token(); err != nil {
		return nil, malformed(body)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, malformed(body)
	}
	return fields, nil
}

// malformed returns the error for a body that is not a JSON object: what is wrong, and where.
func malformed(body []byte) error {
	err := json.Unmarshal(body, new(map[string]json.RawMessage))
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok && bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		return fmt.Errorf("%w at byte %d: %w", ErrSyntax, syntax.Offset, err)
	}
	return fmt.Errorf("%w: want a JSON object", ErrSyntax)
}
