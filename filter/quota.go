package filter

import (
	"fmt"
	"strings"
)

// Use is what filters take up of what a subscriber may have.
type Use struct {
	Filters int64
	Values  int64 // values in lists and other operands, once for each alternative in which they are
	Tried   int64 // tests that no look-up answers, likewise: suffix, contains, ne, not_in, exists false
	Broad   int64 // filters that are tried on every event
	Bytes   int64 // of their JSON
}

// Quota bounds what the filters of one subscriber may take up together. What is
// zero has no bound.
type Quota Use

// Use returns what s, which must be valid and has so many bytes of JSON, takes up.
func (s *Spec) Use(bytes int) Use {
	u := Use{Filters: 1, Bytes: int64(bytes)}
	base := append(s.shortGivens(), s.Where.givens("")...)
	anys, exprs := givensOfAll(s.Any, anyField), givensOfAll(s.ExprAny, anyField)
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

// Alternatives returns how many conjunctions s comes to.
func (s *Spec) Alternatives() int { return max(1, len(s.Any)) * max(1, len(s.ExprAny)) }

// add adds operators that are in so many alternatives.
func (u *Use) add(gs []given, times int) {
	for _, g := range gs {
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

// Plus returns what both take up.
func (u Use) Plus(v Use) Use {
	return Use{u.Filters + v.Filters, u.Values + v.Values, u.Tried + v.Tried, u.Broad + v.Broad, u.Bytes + v.Bytes}
}

// Minus returns what u takes up without v.
func (u Use) Minus(v Use) Use {
	return Use{u.Filters - v.Filters, u.Values - v.Values, u.Tried - v.Tried, u.Broad - v.Broad, u.Bytes - v.Bytes}
}

// Check returns a *QuotaError if a subscriber whose filters take up used must not
// have more. A change that takes up no more than what it replaces is fine, also
// where a quota was lowered.
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

// QuotaError reports that a subscriber's filters would take up more than they may.
type QuotaError struct {
	Subscriber string
	Over       []string // of what, how much is allowed, and how much there is
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("quota of subscriber %s: %s", e.Subscriber, strings.Join(e.Over, "; "))
}
