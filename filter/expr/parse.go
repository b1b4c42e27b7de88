package expr

import (
	"fmt"
	"sync"

	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/containers"
	"github.com/google/cel-go/common/decls"
	"github.com/google/cel-go/common/stdlib"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/parser"

	"eventstream/filter"
)

// maxDepth is how deeply parentheses, selections and the like may nest.
const maxDepth = 32

// whole is the name of the map of all attributes.
const whole = "event"

// parse returns the tree of src, with only what survey lets pass, and a
// translator for it.
func parse(src string) (ast.Expr, translator, error) {
	if len(src) > filter.MaxExprBytes {
		return nil, translator{}, syntaxError(common.NoLocation, fmt.Sprintf("%d bytes long; at most %d are allowed", len(src), filter.MaxExprBytes))
	}
	if flaw := filter.TextFlaw(src); flaw != "" {
		return nil, translator{}, syntaxError(common.NoLocation, flaw)
	}
	tree, errs := newParser().Parse(common.NewTextSource(src))
	if list := errs.GetErrors(); len(list) > 0 {
		return nil, translator{}, syntaxError(list[0].Location, reword(list[0].Message))
	}
	t := translator{info: tree.SourceInfo()}
	names, err := t.survey(tree.Expr())
	if err != nil {
		return nil, translator{}, err
	}
	t.scope = scope(names)
	return tree.Expr(), t, nil
}

var newParser = sync.OnceValue(func() *parser.Parser {
	p, err := parser.NewParser(parser.Macros(parser.HasMacro), parser.MaxRecursionDepth(maxDepth), parser.ErrorReportingLimit(1))
	if err != nil {
		panic(err) // one of the options is wrong
	}
	return p
})

// functions is the scope with CEL's functions. It is built when first used, as
// most processes never translate.
var functions = sync.OnceValue(func() *checker.Env {
	env := newScope(checker.CrossTypeNumericComparisons(true))
	if err := env.AddFunctions(stdlib.Functions()...); err != nil {
		panic(err) // cel-go's own functions collide
	}
	if err := env.AddIdents(decls.NewVariable(whole, types.NewMapType(types.StringType, types.DynType))); err != nil {
		panic(err) // it is the first
	}
	return env
})

// scope returns a scope in which the names are attributes.
func scope(names []string) *checker.Env {
	env := newScope(checker.CrossTypeNumericComparisons(true), checker.ValidatedDeclarations(functions()))
	for _, name := range names {
		if err := env.AddIdents(decls.NewVariable(name, types.DynType)); err != nil {
			panic(err) // a name was given twice
		}
	}
	return env
}

// newScope returns a scope without any of CEL's names for types, so that type or
// list can be attributes.
func newScope(opts ...checker.Option) *checker.Env {
	env, err := checker.NewEnv(containers.DefaultContainer, noTypes{types.NewEmptyRegistry()}, opts...)
	if err != nil {
		panic(err) // one of the options is wrong
	}
	return env
}

// noTypes knows no types by name, not even those that cel-go always has, so that
// google.protobuf.Any is an attribute.
type noTypes struct{ types.Provider }

func (noTypes) FindStructType(string) (*types.Type, bool) { return nil, false }

// check has CEL check the types in e, which must be a condition. It is asked about
// one comparison at a time: the time it takes grows with the square of their
// number.
func (t translator) check(e ast.Expr) error {
	checked, errs := checker.Check(ast.NewAST(e, ast.NewSourceInfo(nil)), nil, t.scope)
	if list := errs.GetErrors(); len(list) > 0 {
		return syntaxError(t.info.GetStartLocation(list[0].ExprID), reword(list[0].Message))
	}
	if is := checked.GetType(e.ID()); is != types.BoolType && is != types.DynType {
		return t.errorf(e, "of type %s, which is no condition; compare it, as in amount >= 100", kindName(is.String()))
	}
	return nil
}
