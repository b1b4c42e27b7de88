package filter

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// DecodeStored decodes a stored Spec as Spec.UnmarshalJSON does, and several times
// as fast if it is plain, as most are.
func DecodeStored(b []byte) (Spec, error) {
	var s Spec
	if p := (plain{b}); p.spec(&s) {
		return s, nil
	}
	var strict Spec // not s, which would go to the heap
	err := strict.UnmarshalJSON(b)
	return strict, err
}

// plain takes what it reads off the JSON of a plain Spec: one of lists, amounts and
// match_all, without escapes, exponents, nulls and empty lists. Other JSON, right or
// wrong, it leaves to the strict decoder, also what encoding/json would forgive. What
// it takes it understands as encoding/json does: of a name that comes twice, the
// last counts.
type plain struct{ rest []byte }

// spec reports whether all of p is a plain Spec. If not, s may hold some of it.
func (p *plain) spec(s *Spec) bool {
	if !p.next('{') {
		return false
	}
	for {
		name, ok := p.text()
		if !ok || !p.next(':') || !p.field(name, s) {
			return false
		}
		if p.next('}') {
			p.space()
			return len(p.rest) == 0
		}
		if !p.next(',') {
			return false
		}
	}
}

func (p *plain) field(name []byte, s *Spec) (ok bool) {
	switch string(name) {
	case "subscriber_id":
		s.SubscriberID, ok = p.string()
	case "event_types":
		s.EventTypes, ok = p.list()
	case "user_tiers":
		s.UserTiers, ok = p.list()
	case "user_ids":
		s.UserIDs, ok = p.list()
	case "countries":
		s.Countries, ok = p.list()
	case "min_amount":
		s.MinAmount, ok = p.number()
	case "max_amount":
		s.MaxAmount, ok = p.number()
	case "match_all":
		p.space()
		p.rest, ok = bytes.CutPrefix(p.rest, []byte("true"))
		s.MatchAll = ok
	}
	return ok
}

// list takes a list of one string or more.
func (p *plain) list() ([]string, bool) {
	if !p.next('[') {
		return nil, false
	}
	var room [8]string // mostly enough, and nothing for the heap
	list := room[:0]
	for {
		s, ok := p.string()
		if !ok {
			return nil, false
		}
		list = append(list, s)
		if p.next(']') {
			return append([]string(nil), list...), true
		}
		if !p.next(',') {
			return nil, false
		}
	}
}

func (p *plain) string() (string, bool) {
	b, ok := p.text()
	return string(b), ok
}

// text takes a string that means what it says.
func (p *plain) text() ([]byte, bool) {
	if !p.next('"') {
		return nil, false
	}
	ascii := true
	for i, c := range p.rest {
		switch {
		case c == '"':
			text := p.rest[:i]
			p.rest = p.rest[i+1:]
			return text, ascii || utf8.Valid(text)
		case c == '\\' || c < ' ':
			return nil, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, false
}

// number takes a number without an exponent. ParseFloat knows more forms than JSON.
func (p *plain) number() (*float64, bool) {
	p.space()
	n := 0
	for n < len(p.rest) && (p.rest[n] == '-' || p.rest[n] == '.' || '0' <= p.rest[n] && p.rest[n] <= '9') {
		n++
	}
	text := string(p.rest[:n])
	p.rest = p.rest[n:]
	whole, decimals, point := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	if whole == "" || len(whole) > 1 && whole[0] == '0' || point && decimals == "" {
		return nil, false
	}
	v, err := strconv.ParseFloat(text, 64)
	return &v, err == nil
}

// next takes c, and space before it, if that comes next.
func (p *plain) next(c byte) bool {
	p.space()
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *plain) space() {
	for len(p.rest) > 0 && (p.rest[0] == ' ' || p.rest[0] == '\t' || p.rest[0] == '\r' || p.rest[0] == '\n') {
		p.rest = p.rest[1:]
	}
}
