package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// ErrSyntax reports that a body is not one JSON object.
var ErrSyntax = errors.New("malformed JSON")

// ParseSpec decodes and validates the JSON form of a Spec. Unknown fields and
// operators, values of the wrong type, duplicate keys and integers that a 64-bit
// float can't hold are refused. The error wraps ErrSyntax, or is an *Invalid that
// lists the problems found.
//
// translate turns expr into alternatives. If it is nil, expr is refused.
func ParseSpec(body []byte, translate func(expr string) ([]Where, error)) (Spec, error) {
	return parseSpec(body, parser{translate: translate})
}

// ParseStored is ParseSpec for the JSON form of a Filter. The fields that a Filter has
// beyond a Spec are ignored.
func ParseStored(body []byte, translate func(expr string) ([]Where, error)) (Spec, error) {
	return parseSpec(body, parser{translate: translate, stored: true})
}

func parseSpec(body []byte, p parser) (Spec, error) {
	fields, err := document(body)
	if err != nil {
		return Spec{}, err
	}
	s := p.spec(fields)
	if len(p.bad.Problems) > 0 {
		p.rest(&s)
		return Spec{}, &p.bad
	}
	if err := s.Validate(); err != nil {
		return Spec{}, err
	}
	return s, nil
}

// parser reads the parts of a Spec and goes on after problems.
type parser struct {
	bad       Invalid
	translate func(expr string) ([]Where, error)
	stored    bool // the fields of a Filter are ignored
}

// spec reads what it can. Values that it can't read are left out, and in lists left empty,
// so that the others keep their index.
func (p *parser) spec(fields []field) Spec {
	var s Spec
	for _, f := range p.unique("", fields) {
		at := "/" + pointer(f.name)
		switch f.name {
		case "subscriber_id":
			p.decode(at, f.value, &s.SubscriberID, "a string")
		case "event_types":
			s.EventTypes = p.strings(at, f.value)
		case "user_tiers":
			s.UserTiers = p.strings(at, f.value)
		case "user_ids":
			s.UserIDs = p.strings(at, f.value)
		case "countries":
			s.Countries = p.strings(at, f.value)
		case "min_amount":
			s.MinAmount = p.amount(at, f.value)
		case "max_amount":
			s.MaxAmount = p.amount(at, f.value)
		case "where":
			s.Where = p.where(at, f.value)
		case "any":
			s.Any = p.any(at, f.value)
		case "expr":
			s.Expr, s.ExprAny = p.expr(at, f.value)
		case "match_all":
			p.decode(at, f.value, &s.MatchAll, "true or false")
		case "expr_any":
			if !p.stored {
				p.bad.add(at, "is made from expr; leave it out")
			}
		default:
			if !p.stored || f.name != "id" && f.name != "revision" {
				p.unknownField(at, f)
			}
		}
	}
	return s
}

func (p *parser) unknownField(at string, f field) {
	if p.bad.full() {
		return
	}
	hint := didYouMean(f.name, fieldNames, fieldAliases)
	if f.value[0] == '{' && !strings.Contains(hint, "where") {
		hint = fmt.Sprintf(`; conditions on attributes belong in where: {"where":{%s:…}}`, quote(f.name))
	}
	p.bad.add(at, "unknown field; allowed are %s%s", fieldNames, hint)
}

// rest adds problems of the conditions that could be read. It skips fields that have a
// problem already, or one below them: there the problem is that they could not be read.
func (p *parser) rest(s *Spec) {
	var more Invalid
	s.checkSubscriber(&more)
	s.checkEach(&more)
	told := make(map[string]bool)
	for _, q := range p.bad.Problems {
		for at := q.Field; at != ""; at = at[:strings.LastIndexByte(at, '/')] {
			told[at] = true
		}
	}
	for _, q := range more.Problems {
		if !told[q.Field] {
			p.bad.add(q.Field, "%s", q.Detail)
		}
	}
}

func (p *parser) amount(at string, raw json.RawMessage) *float64 {
	var f float64
	// As a Spec is written when it is stored, which may be less than exact.
	if json.Unmarshal(raw, &f) == nil && string(raw) == written(f) {
		return &f
	}
	f, ok := p.number(at, raw)
	if !ok {
		return nil
	}
	return &f
}

// written returns f as encoding/json writes it: with the fewest digits that identify it.
func written(f float64) string {
	b, _ := json.Marshal(f) // what was read is finite
	return string(b)
}

func (p *parser) strings(at string, raw json.RawMessage) []string {
	elements, ok := p.list(at, raw, "a list of strings")
	if !ok {
		return nil
	}
	values := make([]string, len(elements))
	for i, e := range elements {
		p.decode(fmt.Sprintf("%s/%d", at, i), e, &values[i], "a string")
	}
	return values
}

func (p *parser) expr(at string, raw json.RawMessage) (string, []Where) {
	var expr string
	if !p.decode(at, raw, &expr, "a string") {
		return "", nil
	}
	switch {
	case expr == "":
		p.bad.add(at, "empty string; want an expression, or leave the field out")
	case p.translate == nil:
		p.bad.add(at, "expressions are not supported here")
	case len(expr) <= MaxExprBytes: // else Validate tells
		alternatives, err := p.translate(expr)
		if err != nil {
			p.bad.add(at, "%v", err)
		}
		return expr, alternatives
	}
	return expr, nil
}

const whereExample = `{"country":{"eq":"DE"}}`

func (p *parser) any(at string, raw json.RawMessage) []Where {
	elements, ok := p.list(at, raw, "a list of alternatives, such as ["+whereExample+`,{"amount":{"gte":100}}]`)
	if !ok {
		return nil
	}
	out := make([]Where, len(elements))
	for i, e := range elements {
		out[i] = p.where(fmt.Sprintf("%s/%d", at, i), e)
	}
	return out
}

func (p *parser) where(at string, raw json.RawMessage) Where {
	fields, ok := p.object(at, raw, "an object of attributes, such as "+whereExample)
	if !ok {
		return nil
	}
	w := make(Where, len(fields))
	for _, f := range fields {
		w[f.name] = p.test(at+"/"+pointer(f.name), f)
	}
	return w
}

// test reads the Test of the attribute f.name.
func (p *parser) test(at string, f field) Test {
	var t Test
	if f.value[0] != '{' {
		p.bad.add(at, "want an object of operators, got %s; %s", abbreviate(f.value), asOperator(f))
		return t
	}
	operators, _ := p.object(at, f.value, "an object of operators")
	for _, o := range operators {
		p.operator(at+"/"+pointer(o.name), f.name, o, &t)
	}
	return t
}

// asOperator says how to write what f has instead of an object of operators.
func asOperator(f field) string {
	if slices.Contains(strings.Split(fieldNames, ", "), f.name) {
		return fmt.Sprintf("the field %s of a filter stands beside where", f.name)
	}
	name, value := quote(f.name), string(f.value)
	if len(value) > 60 {
		value = "…"
	}
	switch f.value[0] {
	case '[':
		return fmt.Sprintf(`write {%s:{"in":%s}}`, name, value)
	case 'n':
		return fmt.Sprintf(`nothing equals null, and {%s:{"exists":false}} asks for events without the attribute`, name)
	}
	return fmt.Sprintf(`write {%s:{"eq":%s}}`, name, value)
}

func (p *parser) operator(at, path string, o field, t *Test) {
	switch o.name {
	case "eq":
		t.Eq = p.one(at, o.value)
	case "ne":
		t.Ne = p.one(at, o.value)
	case "in":
		t.In = p.scalars(at, o.value)
	case "not_in":
		t.NotIn = p.scalars(at, o.value)
	case "gt":
		t.Gt = p.end(at, o.value)
	case "gte":
		t.Gte = p.end(at, o.value)
	case "lt":
		t.Lt = p.end(at, o.value)
	case "lte":
		t.Lte = p.end(at, o.value)
	case "between":
		t.Between = p.ends(at, o.value)
	case "prefix":
		t.Prefix = p.text(at, o.value)
	case "suffix":
		t.Suffix = p.text(at, o.value)
	case "contains":
		t.Contains = p.text(at, o.value)
	case "exists":
		t.Exists = new(bool)
		p.decode(at, o.value, t.Exists, "true or false")
	default:
		if p.bad.full() {
			return
		}
		hint := didYouMean(o.name, operatorNames, operatorAliases)
		if hint == "" && o.value[0] == '{' {
			hint = fmt.Sprintf("; an attribute in another is written {%s:…}", quote(path+"."+pathEscaper.Replace(o.name)))
		}
		p.bad.add(at, "unknown operator; allowed are %s%s", operatorNames, hint)
	}
}

func (p *parser) one(at string, raw json.RawMessage) *Scalar {
	v, ok := p.scalar(at, raw)
	if !ok {
		return nil
	}
	return &v
}

// end reads an end of an interval. Validate checks that it has an order.
func (p *parser) end(at string, raw json.RawMessage) *Scalar {
	if raw[0] == '[' || raw[0] == '{' || raw[0] == 'n' {
		p.bad.add(at, "want %s, got %s", wantOrdered, abbreviate(raw))
		return nil
	}
	return p.one(at, raw)
}

func (p *parser) ends(at string, raw json.RawMessage) []Scalar {
	return p.values(at, raw, "a list of two values, from and to", p.end)
}

func (p *parser) scalars(at string, raw json.RawMessage) []Scalar {
	return p.values(at, raw, "a list", func(at string, raw json.RawMessage) *Scalar {
		if raw[0] == '[' {
			p.bad.add(at, "want %s, got %s; the values stand side by side in one list", wantScalar, abbreviate(raw))
			return nil
		}
		return p.one(at, raw)
	})
}

// values reads a list. Values that read can't read are left zero.
func (p *parser) values(at string, raw json.RawMessage, want string, read func(at string, raw json.RawMessage) *Scalar) []Scalar {
	elements, ok := p.list(at, raw, want)
	if !ok {
		return nil
	}
	values := make([]Scalar, len(elements))
	for i, e := range elements {
		if v := read(fmt.Sprintf("%s/%d", at, i), e); v != nil {
			values[i] = *v
		}
	}
	return values
}

const wantScalar = "a string, a number or a boolean"

func (p *parser) scalar(at string, raw json.RawMessage) (Scalar, bool) {
	hint := ""
	switch raw[0] {
	case '"':
		var text string
		ok := p.decode(at, raw, &text, wantScalar)
		return Text(text), ok
	case 't', 'f':
		return Flag(raw[0] == 't'), true
	case '[':
		hint = "; to allow one of several write in, to exclude them not_in"
	case 'n':
		hint = `; nothing equals null, and "exists":false asks for events without the attribute`
	case '{':
		hint = "; nothing equals an object, but its attributes have paths, such as user.id"
	default:
		f, ok := p.number(at, raw)
		return Num(f), ok
	}
	p.bad.add(at, "want %s, got %s%s", wantScalar, abbreviate(raw), hint)
	return Scalar{}, false
}

func (p *parser) text(at string, raw json.RawMessage) *string {
	var s string
	if !p.decode(at, raw, &s, "a string") {
		return nil
	}
	return &s
}

// number reads a number. An integer must be exact as a 64-bit float.
func (p *parser) number(at string, raw json.RawMessage) (float64, bool) {
	var f float64
	if !p.decode(at, raw, &f, "a number that fits a 64-bit float") {
		return 0, false
	}
	if bytes.ContainsAny(raw, ".eE") {
		return f, true
	}
	nearest, _ := big.NewFloat(f).Int(nil)
	if exact, ok := new(big.Int).SetString(string(raw), 10); ok && exact.Cmp(nearest) == 0 {
		return f, true
	}
	p.bad.add(at, "%s is no 64-bit float, the nearest is %s: write that one, or compare ids as strings",
		abbreviate(raw), abbreviate([]byte(nearest.String())))
	return 0, false
}

// decode reads a value that is not null into target.
func (p *parser) decode(at string, raw json.RawMessage, target any, want string) bool {
	if raw[0] == 'n' || json.Unmarshal(raw, target) != nil {
		p.bad.add(at, "want %s, got %s", want, abbreviate(raw))
		return false
	}
	return true
}

func (p *parser) list(at string, raw json.RawMessage, want string) ([]json.RawMessage, bool) {
	elements := []json.RawMessage{} // so that an empty list is not nil
	return elements, p.decode(at, raw, &elements, want)
}

// object reads an object and adds a problem for each key that is there twice.
func (p *parser) object(at string, raw json.RawMessage, want string) ([]field, bool) {
	fields, err := object(raw)
	if err != nil {
		p.bad.add(at, "want %s, got %s", want, abbreviate(raw))
		return nil, false
	}
	return p.unique(at, fields), true
}

// unique returns the first of each key's fields.
func (p *parser) unique(at string, fields []field) []field {
	seen := make(map[string]bool, len(fields))
	out := fields[:0]
	for _, f := range fields {
		if seen[f.name] {
			p.bad.add(at+"/"+pointer(f.name), "given twice")
			continue
		}
		seen[f.name] = true
		out = append(out, f)
	}
	return out
}

// quote writes a key as JSON for messages.
func quote(key string) string {
	b, _ := json.Marshal(cut(key, 60)) // a string can be encoded
	return string(b)
}
