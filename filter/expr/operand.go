package expr

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"eventstream/event"
	"eventstream/filter"
)

// translator translates one expression.
type translator struct {
	info  *ast.SourceInfo // where its parts are
	scope *checker.Env    // its attributes
}

// errorf returns a SyntaxError at e.
func (t translator) errorf(e ast.Expr, format string, args ...any) error {
	return syntaxError(t.info.GetStartLocation(e.ID()), fmt.Sprintf(format, args...))
}

// operand is one side of a comparison: an attribute, or else a constant.
type operand struct {
	ast.Expr
	attr    string  // its path; "" for a constant
	instant bool    // the attribute is read as a timestamp
	value   ref.Val // of a constant
}

// operand returns what e is. Anything but an attribute or a constant is refused.
func (t translator) operand(e ast.Expr) (operand, error) {
	value, err := t.fold(e)
	if err != nil || value != nil {
		return operand{Expr: e, value: value}, err
	}
	inner, instant := e, false
	if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == "timestamp" {
		inner, instant = e.AsCall().Args()[0], true
	}
	attr, err := t.attribute(inner)
	return operand{Expr: e, attr: attr, instant: instant}, err
}

// attribute returns the path of an attribute.
func (t translator) attribute(e ast.Expr) (string, error) {
	path, err := t.path(e)
	if err != nil {
		return "", err
	}
	if len(path) == 0 {
		return "", t.errorf(e, "%s is the whole event; name an attribute, as in %[1]s.amount", whole)
	}
	return t.name(e, path)
}

// name returns a path as package filter writes it, if it takes it.
func (t translator) name(e ast.Expr, path event.Path) (string, error) {
	attr := filter.FormatPath(path)
	switch flaw := filter.TextFlaw(attr); {
	case len(path) > filter.MaxPathNames:
		return "", t.errorf(e, "a path of %d names; at most %d are allowed", len(path), filter.MaxPathNames)
	case len(attr) > filter.MaxPathBytes:
		return "", t.errorf(e, "a path of %d bytes; at most %d are allowed", len(attr), filter.MaxPathBytes)
	case flaw != "":
		return "", t.errorf(e, "%s", flaw)
	case slices.Contains(path, ""):
		return "", t.errorf(e, "an attribute with an empty name can't be named")
	}
	return attr, nil
}

// path returns the keys that lead to e from the top level of the event.
func (t translator) path(e ast.Expr) (event.Path, error) {
	switch {
	case e.Kind() == ast.IdentKind && identifier(e) == whole:
		return nil, nil
	case e.Kind() == ast.IdentKind:
		return event.Path{identifier(e)}, nil
	case e.Kind() == ast.SelectKind && !e.AsSelect().IsTestOnly():
		return t.step(e.AsSelect().Operand(), e.AsSelect().FieldName())
	case e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Index:
		args := e.AsCall().Args()
		name, ok := args[1].AsLiteral().(types.String)
		if args[1].Kind() != ast.LiteralKind || !ok {
			return nil, t.errorf(args[1], `want a constant string as the index, as in %s["odd name"]; an array stands for its elements`, whole)
		}
		return t.step(args[0], string(name))
	}
	if e.Kind() == ast.SelectKind {
		return nil, t.errorf(e, "has(…) is a condition by itself, and !has(…) another; neither is compared")
	}
	return nil, t.errorf(e, `want an attribute or a constant here, as in amount >= 100`)
}

// step returns the path to name in operand.
func (t translator) step(operand ast.Expr, name string) (event.Path, error) {
	path, err := t.path(operand)
	return append(path, name), err
}

// scalar returns a constant as an operand of package filter.
func (t translator) scalar(c operand) (filter.Scalar, error) {
	switch v := c.value.(type) {
	case types.String:
		return t.scalarText(c, string(v))
	case types.Bool:
		return filter.Flag(bool(v)), nil
	case types.Int, types.Uint, types.Double:
		f, err := t.number(c)
		return filter.Num(f), err
	}
	return filter.Scalar{}, t.errorf(c, "a %s can't be compared here; want a string, a number or a boolean", kindName(c.value.Type().TypeName()))
}

func (t translator) scalarText(c operand, s string) (filter.Scalar, error) {
	switch flaw := filter.TextFlaw(s); {
	case len(s) > filter.MaxValueBytes:
		return filter.Scalar{}, t.errorf(c, "a string of %d bytes; at most %d are allowed", len(s), filter.MaxValueBytes)
	case flaw != "":
		return filter.Scalar{}, t.errorf(c, "%s", flaw)
	}
	return filter.Text(s), nil
}

// number returns the float that is equal to a constant number.
func (t translator) number(c operand) (float64, error) {
	var f float64
	exact := true
	switch v := c.value.(type) {
	case types.Double:
		f = float64(v)
	case types.Int:
		f = float64(v)
		exact = f < 1<<63 && int64(f) == int64(v)
	case types.Uint:
		f = float64(v)
		exact = f < 1<<64 && uint64(f) == uint64(v)
	}
	switch {
	case math.IsInf(f, 0) || math.IsNaN(f):
		return 0, t.errorf(c, "not a number that fits 64-bit floats")
	case !exact:
		return 0, t.errorf(c, "%v is no 64-bit float; the nearest is %.0f", c.value, f)
	}
	return f + 0, nil // of the two zeros, the positive one
}

// fold returns the value of a constant expression, or nil if e is none.
func (t translator) fold(e ast.Expr) (ref.Val, error) {
	switch e.Kind() {
	case ast.LiteralKind:
		return e.AsLiteral(), nil
	case ast.ListKind:
		list, err := t.foldEach(e.AsList().Elements())
		if err != nil || list == nil && e.AsList().Size() > 0 {
			return nil, err
		}
		return types.NewRefValList(types.DefaultTypeAdapter, list), nil
	case ast.CallKind:
		call := e.AsCall()
		args := call.Args()
		if call.IsMemberFunction() {
			args = append([]ast.Expr{call.Target()}, args...)
		}
		values, err := t.foldEach(args)
		if err != nil || values == nil {
			return nil, err
		}
		v := apply(call.FunctionName(), values)
		if !types.IsError(v) {
			return v, nil
		}
		if text, ok := values[0].(types.String); ok && call.FunctionName() == "timestamp" {
			return nil, t.errorf(e, "want an RFC 3339 timestamp, such as timestamp(\"2026-01-02T03:04:05Z\"), got %s", clip(strconv.Quote(string(text)), 60))
		}
		return nil, t.errorf(e, "%s", reword(fmt.Sprint(v)))
	}
	return nil, nil
}

// foldEach returns the values of constant expressions, or nil if one is none.
func (t translator) foldEach(list []ast.Expr) ([]ref.Val, error) {
	var values []ref.Val
	for _, e := range list {
		v, err := t.fold(e)
		if err != nil || v == nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

// apply returns what CEL does: a value, or an error as a value. It returns nil
// for what is not applied to constants.
func apply(function string, args []ref.Val) ref.Val {
	switch function {
	case operators.Equals:
		return types.Equal(args[0], args[1])
	case operators.NotEquals:
		return types.Bool(types.Equal(args[0], args[1]) != types.True)
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		order := args[0].(traits.Comparer).Compare(args[1])
		if o, ok := order.(types.Int); ok {
			return types.Bool(ordered(function, int(o)))
		}
		return order
	case operators.In:
		return args[1].(traits.Container).Contains(args[0])
	case operators.LogicalNot, operators.Negate:
		return args[0].(traits.Negater).Negate()
	case operators.LogicalAnd:
		return types.Bool(args[0] == types.True && args[1] == types.True)
	case operators.LogicalOr:
		return types.Bool(args[0] == types.True || args[1] == types.True)
	case "timestamp":
		return args[0].ConvertToType(types.TimestampType)
	}
	return applyText(function, args)
}

func applyText(function string, args []ref.Val) ref.Val {
	s, ok := args[0].(types.String)
	if !ok || len(args) != 2 {
		return nil
	}
	sub := string(args[1].(types.String))
	switch function {
	case "startsWith":
		return types.Bool(strings.HasPrefix(string(s), sub))
	case "endsWith":
		return types.Bool(strings.HasSuffix(string(s), sub))
	case "contains":
		return types.Bool(strings.Contains(string(s), sub))
	}
	return nil
}

// ordered reports whether a comparison holds, if the sides compare like order
// and 0.
func ordered(op string, order int) bool {
	switch op {
	case operators.Less:
		return order < 0
	case operators.LessEquals:
		return order <= 0
	case operators.Greater:
		return order > 0
	}
	return order >= 0
}
