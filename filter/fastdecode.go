package filter

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// DecodeStored decodes a stored Spec as Spec.UnmarshalJSON does, and several times as fast
// for the simple Specs that most are.
func DecodeStored(b []byte) (Spec, error) {
	var s Spec
	if d := (fastDecoder{b}); d.spec(&s) {
		return s, nil
	}
	var strict Spec // not s, which would go to the heap
	err := strict.UnmarshalJSON(b)
	return strict, err
}

// fastDecoder decodes the JSON of a simple Spec: lists, amounts and match_all, without
// escapes, exponents, nulls and empty lists. Any other JSON, right or wrong, is left to the
// strict decoder. What it decodes means the same to encoding/json: of two members with
// one name, the last is used.
type fastDecoder struct{ rest []byte }

// spec decodes a whole Spec, or returns false. Then s may hold parts of it.
func (d *fastDecoder) spec(s *Spec) bool {
	if !d.next('{') {
		return false
	}
	for {
		name, ok := d.text()
		if !ok || !d.next(':') || !d.field(name, s) {
			return false
		}
		if d.next('}') {
			d.space()
			return len(d.rest) == 0
		}
		if !d.next(',') {
			return false
		}
	}
}

func (d *fastDecoder) field(name []byte, s *Spec) (ok bool) {
	switch string(name) {
	case "subscriber_id":
		s.SubscriberID, ok = d.string()
	case "event_types":
		s.EventTypes, ok = d.list()
	case "user_tiers":
		s.UserTiers, ok = d.list()
	case "user_ids":
		s.UserIDs, ok = d.list()
	case "countries":
		s.Countries, ok = d.list()
	case "min_amount":
		s.MinAmount, ok = d.number()
	case "max_amount":
		s.MaxAmount, ok = d.number()
	case "match_all":
		d.space()
		d.rest, ok = bytes.CutPrefix(d.rest, []byte("true"))
		s.MatchAll = ok
	}
	return ok
}

// list reads a list of at least one string.
func (d *fastDecoder) list() ([]string, bool) {
	if !d.next('[') {
		return nil, false
	}
	var room [8]string // on the stack, and mostly enough
	list := room[:0]
	for {
		s, ok := d.string()
		if !ok {
			return nil, false
		}
		list = append(list, s)
		if d.next(']') {
			return append([]string(nil), list...), true
		}
		if !d.next(',') {
			return nil, false
		}
	}
}

func (d *fastDecoder) string() (string, bool) {
	b, ok := d.text()
	return string(b), ok
}

// text reads a string without escapes.
func (d *fastDecoder) text() ([]byte, bool) {
	if !d.next('"') {
		return nil, false
	}
	ascii := true
	for i, c := range d.rest {
		switch {
		case c == '"':
			text := d.rest[:i]
			d.rest = d.rest[i+1:]
			return text, ascii || utf8.Valid(text)
		case c == '\\' || c < ' ':
			return nil, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, false
}

// number reads a number without an exponent. It checks the form, as ParseFloat takes more than JSON.
func (d *fastDecoder) number() (*float64, bool) {
	d.space()
	n := 0
	for n < len(d.rest) && (d.rest[n] == '-' || d.rest[n] == '.' || '0' <= d.rest[n] && d.rest[n] <= '9') {
		n++
	}
	text := string(d.rest[:n])
	d.rest = d.rest[n:]
	whole, decimals, point := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	if whole == "" || len(whole) > 1 && whole[0] == '0' || point && decimals == "" {
		return nil, false
	}
	v, err := strconv.ParseFloat(text, 64)
	return &v, err == nil
}

// next skips space and reads c, if it comes next.
func (d *fastDecoder) next(c byte) bool {
	d.space()
	if len(d.rest) == 0 || d.rest[0] != c {
		return false
	}
	d.rest = d.rest[1:]
	return true
}

func (d *fastDecoder) space() {
	for len(d.rest) > 0 && (d.rest[0] == ' ' || d.rest[0] == '\t' || d.rest[0] == '\r' || d.rest[0] == '\n') {
		d.rest = d.rest[1:]
	}
}
