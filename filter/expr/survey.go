package expr

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
)

// survey returns the names that are attributes, each once, and refuses what is
// no part of the language, whatever it is applied to. It lets pass only lists of
// literals: on others CEL's check of types takes long.
func (t translator) survey(root ast.Expr) (names []string, err error) {
	refuse := func(e ast.Expr, why string) {
		if why != "" && err == nil {
			err = t.errorf(e, "%s", why)
		}
	}
	seen := map[string]bool{whole: true}
	lists := map[ast.Expr]bool{} // to the right of in; it is visited first
	visit := func(e ast.Expr) {
		refuse(e, foreign(e))
		switch e.Kind() {
		case ast.IdentKind:
			if name := identifier(e); !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		case ast.CallKind:
			if e.AsCall().FunctionName() == operators.In {
				lists[e.AsCall().Args()[1]] = true
			}
		case ast.ListKind:
			if !lists[e] {
				refuse(e, `a list can only be to the right of in, as in country in ["BR", "DE"]`)
			}
			for _, element := range e.AsList().Elements() {
				if !isLiteral(element) {
					refuse(element, "want a string, a number or a boolean in a list")
				}
			}
		}
	}
	ast.PreOrderVisit(root, ast.NewExprVisitor(visit))
	return names, err
}

// isLiteral reports whether e is a literal, or one with a minus.
func isLiteral(e ast.Expr) bool {
	if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Negate {
		e = e.AsCall().Args()[0]
	}
	return e.Kind() == ast.LiteralKind
}

// identifier returns the name of an IdentKind. CEL writes .a for an a that is
// not found in any namespace; we have none.
func identifier(e ast.Expr) string { return strings.TrimPrefix(e.AsIdent(), ".") }

// foreign says why e is no part of the language; "" if it is.
func foreign(e ast.Expr) string {
	switch e.Kind() {
	case ast.IdentKind, ast.SelectKind, ast.ListKind:
		return ""
	case ast.LiteralKind:
		switch e.AsLiteral().Type() {
		case types.NullType:
			return "null is equal to nothing here; has(a.b) tells whether an attribute is there"
		case types.BytesType:
			return "events hold no bytes; want a string, a number or a boolean"
		}
		return ""
	case ast.CallKind:
		return foreignCall(e.AsCall())
	}
	return "maps and messages can't be compared; compare their attributes, as in user.plan == \"gold\""
}

func foreignCall(call ast.CallExpr) string {
	switch function := call.FunctionName(); function {
	case operators.Equals, operators.NotEquals, operators.In, operators.Index, operators.Negate,
		operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals,
		operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot:
		return ""
	case "startsWith", "endsWith", "contains", "timestamp":
		if len(call.Args()) != 1 {
			return function + " takes one argument"
		}
		return ""
	case operators.Conditional:
		return "there is no ?:; write a && b || !a && c"
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
		return fmt.Sprintf("there is no arithmetic (%s); compare an attribute with a constant", strings.Trim(function, "_"))
	default:
		return fmt.Sprintf("there is no function %s; %s", clip(function, 40), cmp.Or(instead[function],
			"there are has, startsWith, endsWith, contains and timestamp"))
	}
}

// instead says what to write for a function of CEL that we do not have.
var instead = map[string]string{
	"exists":     `an array stands for its elements: "x" in tags, or items.sku == "x"`,
	"exists_one": `an array stands for its elements, any of which may match: "x" in tags`,
	"all":        `an array stands for its elements, any of which may match: "x" in tags`,
	"map":        `an array stands for its elements: items.sku == "x"`,
	"filter":     `an array stands for its elements: items.sku == "x"`,
	"matches":    "there are startsWith, endsWith and contains",
	"size":       "has(a.b) tells whether an attribute is there",
	"has":        "write has(a.b)",
	"duration":   "compare with a timestamp",
}
