package filter

// What the tests in package filter_test need of this package's insides. They are in a
// package of their own because filtertest, which makes their random filters, imports this one.
const (
	FieldNames    = fieldNames
	OperatorNames = operatorNames
	WhereExample  = whereExample
	TooBroad      = tooBroad
)

// DecodesFast reports whether DecodeStored decodes b without the strict decoder.
func DecodesFast(b []byte) bool {
	d := fastDecoder{b}
	return d.spec(new(Spec))
}

// Operators lists all operators of s.
func Operators(s *Spec) []operator {
	ops := append(s.shortOperators(), s.Where.operators("/where")...)
	for _, w := range append(operatorsOfEach(s.Any, anyField), operatorsOfEach(s.ExprAny, func(int) string { return exprField })...) {
		ops = append(ops, w...)
	}
	return ops
}

func (g *operator) Path() string { return g.path }
func (g *operator) Op() string   { return g.op }

// Alone returns a Spec with no operator but g.
func (g *operator) Alone() Spec { return Spec{Where: Where{g.path: g.test()}} }

// Failure is what Explain says if g is what ev does not pass.
func (g *operator) Failure(ev map[string]any) Failure {
	return failure([]operator{*g}, valuesAt(ev, g.path))
}
