package filter

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a Spec.
const (
	MaxValues          = 10_000 // values in one list, and in all lists of a Spec
	MaxValueBytes      = 256    // bytes in one string
	MaxSubscriberBytes = 128    // bytes in a subscriber's id
	MaxPathBytes       = 256    // bytes in the path of an attribute
	MaxPathNames       = 8      // names in it
	MaxExprBytes       = 4096   // bytes in Expr
	// MaxPredicates bounds the operators that must hold together: those of the
	// short fields, of Where and of one alternative. The operators of an interval
	// count as one.
	MaxPredicates = 16
	// MaxAlternatives bounds len(Any) times len(ExprAny), or the one that is given.
	MaxAlternatives = 16
)

// maxProblems bounds the problems reported for one Spec.
const maxProblems = 100

// Problem is one thing wrong with a Spec: which field, and what is allowed.
type Problem struct {
	Field  string `json:"field"` // JSON Pointer, such as /event_types/0
	Detail string `json:"detail"`
}

// Invalid is the error for an invalid Spec: its problems, at most a hundred.
type Invalid struct{ Problems []Problem }

func (e *Invalid) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteString("; ")
		}
		if p.Field != "" {
			b.WriteString(p.Field + ": ")
		}
		b.WriteString(p.Detail)
	}
	return b.String()
}

func (e *Invalid) add(field, format string, args ...any) {
	switch n := len(e.Problems); {
	case n < maxProblems:
		e.Problems = append(e.Problems, Problem{field, fmt.Sprintf(format, args...)})
	case n == maxProblems:
		e.Problems = append(e.Problems, Problem{"", fmt.Sprintf("there are more problems than these %d", maxProblems)})
	}
}

// full reports whether no more problems are added.
func (e *Invalid) full() bool { return len(e.Problems) > maxProblems }

// orNil keeps a nil *Invalid from becoming an error that is not nil.
func (e *Invalid) orNil() error {
	if len(e.Problems) == 0 {
		return nil
	}
	return e
}

// Validate checks s. Only how its numbers were written is left to ParseSpec, which sees the
// text. The error is nil or an *Invalid.
func (s *Spec) Validate() error {
	var bad Invalid
	s.checkSubscriber(&bad)
	before := len(bad.Problems)
	s.checkEach(&bad)
	if len(bad.Problems) == before {
		s.checkCombined(&bad)
	}
	return bad.orNil()
}

func (s *Spec) checkSubscriber(bad *Invalid) {
	if err := CheckSubscriberID(s.SubscriberID); err != nil {
		bad.add("/subscriber_id", "%v", err)
	}
}

// CheckSubscriberID returns what is wrong with a subscriber's id, or nil.
func CheckSubscriberID(id string) error {
	if id == "" {
		return errors.New("required")
	}
	if len(id) > MaxSubscriberBytes {
		return fmt.Errorf("%d bytes; at most %d are allowed", len(id), MaxSubscriberBytes)
	}
	if !utf8.ValidString(id) {
		return errors.New("not valid UTF-8")
	}
	for _, r := range id {
		if !unicode.IsGraphic(r) || unicode.IsSpace(r) {
			return fmt.Errorf("%q is not allowed; spaces, and control, format and private-use characters are not", r)
		}
	}
	return nil
}

// checkEach checks every condition alone.
func (s *Spec) checkEach(bad *Invalid) {
	for _, l := range s.ShortLists() {
		bad.shortList(l.Field, l.Values)
	}
	for _, a := range s.shortAmounts() {
		if a.value != nil && (math.IsNaN(*a.value) || math.IsInf(*a.value, 0)) {
			bad.add(a.at, "want a finite number")
		}
	}
	if s.Where != nil {
		bad.where(s.Where, "/where")
	}
	if s.Any != nil && len(s.Any) == 0 {
		bad.add("/any", "an empty list matches nothing; leave the field out if there are no alternatives")
	}
	for i, w := range s.Any {
		bad.where(w, fmt.Sprintf("/any/%d", i))
	}
	s.checkExpr(bad)
}

func (s *Spec) checkExpr(bad *Invalid) {
	switch {
	case s.Expr == "" && len(s.ExprAny) == 0:
		return
	case s.Expr == "":
		bad.add("/expr_any", "is made from expr, and there is none")
	case len(s.Expr) > MaxExprBytes:
		bad.add("/expr", "%d bytes; at most %d are allowed", len(s.Expr), MaxExprBytes)
	case TextFlaw(s.Expr) != "":
		bad.add("/expr", "%s", TextFlaw(s.Expr))
	case len(s.ExprAny) == 0:
		bad.add("/expr", "has not been translated into conditions, or can never hold")
	}
	for _, w := range s.ExprAny {
		bad.where(w, exprField)
	}
}

// ShortList is one of a Spec's lists of strings, which are short for conditions in Where.
type ShortList struct {
	Field  string // JSON Pointer, such as /event_types
	Path   string // of the attribute, such as event_type
	Values []string
}

// ShortLists returns all of them, also those that are empty.
func (s *Spec) ShortLists() []ShortList {
	return []ShortList{
		{"/event_types", "event_type", s.EventTypes}, {"/user_tiers", "user_tier", s.UserTiers},
		{"/user_ids", "user_id", s.UserIDs}, {"/countries", "country", s.Countries},
	}
}

// shortAmount is one of the bounds that are short for conditions in Where.
type shortAmount struct {
	at, op string
	value  *float64
}

func (s *Spec) shortAmounts() []shortAmount {
	return []shortAmount{{"/min_amount", "gte", s.MinAmount}, {"/max_amount", "lte", s.MaxAmount}}
}

func (e *Invalid) shortList(path string, values []string) {
	switch {
	case values == nil:
		return
	case len(values) == 0:
		e.add(path, "an empty list matches nothing; leave the field out to match any value")
	case len(values) > MaxValues:
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
		case !utf8.ValidString(v):
			e.add(at, "not valid UTF-8")
		case strings.ContainsFunc(v, unicode.IsControl):
			r, _ := utf8.DecodeRuneInString(v[strings.IndexFunc(v, unicode.IsControl):])
			e.add(at, "the control character %U is not allowed", r)
		case dup:
			e.add(at, "%s is %s/%d already; give each value once", quote(v), path, first)
			continue
		}
		seen[v] = i
	}
}

// where checks the conditions of w, each alone.
func (e *Invalid) where(w Where, at string) {
	if len(w) == 0 && at == exprField {
		e.add(at, "holds for every event, at least with one of its alternatives; ask for something in all of them")
	} else if len(w) == 0 {
		e.add(at, "{} has no condition; name an attribute, such as %s", whereExample)
	}
	for _, path := range slices.Sorted(maps.Keys(w)) {
		place, name := at+"/"+pointer(path), ""
		if at == exprField {
			place, name = at, cut(path, MaxPathBytes)+": "
		}
		if flaw := pathFlaw(path); flaw != "" {
			e.add(place, "%s%s", name, flaw)
			continue
		}
		test := w[path]
		ops := test.operators(at, path)
		if len(ops) == 0 {
			e.add(place, "%s{} has no condition; allowed are %s", name, operatorNames)
		}
		for _, g := range ops {
			g.check(e)
		}
	}
}

// pathFlaw says what is wrong with the path of an attribute, or "".
func pathFlaw(path string) string {
	names, ok := ParsePath(path)
	switch {
	case path == "":
		return "empty; want the name of an attribute"
	case len(path) > MaxPathBytes:
		return fmt.Sprintf("a path of %d bytes; at most %d are allowed", len(path), MaxPathBytes)
	case TextFlaw(path) != "":
		return TextFlaw(path)
	case !ok:
		return `not a path: want names joined by dots, such as user.address.city, and none of them empty; a dot or a backslash that belongs to a name is written \. or \\`
	case len(names) > MaxPathNames:
		return fmt.Sprintf("a path of %d names; at most %d are allowed", len(names), MaxPathNames)
	}
	return ""
}

// pointer escapes a key for use in a JSON Pointer (RFC 6901). It cuts keys that are longer
// than a path may be.
func pointer(key string) string {
	key = cut(key, MaxPathBytes)
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

// abbreviate cuts JSON to a length for messages.
func abbreviate(b []byte) string { return cut(string(b), 60) }

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}
