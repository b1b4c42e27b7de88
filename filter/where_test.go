package filter

import (
	"encoding/json"
	"math"
	"testing"
)

func TestScalarJSON(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Scalar
		json string // if not text
	}{
		{`"x"`, Text("x"), ``},
		{`""`, Text(""), ``},
		{`"\ud83d\ude00"`, Text("😀"), `"😀"`},
		{`"\ud800"`, Text("\ufffd"), `"�"`},
		{` "x" `, Text("x"), `"x"`},
		{`true`, Flag(true), ``},
		{`false`, Flag(false), ``},
		{`0`, Num(0), ``},
		{`-1.50`, Num(-1.5), `-1.5`},
		{`1e3`, Num(1000), `1000`},
		{`5e-324`, Num(5e-324), ``},
		{`9007199254740991`, Num(1<<53 - 1), ``},
		// All the digits of an integer, so that it can be read as an exact one.
		{`1152921504606847000`, Num(1 << 60), `1152921504606846976`},
		{`-12345678901234567890`, Num(-12345678901234567168), `-12345678901234567168`},
		{`1e21`, Num(1e21), `1e+21`},
		{`1.7976931348623157e308`, Num(math.MaxFloat64), `1.7976931348623157e+308`},
	} {
		got := Text("what was there before")
		if err := json.Unmarshal([]byte(tt.text), &got); err != nil || got != tt.want {
			t.Errorf("%s read as %+v, %v; want %+v", tt.text, got, err, tt.want)
		}
		want := tt.json
		if want == "" {
			want = tt.text
		}
		if b, err := json.Marshal(got); err != nil || string(b) != want {
			t.Errorf("%s written as %s, %v; want %s", tt.text, b, err, want)
		}
	}
}

func TestScalarIsNothingElse(t *testing.T) {
	for _, text := range []string{`{}`, `[1]`, `1e999`, `"`, `nul`, ``, `{"a":1}`} {
		var s Scalar
		if err := s.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s read as %+v, want an error", text, s)
		}
	}
	if b, err := json.Marshal(Scalar{}); err == nil {
		t.Errorf("the zero Scalar is written as %s, want an error", b)
	}
	if b, err := json.Marshal(Num(math.Inf(1))); err == nil {
		t.Errorf("infinity is written as %s, want an error", b)
	}
}

func TestSyntaxErrorTellsTheColumn(t *testing.T) {
	err := &SyntaxError{Line: 2, Column: 7, Msg: "unknown function f"}
	if got, want := err.Error(), "line 2, column 7: unknown function f"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
