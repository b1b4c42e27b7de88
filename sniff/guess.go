package sniff

import (
	"cmp"
	"slices"
	"strings"

	"eventstream/event"
	"eventstream/topic"
)

// Names that producers use, the most telling first: without case, and what is no letter.
var names = map[string][]string{
	"event_type": {
		"eventtype", "cetype", "type", "event", "eventname", "detailtype", "kind", "action", "topic", "xshopifytopic",
		"xgithubevent", "typeid", "messagetype", "operation", "op", "name", "category", "status",
	},
	"user_id": {
		"userid", "subscriberid", "customerid", "accountid", "memberid", "uid", "user", "customer", "subject", "sub", "username",
		"login", "distinctid", "anonymousid", "account",
	},
	"user_tier": {"usertier", "tier", "plan", "segment", "level"},
	"amount":    {"amount", "totalprice", "total", "totalamount", "price", "sum", "value", "revenue"},
	"timestamp": {
		"timestamp", "eventtime", "occurredat", "time", "createdat", "created", "ts", "tsms", "timestampms", "date", "sentat",
	},
}

// order is that of the guesses.
var order = []string{"event_type", "user_id", "user_tier", "amount", "timestamp"}

// guesses are the places that fit best. A name that the events have themselves needs none.
func (s *seen) guesses() (all []Guess) {
	for _, name := range order {
		own := s.places[name]
		if own != nil && 2*own.n >= s.records && s.fits(name, own) == event.AsIs && (name != "event_type" || own.texts != nil) {
			continue
		}
		if g, ok := s.best(name); ok {
			all = append(all, g)
		}
	}
	return all
}

func (s *seen) best(name string) (g Guess, ok bool) {
	type candidate struct {
		*place
		rank int
	}
	var list []candidate
	for _, p := range s.places {
		rank := slices.Index(names[name], bare(p.field))
		if rank < 0 || 2*p.n < s.records || !s.could(name, p) {
			continue
		}
		rank = 4*rank + strings.Count(p.field.Path, ".")
		if name == "event_type" && len(p.texts) == 1 {
			rank += 100 // it tells no events apart, as Segment's type, which is always track
		}
		list = append(list, candidate{p, rank})
	}
	if len(list) == 0 {
		return g, false
	}
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.n, a.n), cmp.Compare(a.field.String(), b.field.String()))
	})
	p := list[0].place
	return Guess{topic.Field{Name: name, Place: p.field, As: s.fits(name, p)}, p.n}, true
}

// could reports whether the values at a place can be what a name means.
func (s *seen) could(name string, p *place) bool {
	switch name {
	case "event_type":
		return p.texts != nil && p.numbers == 0 && p.times == 0
	case "amount":
		return 2*(p.numbers+p.numerals) >= p.n
	case "timestamp":
		return 2*p.times >= p.n || 2*(p.numbers+p.numerals) >= p.n && p.largest > 1e8
	}
	return true
}

// fits tells what the values at a place have to become for a name.
func (s *seen) fits(name string, p *place) event.As {
	switch name {
	case "user_id", "user_tier", "event_type":
		if p.numbers > 0 {
			return event.AsString
		}
	case "amount":
		if p.numerals > 0 {
			return event.AsNumber
		}
	case "timestamp":
		switch {
		case p.numbers == 0:
		case p.largest < 1e11: // the year 5138
			return event.AsUnix
		case p.largest < 1e14:
			return event.AsUnixMilli
		default:
			return event.AsUnixMicro
		}
	}
	return event.AsIs
}

// bare is the last name of a place as names has it. Of an "id" it is that of what it is in,
// too: customer.id is a customerid.
func bare(p topic.Place) string {
	text := p.Header
	if text == "" {
		parts := strings.Split(p.Path, ".")
		text = parts[len(parts)-1]
		if len(parts) > 1 && strings.EqualFold(text, "id") {
			text = parts[len(parts)-2] + text
		}
	}
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(text))
}
