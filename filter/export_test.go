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
	p := plain{b}
	return p.spec(new(Spec))
}

// Operators lists all operators of s.
func Operators(s *Spec) []given {
	gs := append(s.shortGivens(), s.Where.givens("/where")...)
	for _, w := range append(givensOfAll(s.Any, anyField), givensOfAll(s.ExprAny, func(int) string { return exprField })...) {
		gs = append(gs, w...)
	}
	return gs
}

func (g *given) Path() string { return g.path }
func (g *given) Op() string   { return g.op }

// Alone returns a Spec with no operator but g.
func (g *given) Alone() Spec { return Spec{Where: Where{g.path: g.test()}} }

// Failure is what Explain says if g is what ev does not pass.
func (g *given) Failure(ev map[string]any) Failure {
	return failure([]given{*g}, valuesAt(ev, g.path))
}
