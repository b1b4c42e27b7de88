package filter

import (
	"fmt"
	"strings"
)

// Use is how much of a subscriber's quotas filters use.
type Use struct {
	Filters int64
	Values  int64 // values in lists and other operands, once for each alternative in which they are
	Tried   int64 // tests that no look-up answers, likewise: suffix, contains, ne, not_in, exists false
	Broad   int64 // filters that are tried on every event
	Bytes   int64 // of their JSON
}

// Quota bounds the Use of all filters of one subscriber together. A field that is zero is no
// bound.
type Quota Use

// Use returns the Use of s, which must be valid and has so many bytes of JSON.
func (s *Spec) Use(bytes int) Use {
	u := Use{Filters: 1, Bytes: int64(bytes)}
	base := append(s.shortOperators(), s.Where.operators("")...)
	anys, exprs := operatorsOfEach(s.Any, anyField), operatorsOfEach(s.ExprAny, anyField)
	u.add(base, len(anys)*len(exprs))
	for _, a := range anys {
		u.add(a, len(exprs))
	}
	for _, e := range exprs {
		u.add(e, len(anys))
	}
	if s.MatchAll && broad(base, anys, exprs) { // it may be said where it is not needed
		u.Broad = 1
	}
	return u
}

// Alternatives returns how many conjunctions s is.
func (s *Spec) Alternatives() int { return max(1, len(s.Any)) * max(1, len(s.ExprAny)) }

// add adds operators that are in so many alternatives.
func (u *Use) add(ops []operator, times int) {
	for _, g := range ops {
		u.Values += int64(len(g.values) * times)
		switch g.op {
		case "suffix", "contains", "ne", "not_in":
			u.Tried += int64(times)
		case "exists":
			if g.values[0] == Flag(false) {
				u.Tried += int64(times)
			}
		}
	}
}

// Plus returns the sum of both.
func (u Use) Plus(v Use) Use {
	return Use{u.Filters + v.Filters, u.Values + v.Values, u.Tried + v.Tried, u.Broad + v.Broad, u.Bytes + v.Bytes}
}

// Minus returns u without v.
func (u Use) Minus(v Use) Use {
	return Use{u.Filters - v.Filters, u.Values - v.Values, u.Tried - v.Tried, u.Broad - v.Broad, u.Bytes - v.Bytes}
}

// Check returns a *QuotaError if a subscriber that uses used must not use more in addition.
// A change that uses no more than what it replaces is accepted, even above a lowered quota.
func (q Quota) Check(subscriber string, used, more Use) error {
	var over []string
	for _, b := range []struct {
		what             string
		used, more, most int64
	}{
		{"filters", used.Filters, more.Filters, q.Filters},
		{"values in all alternatives", used.Values, more.Values, q.Values},
		{"tests by suffix, contains, ne, not_in and exists false, in all alternatives", used.Tried, more.Tried, q.Tried},
		{"broad filters (match_all)", used.Broad, more.Broad, q.Broad},
		{"bytes of JSON", used.Bytes, more.Bytes, q.Bytes},
	} {
		if b.most > 0 && b.more > 0 && b.used+b.more > b.most {
			over = append(over, fmt.Sprintf("%s: at most %d are allowed, there are %d, and this is %d more", b.what, b.most, b.used, b.more))
		}
	}
	if over == nil {
		return nil
	}
	return &QuotaError{Subscriber: subscriber, Over: over}
}

// QuotaError reports that a change would exceed quotas of a subscriber.
type QuotaError struct {
	Subscriber string
	Over       []string // for each quota: its name, the limit, and the use
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("quota of subscriber %s: %s", e.Subscriber, strings.Join(e.Over, "; "))
}
