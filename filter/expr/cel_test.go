package expr

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"pgregory.net/rapid"

	"eventstream/filter"
)

// TestAgreesWithCEL translates random expressions and compares what they match
// with what cel-go evaluates them to. The events have no arrays and nulls, where
// the two differ. There is also no user["at"]: cel-go takes it for the type that
// is the first to fit around it, and has no overload of timestamp for a string.
func TestAgreesWithCEL(t *testing.T) {
	var translated, refused, matched int
	rapid.Check(t, func(t *rapid.T) {
		src := genCondition(3, genAtom).Draw(t, "expr")
		program := compile(t, src)
		match, known := matcher(t, src)
		if !known {
			refused++
			return
		}
		translated++
		for range 20 {
			ev := genEvent.Draw(t, "event")
			got, want := match(ev), evaluate(program, ev)
			if got != want {
				event, _ := json.Marshal(ev)
				t.Fatalf("%s\nover %s\ngot  %t from %s\nwant %t", src, event, got, outcome(src), want)
			}
			if want {
				matched++
			}
		}
	})
	t.Logf("%d translated, %d refused; %d events matched", translated, refused, matched)
	if translated < refused || matched < translated {
		t.Errorf("%d translated, %d refused; %d events matched: too few to tell", translated, refused, matched)
	}
}

// matcher returns what src matches, or false if it can't be translated.
func matcher(t *rapid.T, src string) (match func(map[string]any) bool, ok bool) {
	alternatives, err := Translate(src)
	var syntax *filter.SyntaxError
	switch {
	case err == nil:
		return (&filter.Spec{Expr: src, ExprAny: alternatives}).Match, true
	case !errors.As(err, &syntax):
		t.Fatalf("%s: got the error %v, want a *filter.SyntaxError", src, err)
	case strings.HasPrefix(syntax.Msg, "it is true of every event"):
		return func(map[string]any) bool { return true }, true
	case strings.HasPrefix(syntax.Msg, "it is true of no event"):
		return func(map[string]any) bool { return false }, true
	}
	for _, allowed := range []string{"can't be negated", "together", "alternatives"} {
		if strings.Contains(syntax.Msg, allowed) {
			return nil, false
		}
	}
	t.Fatalf("%s: %v", src, err)
	return nil, false
}

func compile(t *rapid.T, src string) cel.Program {
	tree, issues := celEnv().Compile(src)
	if issues.Err() != nil {
		t.Fatalf("%s: %v", src, issues.Err())
	}
	program, err := celEnv().Program(tree)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

var celEnv = sync.OnceValue(func() *cel.Env {
	opts := []cel.EnvOption{cel.CrossTypeNumericComparisons(true), cel.Variable(whole, cel.MapType(cel.StringType, cel.DynType))}
	for _, name := range topLevel {
		opts = append(opts, cel.Variable(name, cel.DynType))
	}
	env, err := cel.NewEnv(opts...)
	if err != nil {
		panic(err) // one of the options is wrong
	}
	return env
})

// evaluate reports whether CEL finds the expression true; an error is not.
func evaluate(program cel.Program, ev map[string]any) bool {
	vars := map[string]any{"event": ev}
	for _, name := range topLevel {
		if v, ok := ev[name]; ok {
			vars[name] = v
		}
	}
	value, _, err := program.Eval(vars)
	return err == nil && value == types.True
}

var (
	topLevel = []string{"s", "n", "b", "at", "user"}
	attrs    = []string{"s", "n", "b", "at", "user.s", "user.n", "user.at", "user.home.s",
		"event.s", "event.n", `event["at"]`, `event["user"].n`, `event["o.d d"]`, "event.missing"}
	strs  = []string{"", "a", "ab", "ba", "b", `"é\`, "true", "1"}
	times = []string{"2026-01-01T00:00:00Z", "2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00.5Z", "2027-05-06T07:08:09Z"}
	nums  = []string{"0", "-0.0", "1", "-1", "1.5", "2u", "100", "1e3", "-(1)", "9007199254740992"}
	bools = []string{"true", "false"}
)

var genEvent = rapid.Custom(func(t *rapid.T) map[string]any {
	ev := map[string]any{}
	fill(t, ev, "s", "n", "b", "at", "o.d d")
	if rapid.IntRange(0, 3).Draw(t, "has user") > 0 {
		user := map[string]any{}
		fill(t, user, "s", "n", "at")
		if rapid.Bool().Draw(t, "has home") {
			home := map[string]any{}
			fill(t, home, "s")
			user["home"] = home
		} else {
			fill(t, user, "home")
		}
		ev["user"] = user
	} else {
		fill(t, ev, "user")
	}
	return ev
})

// fill gives some of the names a value each.
func fill(t *rapid.T, m map[string]any, names ...string) {
	for _, name := range names {
		switch rapid.IntRange(0, 5).Draw(t, name) {
		case 0, 1:
			m[name] = rapid.SampledFrom(strs).Draw(t, "string")
		case 2:
			m[name] = rapid.SampledFrom([]float64{0, 1, -1, 1.5, 2, 100, 1000, 9007199254740992}).Draw(t, "number")
		case 3:
			m[name] = rapid.Bool().Draw(t, "boolean")
		case 4:
			m[name] = rapid.SampledFrom(times).Draw(t, "time")
		}
	}
}

// genCondition generates conditions in CEL, made of atoms, that nest at most as
// deep.
func genCondition(depth int, atoms *rapid.Generator[string]) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		if depth == 0 || rapid.IntRange(0, 3).Draw(t, "leaf") == 0 {
			return atoms.Draw(t, "atom")
		}
		sub := genCondition(depth-1, atoms)
		switch a, b := sub.Draw(t, "a"), sub.Draw(t, "b"); rapid.IntRange(0, 4).Draw(t, "op") {
		case 0:
			return "!(" + a + ")"
		case 1, 2:
			return "(" + a + " && " + b + ")"
		default:
			return "(" + a + " || " + b + ")"
		}
	})
}

var genAtom = rapid.Custom(func(t *rapid.T) string {
	pick := func(label string, from []string) string { return rapid.SampledFrom(from).Draw(t, label) }
	attr := pick("attr", attrs)
	str := func() string { return literal(pick("string", strs)) }
	compared := func(a, b, op string) string {
		if rapid.Bool().Draw(t, "mirrored") {
			a, b = b, a
		}
		return a + " " + op + " " + b
	}
	scalar := func() string {
		return pick("scalar", append([]string{str(), literal(pick("time", times))}, append(nums, bools...)...))
	}
	equality := []string{"==", "!="}
	order := []string{"<", "<=", ">", ">=", "==", "!="}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0, 1:
		return compared(attr, scalar(), pick("op", equality))
	case 2, 3:
		return compared(attr, pick("number", nums), pick("op", order))
	case 4:
		return compared("timestamp("+attr+")", `timestamp("`+pick("time", times)+`")`, pick("op", order))
	case 5:
		var list []string
		for range rapid.IntRange(0, 4).Draw(t, "length") {
			list = append(list, scalar())
		}
		return attr + " in [" + strings.Join(list, ", ") + "]"
	case 6:
		return attr + "." + pick("function", []string{"startsWith", "endsWith", "contains"}) + "(" + literal(pick("part", strs[1:])) + ")"
	case 7:
		return "has(" + pick("has", []string{"event.s", "event.user", "user.s", "user.home", "user.home.s", "event.user.n", "event.missing", "user.s.x", "event.n.x"}) + ")"
	case 8:
		return pick("constant", []string{"true", "false", "1 < 2", `"a" == "b"`, "1 in [1.0, 2]", `"ab".startsWith("a")`, "-(1) >= 0"})
	}
	return attr
})

func literal(s string) string { return fmt.Sprintf("%q", s) }
