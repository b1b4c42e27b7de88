package filter

import (
	"slices"
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []string // nil if it is no path
	}{
		{`a`, []string{"a"}},
		{`user.address.city`, []string{"user", "address", "city"}},
		{`a\.b.c`, []string{"a.b", "c"}},
		{`a\\.b`, []string{`a\`, "b"}},
		{`\\\.`, []string{`\.`}},
		{` .é`, []string{" ", "é"}},
		{``, nil},
		{`.`, nil},
		{`.a`, nil},
		{`a.`, nil},
		{`a..b`, nil},
		{`\`, nil},
		{`a\`, nil},
		{`a\b`, nil},
		{`a.\`, nil},
	} {
		got, ok := ParsePath(tt.text)
		if ok != (tt.want != nil) || !slices.Equal(got, tt.want) {
			t.Errorf("ParsePath(%s) = %q, %t; want %q, %t", tt.text, got, ok, tt.want, tt.want != nil)
		}
	}
}

// FuzzPath: a path has one way to be written.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{`a`, `a.b`, `a\.b`, `a\\.b`, `a\b`, ``, `..`, "\xff."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path, ok := ParsePath(text)
		if !ok {
			return
		}
		if len(path) == 0 || slices.Contains(path, "") {
			t.Errorf("ParsePath(%q) = %q with an empty name", text, path)
		}
		if got := FormatPath(path); got != text {
			t.Errorf("FormatPath(ParsePath(%q)) = %q", text, got)
		}
		names := strings.Split(text, "a")
		if slices.Contains(names, "") {
			return
		}
		if got, ok := ParsePath(FormatPath(names)); !ok || !slices.Equal(got, names) {
			t.Errorf("ParsePath(FormatPath(%q)) = %q, %t", names, got, ok)
		}
	})
}
