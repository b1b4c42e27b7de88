package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a Spec.
const (
	MaxValues     = 100 // values in one list
	MaxValueBytes = 128 // bytes in one string
)

// Problem is one thing wrong with a Spec: which field, and what is allowed.
type Problem struct {
	Field  string `json:"field"` // JSON Pointer, such as /event_types/0
	Detail string `json:"detail"`
}

// Invalid reports all that is wrong with a Spec.
type Invalid struct{ Problems []Problem }

func (e *Invalid) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(p.Field + ": " + p.Detail)
	}
	return b.String()
}

// ErrSyntax reports that a body is not one JSON object.
var ErrSyntax = errors.New("malformed JSON")

// ParseSpec decodes and validates the JSON form of a Spec. Unknown fields,
// values of the wrong type and duplicate keys are refused. The error wraps
// ErrSyntax, or is an *Invalid that lists every problem found.
func ParseSpec(body []byte) (Spec, error) {
	if !utf8.Valid(body) {
		return Spec{}, fmt.Errorf("%w: not valid UTF-8", ErrSyntax)
	}
	fields, err := object(body)
	if err != nil {
		return Spec{}, err
	}
	var s Spec
	var bad Invalid
	targets := map[string]any{
		"subscriber_id": &s.SubscriberID, "event_types": &s.EventTypes, "user_tiers": &s.UserTiers,
		"min_amount": &s.MinAmount, "match_all": &s.MatchAll,
	}
	for _, f := range fields {
		target, known := targets[f.name]
		if !known {
			bad.add("/"+pointer(f.name), "unknown field; allowed are %s", fieldNames)
			continue
		}
		if target == nil {
			bad.add("/"+f.name, "given twice")
			continue
		}
		targets[f.name] = nil
		decodeField(f, target, &bad)
	}
	if len(bad.Problems) > 0 {
		return Spec{}, &bad
	}
	return s, s.Validate()
}

const fieldNames = "subscriber_id, event_types, user_tiers, min_amount, match_all"

// wants says what each field holds.
var wants = map[string]string{
	"subscriber_id": "a string", "event_types": "a list of strings", "user_tiers": "a list of strings",
	"min_amount": "a number that fits a 64-bit float", "match_all": "true or false",
}

type field struct {
	name  string
	value json.RawMessage
}

// object splits a JSON object into its fields, in order, duplicates included.
func object(body []byte) ([]field, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	tok, err := dec.Token()
	if err != nil || tok != json.Delim('{') {
		return nil, fmt.Errorf("%w: want a JSON object", ErrSyntax)
	}
	var fields []field
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, malformed(err)
		}
		f := field{name: key.(string)} // Token yields only strings as keys
		if err := dec.Decode(&f.value); err != nil {
			return nil, malformed(err)
		}
		fields = append(fields, f)
	}
	if _, err := dec.Token(); err != nil {
		return nil, malformed(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: more after the object", ErrSyntax)
	}
	return fields, nil
}

func malformed(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // the end is wrong wherever an object may not end
	}
	return fmt.Errorf("%w: %w", ErrSyntax, err)
}

func decodeField(f field, target any, bad *Invalid) {
	null := string(f.value) == "null" || bytes.HasPrefix(f.value, []byte("[")) && hasNull(f.value)
	if err := json.Unmarshal(f.value, target); err != nil || null {
		bad.add("/"+f.name, "want %s, got %s", wants[f.name], abbreviate(f.value))
		return
	}
	if list, ok := target.(*[]string); ok && len(*list) == 0 {
		bad.add("/"+f.name, "an empty list matches nothing; leave the field out to match any value")
	}
}

// hasNull reports whether a list holds a null, which encoding/json would turn
// into "" without a word.
func hasNull(list json.RawMessage) bool {
	var elems []json.RawMessage
	if json.Unmarshal(list, &elems) != nil {
		return false
	}
	for _, e := range elems {
		if string(e) == "null" {
			return true
		}
	}
	return false
}

// Validate checks s against the limits. The error is nil or an *Invalid.
func (s *Spec) Validate() error {
	var bad Invalid
	if err := CheckSubscriberID(s.SubscriberID); err != nil {
		bad.add("/subscriber_id", "%v", err)
	}
	bad.values("/event_types", s.EventTypes)
	bad.values("/user_tiers", s.UserTiers)
	if s.MinAmount != nil && (math.IsNaN(*s.MinAmount) || math.IsInf(*s.MinAmount, 0)) {
		bad.add("/min_amount", "want a finite number")
	}
	conditions := len(s.EventTypes) > 0 || len(s.UserTiers) > 0 || s.MinAmount != nil
	if !conditions && !s.MatchAll {
		bad.add("", "no condition: this filter would match every event; give event_types, user_tiers or min_amount, or confirm with \"match_all\": true")
	}
	if conditions && s.MatchAll {
		bad.add("/match_all", "contradicts the conditions; leave it out, or leave them out")
	}
	if len(bad.Problems) > 0 {
		return &bad
	}
	return nil
}

// CheckSubscriberID reports what is wrong with a subscriber's id, or nil.
func CheckSubscriberID(id string) error {
	if id == "" {
		return errors.New("required")
	}
	if len(id) > MaxValueBytes {
		return fmt.Errorf("%d bytes; at most %d are allowed", len(id), MaxValueBytes)
	}
	if !utf8.ValidString(id) {
		return errors.New("not valid UTF-8")
	}
	for _, r := range id {
		if !unicode.IsGraphic(r) || unicode.IsSpace(r) {
			return fmt.Errorf("%q is not allowed; spaces and control characters are not", r)
		}
	}
	return nil
}

func (e *Invalid) values(path string, values []string) {
	if len(values) > MaxValues {
		e.add(path, "%d values; at most %d are allowed", len(values), MaxValues)
		return
	}
	seen := make(map[string]int, len(values))
	for i, v := range values {
		at := fmt.Sprintf("%s/%d", path, i)
		switch first, dup := seen[v]; {
		case v == "":
			e.add(at, "empty string; want 1 to %d bytes", MaxValueBytes)
		case len(v) > MaxValueBytes:
			e.add(at, "%d bytes; at most %d are allowed", len(v), MaxValueBytes)
		case !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl):
			e.add(at, "control characters and invalid UTF-8 are not allowed")
		case dup:
			e.add(at, "same as %s/%d", path, first)
		}
		seen[v] = i
	}
}

func (e *Invalid) add(field, format string, args ...any) {
	e.Problems = append(e.Problems, Problem{field, fmt.Sprintf(format, args...)})
}

// pointer escapes a key for use in a JSON Pointer (RFC 6901), cut to a
// readable length.
func pointer(key string) string {
	key = strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
	return abbreviate([]byte(key))
}

func abbreviate(b []byte) string {
	const most = 60
	if len(b) <= most {
		return string(b)
	}
	cut := most
	for !utf8.RuneStart(b[cut]) {
		cut--
	}
	return string(b[:cut]) + "…"
}
