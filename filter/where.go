package filter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"eventstream/event"
)

// Where is a conjunction: for each attribute, named by its path, the Test that
// it must pass.
type Where map[string]Test

// Test is the conditions on one attribute: all that are present must hold.
// Gt, Gte, Lt, Lte and Between together are one interval, of numbers or of
// RFC 3339 timestamps.
type Test struct {
	Eq       *Scalar  `json:"eq,omitempty"`
	Ne       *Scalar  `json:"ne,omitempty"`
	In       []Scalar `json:"in,omitempty"`
	NotIn    []Scalar `json:"not_in,omitempty"`
	Gt       *Scalar  `json:"gt,omitempty"`
	Gte      *Scalar  `json:"gte,omitempty"`
	Lt       *Scalar  `json:"lt,omitempty"`
	Lte      *Scalar  `json:"lte,omitempty"`
	Between  []Scalar `json:"between,omitempty"` // two: from and to, both included
	Prefix   *string  `json:"prefix,omitempty"`
	Suffix   *string  `json:"suffix,omitempty"`
	Contains *string  `json:"contains,omitempty"`
	Exists   *bool    `json:"exists,omitempty"`
}

// Scalar is a string, a number or a boolean. The zero Scalar is none of them.
type Scalar struct {
	kind event.Kind // String, Number or Bool
	text string     // of a String
	num  float64    // of a Number; 0 or 1 for a Bool
}

// Text returns a Scalar that is a string.
func Text(s string) Scalar { return Scalar{kind: event.String, text: s} }

// Num returns a Scalar that is a number.
func Num(f float64) Scalar { return Scalar{kind: event.Number, num: f} }

// Flag returns a Scalar that is a boolean.
func Flag(b bool) Scalar {
	if b {
		return Scalar{kind: event.Bool, num: 1}
	}
	return Scalar{kind: event.Bool}
}

// MarshalJSON returns the Scalar's JSON.
func (s Scalar) MarshalJSON() ([]byte, error) {
	switch s.kind {
	case event.String:
		return json.Marshal(s.text)
	case event.Number:
		if a := math.Abs(s.num); 1<<53 <= a && a < 1e21 {
			return strconv.AppendFloat(nil, s.num, 'f', 0, 64), nil // all digits: ParseSpec takes integers for exact
		}
		return json.Marshal(s.num)
	case event.Bool:
		return strconv.AppendBool(nil, s.num == 1), nil
	}
	return nil, fmt.Errorf("filter: a Scalar that is nothing")
}

// UnmarshalJSON reads a string, a number that fits a 64-bit float, or a boolean.
func (s *Scalar) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	switch {
	case len(b) > 1 && b[0] == '"' && bytes.IndexFunc(b[1:len(b)-1], escaped) < 0 && b[len(b)-1] == '"':
		*s = Text(string(b[1 : len(b)-1])) // as most are, and encoding/json takes a while
		return nil
	case len(b) > 0 && b[0] == '"':
		*s = Scalar{kind: event.String}
		return json.Unmarshal(b, &s.text)
	case string(b) == "true", string(b) == "false":
		*s = Flag(b[0] == 't')
		return nil
	case len(b) > 0 && (b[0] == '-' || '0' <= b[0] && b[0] <= '9'):
		*s = Scalar{kind: event.Number}
		return json.Unmarshal(b, &s.num)
	}
	return fmt.Errorf("want a string, a number or a boolean, got %.60s", b)
}

// escaped reports whether r does not stand for itself in a string's JSON.
func escaped(r rune) bool { return r == '\\' || r == '"' || r < ' ' || r == utf8.RuneError }

// Kind returns String, Number or Bool, and Other for the zero Scalar.
func (s Scalar) Kind() event.Kind { return s.kind }

// Text returns the text of a string, "" of all others.
func (s Scalar) Text() string { return s.text }

// Key returns where s lies in the order of its kind, as an event.Value has it. Strings are
// ordered only as timestamps.
func (s Scalar) Key() uint64 {
	switch s.kind {
	case event.Number:
		return event.NumberKey(s.num)
	case event.String:
		k, _ := event.ParseTime([]byte(s.text)) // Validate has refused other strings
		return k
	}
	return uint64(s.num)
}

// A SyntaxError reports a part of an expression that can't be translated, and where it is.
type SyntaxError struct {
	Line, Column int // from 1
	Msg          string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Msg)
}
