package expr

import (
	"time"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"eventstream/event"
	"eventstream/filter"
)

// condition returns when e is true, or when it is false, as want says. The two
// are not each other's negation: an error is neither.
func (t translator) condition(e ast.Expr, want bool) (formula, error) {
	if e.Kind() == ast.CallKind {
		switch call := e.AsCall(); call.FunctionName() {
		case operators.LogicalNot:
			return t.condition(call.Args()[0], !want)
		case operators.LogicalAnd:
			return t.both(call.Args(), want, want)
		case operators.LogicalOr:
			return t.both(call.Args(), want, !want)
		}
	}
	if err := t.check(e); err != nil {
		return formula{}, err
	}
	return t.plain(e, want)
}

// both returns when the two sides of && or || are both as wanted, or either is.
func (t translator) both(sides []ast.Expr, want, every bool) (formula, error) {
	var parts []formula
	for _, side := range sides {
		f, err := t.condition(side, want)
		if err != nil {
			return formula{}, err
		}
		parts = append(parts, f)
	}
	if every {
		return join(all, parts...), nil
	}
	return join(some, parts...), nil
}

// plain translates a condition that is of no others.
func (t translator) plain(e ast.Expr, want bool) (formula, error) {
	if value, err := t.fold(e); err != nil {
		return formula{}, err
	} else if b, ok := value.(types.Bool); ok {
		return constant(bool(b) == want), nil
	}
	switch {
	case e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly():
		return t.presence(e, want)
	case e.Kind() == ast.CallKind && e.AsCall().FunctionName() != operators.Index:
		return t.call(e, want)
	}
	attr, err := t.attribute(e)
	return one(attr, equal(filter.Flag(want)), e), err
}

// constant returns the formula that always holds, or the one that never does.
func constant(holds bool) formula {
	if holds {
		return formula{kind: all}
	}
	return formula{kind: some}
}

// presence translates has(a.b). CEL has an error if there is no a.
func (t translator) presence(e ast.Expr, want bool) (formula, error) {
	in := e.AsSelect().Operand()
	path, err := t.step(in, e.AsSelect().FieldName())
	if err != nil {
		return formula{}, err
	}
	attr, err := t.name(e, path)
	if err != nil || want {
		return one(attr, ask{there: true}, e), err
	}
	missing := one(attr, ask{absent: true}, e)
	if len(path) == 1 {
		return missing, nil // the event itself is always there
	}
	return join(all, one(filter.FormatPath(path[:len(path)-1]), ask{}, in), missing), nil
}

func (t translator) call(e ast.Expr, want bool) (formula, error) {
	call := e.AsCall()
	args := call.Args()
	switch op := call.FunctionName(); op {
	case operators.In:
		return t.in(e, args[0], args[1], want)
	case "startsWith", "endsWith", "contains":
		return t.text(e, want)
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		if !want {
			op = negated[op]
		}
		return t.compare(op, args[0], args[1])
	}
	_, err := t.operand(e) // -x, which is none
	return formula{}, err
}

var negated = map[string]string{
	operators.Equals: operators.NotEquals, operators.NotEquals: operators.Equals,
	operators.Less: operators.GreaterEquals, operators.GreaterEquals: operators.Less,
	operators.Greater: operators.LessEquals, operators.LessEquals: operators.Greater,
}

var mirrored = map[string]string{
	operators.Equals: operators.Equals, operators.NotEquals: operators.NotEquals,
	operators.Less: operators.Greater, operators.Greater: operators.Less,
	operators.LessEquals: operators.GreaterEquals, operators.GreaterEquals: operators.LessEquals,
}

func (t translator) compare(op string, left, right ast.Expr) (formula, error) {
	a, err := t.operand(left)
	if err != nil {
		return formula{}, err
	}
	c, err := t.operand(right)
	if err != nil {
		return formula{}, err
	}
	if a.value != nil {
		a, c, op = c, a, mirrored[op]
	}
	if c.value == nil {
		return formula{}, t.errorf(c, "an attribute can be compared with constants only, and %s is one too", c.attr)
	}
	equality := op == operators.Equals || op == operators.NotEquals
	switch value := c.value.(type) {
	case types.Timestamp:
		key, err := t.timeKey(c, value)
		return spanning(a, op, true, key), err
	case types.Int, types.Uint, types.Double:
		if equality {
			break
		}
		f, err := t.number(c)
		return spanning(a, op, false, event.NumberKey(f)), err
	}
	if !equality {
		return formula{}, t.errorf(c, "a %s is not ordered here; want a number or a timestamp(\"…\")", kindName(c.value.Type().TypeName()))
	}
	s, err := t.scalar(c)
	if op == operators.NotEquals {
		return one(a.attr, ask{notIn: []filter.Scalar{s}}, left), err
	}
	return one(a.attr, equal(s), left), err
}

// timeKey returns the TimeKey of a constant, which must be in its range.
func (t translator) timeKey(c operand, at types.Timestamp) (uint64, error) {
	if at.Before(event.MinTime) || at.After(event.MaxTime) {
		return 0, t.errorf(c, "%s is too far away; want a time from %s", at.Format(time.RFC3339Nano), event.TimeRange)
	}
	return event.TimeKey(at.Time), nil
}

// spanning returns that a's value compares like op with what has the key.
func spanning(a operand, op string, times bool, key uint64) formula {
	within := func(lo, hi *bound) formula { return one(a.attr, ask{span: &span{times, lo, hi}}, a) }
	open, closed := &bound{key, true}, &bound{key, false}
	switch op {
	case operators.Less:
		return within(nil, open)
	case operators.LessEquals:
		return within(nil, closed)
	case operators.Greater:
		return within(open, nil)
	case operators.GreaterEquals:
		return within(closed, nil)
	case operators.Equals:
		return within(closed, closed)
	}
	return join(some, within(nil, open), within(open, nil))
}

// in translates both an attribute in a list and a constant in an attribute.
func (t translator) in(e, left, right ast.Expr, want bool) (formula, error) {
	var values []filter.Scalar
	elements, attr := []ast.Expr{left}, right
	if right.Kind() == ast.ListKind {
		elements, attr = right.AsList().Elements(), left
	}
	a, err := t.operand(attr)
	switch {
	case err != nil:
		return formula{}, err
	case a.value != nil || a.instant:
		return formula{}, t.errorf(attr, "want an attribute here, as in country in [\"BR\", \"DE\"]; timestamps are compared with == and <")
	}
	for _, element := range elements {
		s, err := t.element(element)
		if err != nil {
			return formula{}, err
		}
		values = append(values, s)
	}
	switch values = distinct(values); {
	case want && len(values) == 0:
		return constant(false), nil
	case want:
		return one(a.attr, ask{in: [][]filter.Scalar{values}}, e), nil
	}
	return one(a.attr, ask{notIn: values}, e), nil
}

func (t translator) element(e ast.Expr) (filter.Scalar, error) {
	value, err := t.fold(e)
	if err == nil && value == nil {
		err = t.errorf(e, "want a constant here: a string, a number or a boolean")
	}
	if err != nil {
		return filter.Scalar{}, err
	}
	return t.scalar(operand{Expr: e, value: value})
}

// text translates startsWith, endsWith and contains.
func (t translator) text(e ast.Expr, want bool) (formula, error) {
	call := e.AsCall()
	name := call.FunctionName()
	attr, err := t.attribute(call.Target())
	if err != nil {
		return formula{}, err
	}
	part := operand{Expr: call.Args()[0]}
	if part.value, err = t.fold(part.Expr); err != nil {
		return formula{}, err
	}
	s, ok := part.value.(types.String)
	switch {
	case !ok:
		return formula{}, t.errorf(part, "want a constant string in %s", name)
	case s == "":
		return formula{}, t.errorf(part, "empty string, which every string has")
	case !want:
		return formula{}, t.errorf(e, "%s can't be negated, as filters have no condition for that; write it without a !", name)
	}
	if _, err := t.scalar(part); err != nil {
		return formula{}, err
	}
	return one(attr, affix(name, string(s)), e), nil
}

func affix(function, s string) ask {
	switch function {
	case "startsWith":
		return ask{prefix: s}
	case "endsWith":
		return ask{suffix: s}
	}
	return ask{contains: s}
}
