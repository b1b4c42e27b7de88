package expr

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"eventstream/filter"
)

// TestRefused has what can't be in the table: what is too large for it, or no
// text.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name, src string
		want      filter.SyntaxError // the beginning of its Msg
	}{
		{"empty", "", filter.SyntaxError{Line: 1, Column: 1, Msg: "unexpected end"}},
		{"bytes", strings.Repeat(" ", filter.MaxExprBytes) + "a", filter.SyntaxError{Line: 1, Column: 1, Msg: "4097 bytes long; at most 4096"}},
		{"UTF-8", "a == \"\xff\"", filter.SyntaxError{Line: 1, Column: 1, Msg: "not valid UTF-8"}},
		{"NUL", "a == \"\x00\"", filter.SyntaxError{Line: 1, Column: 1, Msg: "the character U+0000"}},
		{"escaped NUL", `a == "\x00"`, filter.SyntaxError{Line: 1, Column: 6, Msg: "the character U+0000"}},
		{"NUL in a name", `event["\x00"]`, filter.SyntaxError{Line: 1, Column: 6, Msg: "the character U+0000"}},
		{"parentheses", nested("(", 40, "a", ")"), filter.SyntaxError{Line: 1, Column: 1, Msg: "nested too deeply; at most 32"}},
		{"not", nested("!(", 40, "a", ")"), filter.SyntaxError{Line: 1, Column: 1, Msg: "nested too deeply; at most 32"}},
		{"lists", nested("[", 1000, "a", "]"), filter.SyntaxError{Line: 1, Column: 1, Msg: "nested too deeply; at most 32"}},
		{"calls", nested("f(", 1000, "a", ")"), filter.SyntaxError{Line: 1, Column: 1, Msg: "nested too deeply; at most 32"}},
		{"path", "a" + strings.Repeat(".a", 1000), filter.SyntaxError{Line: 1, Column: 1, Msg: "nested too deeply; at most 32"}},
		{"path's bytes", `event["` + strings.Repeat("a", 257) + `"]`, filter.SyntaxError{Line: 1, Column: 6, Msg: "a path of 257 bytes; at most 256"}},
		{"string", `a == "` + strings.Repeat("é", 129) + `"`, filter.SyntaxError{Line: 1, Column: 6, Msg: "a string of 258 bytes; at most 256"}},
		{"product", product(40), filter.SyntaxError{Line: 1, Column: 318, Msg: "the ||s give more than 256 alternatives"}},
		{"characters", "name == \"é😀\"\n&& ünicode", filter.SyntaxError{Line: 2, Column: 4, Msg: "unexpected 'ü'"}},
	} {
		_, err := Translate(tt.src)
		var got *filter.SyntaxError
		if !errors.As(err, &got) || got.Line != tt.want.Line || got.Column != tt.want.Column || !strings.HasPrefix(got.Msg, tt.want.Msg) {
			t.Errorf("%s: got %v, want %v", tt.name, err, &tt.want)
		}
	}
}

func nested(open string, n int, inner, closing string) string {
	return strings.Repeat(open, n) + inner + strings.Repeat(closing, n)
}

// product returns n pairs of alternatives, to be multiplied out.
func product(n int) string {
	var pairs []string
	for i := range n {
		a := string(rune('a'+i%26)) + string(rune('a'+i/26))
		pairs = append(pairs, "("+a+"x || "+a+"y)")
	}
	return strings.Join(pairs, " && ")
}

// As much as fits is translated, and in time.
func TestLarge(t *testing.T) {
	equal := strings.Repeat(`type == "a" || `, 270) + `type == "b"`
	got, err := Translate(equal)
	if err != nil || len(got) != 1 || len(got[0]["type"].In) != 2 {
		t.Errorf("many == in a row: got %v, %v, want one list of two", got, err)
	}
}

// What is translated takes arrays and null as package filter does, as a whole as
// in its parts. Intervals are not in it: those of one attribute become one, in
// which a single value of an array must lie.
func TestArrays(t *testing.T) {
	atoms := rapid.SampledFrom([]string{
		`a == "x"`, `a != "x"`, `a == "y"`, `a in ["x", "y"]`, `!(a in ["x", "z"])`, `"x" in a`, `"z" in b`, `b == 1`, `b != 1`, `b in [1, "x"]`,
		`has(event.a)`, `!has(event.a)`, `a.startsWith("x")`, `a.startsWith("xy")`, `b.contains("x")`, `a`, `b == true`, `true`, `1 > 2`,
	})
	values := rapid.SliceOfN(rapid.SampledFrom([]any{"x", "y", "z", "xy", 1.0, true, nil, map[string]any{}}), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		src := genCondition(3, atoms).Draw(t, "expr")
		match, known := matcher(t, src)
		if !known {
			return
		}
		root, tr, err := parse(src)
		if err != nil {
			t.Fatal(err)
		}
		f, err := tr.condition(root, true)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			ev := map[string]any{}
			for _, name := range []string{"a", "b"} {
				if rapid.IntRange(0, 4).Draw(t, "has") > 0 {
					ev[name] = any(values.Draw(t, name))
				}
			}
			if got, want := match(ev), f.holds(ev); got != want {
				t.Fatalf("%s over %v: got %t from %s, want %t", src, ev, got, outcome(src), want)
			}
		}
	})
}

// holds is what f says, part by part.
func (f formula) holds(ev map[string]any) bool {
	if f.kind == single {
		return (&filter.Spec{Where: filter.Where{f.test.attr: f.test.ask.test()}}).Match(ev)
	}
	for _, p := range f.parts {
		if p.holds(ev) != (f.kind == all) {
			return f.kind == some
		}
	}
	return f.kind == all
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if _, err := Translate(`type == "a" && event.b > 5`); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzTranslate translates any text: quickly, to something valid or to a
// SyntaxError that is in the text.
func FuzzTranslate(f *testing.F) {
	raw, err := os.ReadFile(table)
	if err != nil {
		f.Fatal(err)
	}
	for block := range strings.SplitSeq(string(raw), "\n\n") {
		src, _ := split(block)
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		start := time.Now()
		alternatives, err := Translate(src)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if err != nil {
			checkError(t, src, err)
			return
		}
		spec := filter.Spec{SubscriberID: "s", Expr: src, ExprAny: alternatives}
		var invalid *filter.Invalid
		if errors.As(spec.Validate(), &invalid) {
			for _, p := range invalid.Problems {
				if !strings.Contains(p.Detail, "match_all") { // which would confirm that it is broad
					t.Errorf("got %s, which is not valid: %s", outcome(src), p.Detail)
				}
			}
		}
	})
}

func checkError(t *testing.T, src string, err error) {
	var syntax *filter.SyntaxError
	if !errors.As(err, &syntax) {
		t.Fatalf("got %v, want a *filter.SyntaxError", err)
	}
	lines := strings.Split(src, "\n")
	if syntax.Line < 1 || syntax.Line > len(lines) || syntax.Column < 1 || syntax.Column > len([]rune(lines[syntax.Line-1]))+1 {
		t.Errorf("got %v, which is not in the text", err)
	}
	if syntax.Msg == "" || len(syntax.Msg) > 400 || strings.ContainsAny(syntax.Msg, "\n\r") {
		t.Errorf("got the message %q, want a short line", syntax.Msg)
	}
}

func BenchmarkTranslate(b *testing.B) {
	for _, bb := range []struct{ name, src string }{
		{"expr=short", `event_type == "purchase" && amount >= 100`},
		{"expr=usual", `event_type in ["purchase", "refund"] && (amount >= 100 || user.tier == "gold") && !(country == "BR")`},
		{"expr=alternatives16", "(a || b) && (c || d) && (e || f) && (g || h)"},
		{"expr=4KiB", strings.Repeat(`type == "a" || `, 270) + `type == "b"`},
		{"expr=refused", product(40)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Translate(bb.src)
			}
		})
	}
}
