package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUpToDate checks that the SVGs are those of the tables, and that there are no others.
func TestUpToDate(t *testing.T) {
	want, err := drawAll("../RESULTS.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, svg := range want {
		got, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, svg) {
			t.Errorf("%s is not what ../RESULTS.md says (%v): run `make plots`", name, err)
		}
	}
	files, err := filepath.Glob("*.svg")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if want[f] == nil {
			t.Errorf("%s is of no table in ../RESULTS.md: delete it", f)
		}
	}
	text, err := os.ReadFile("../RESULTS.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range want {
		if !bytes.Contains(text, []byte("(plots/"+name+")")) {
			t.Errorf("../RESULTS.md does not show plots/%s", name)
		}
	}
}

const sample = `
<!-- plot {"file":"a.svg","kind":"%s","title":"T","y":"ms","columns":["b"]} -->
| n | b | c |
|--:|--:|---|
| 1,000 | 7.5 · 49 ms | x |
| 2,000 | **8** | y |

text
`

func TestParse(t *testing.T) {
	specs, err := parse(fmt.Sprintf(sample, "lines"))
	if err != nil || len(specs) != 1 {
		t.Fatalf("%v, %v", specs, err)
	}
	s := specs[0]
	if got := fmt.Sprint(s.labels, s.values); got != "[1,000 2,000] [[7.5 8]]" {
		t.Errorf("got %s", got)
	}
}

// TestSVG checks that the same table gives the same picture, with its labels.
func TestSVG(t *testing.T) {
	for _, kind := range []string{"lines", "bars"} {
		specs, err := parse(fmt.Sprintf(sample, kind))
		if err != nil {
			t.Fatal(err)
		}
		var a, b bytes.Buffer
		if err := specs[0].svg(&a); err != nil {
			t.Fatal(err)
		}
		if err := specs[0].svg(&b); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("%s: not the same the second time, %v", kind, err)
		}
		if !strings.Contains(a.String(), ">T</text>") || kind == "bars" && !strings.Contains(a.String(), ">1,000</text>") {
			t.Errorf("%s: no title, or no label, in\n%s", kind, a.String())
		}
	}
}

func TestMistakes(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{strings.Replace(sample, `["b"]`, `["d"]`, 1), `no column "d": there are ["n" "b" "c"]`},
		{strings.Replace(sample, `["b"]`, `["c"]`, 1), `no number in "x"`},
		{strings.Replace(sample, `"y":`, `"z":`, 1), "unknown field"},
		{`<!-- plot {"file":"a.svg"} -->`, "no table"},
		{`<!-- plot {"file":"a.svg"} -->` + "\n# Next\n" + fmt.Sprintf(sample, "bars"), "no table"},
	} {
		if _, err := parse(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v; want %q", err, tt.want)
		}
	}
	for _, tt := range []struct{ spec, want string }{
		{`"file":"../a.svg","kind":"bars","columns":["b"]`, "want a name that ends in .svg"},
		{`"file":"a.svg","kind":"pie","columns":["b"]`, "want lines or bars"},
		{`"file":"a.svg","kind":"bars","logx":true,"columns":["b"]`, "no logarithmic axes"},
		{`"file":"a.svg","kind":"bars"`, "want 1 to"},
	} {
		file := filepath.Join(t.TempDir(), "R.md")
		text := "<!-- plot {" + tt.spec + "} -->\n| a | b |\n|---|---|\n| 1 | 2 |\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := drawAll(file); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("{%s}: %v; want %q", tt.spec, err, tt.want)
		}
	}
}
