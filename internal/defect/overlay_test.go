package defect

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestOverlay: each defect's code is in the overlay, and none in the product. Whether it
// compiles, and is caught, shows where it is built (make check-defects).
func TestOverlay(t *testing.T) {
	path, err := Overlay("../..", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var overlay struct{ Replace map[string]string }
	if err := json.Unmarshal(text, &overlay); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for name, copied := range overlay.Replace {
		text, err := os.ReadFile(copied)
		if err != nil {
			t.Fatal(err)
		}
		if original, err := os.ReadFile(name); err == nil && strings.Contains(string(original), "defect") {
			t.Errorf("%s names a defect; want it in internal/defect alone", name)
		} else if err != nil && filepath.Base(name) != "defective.go" {
			t.Error(err)
		}
		all.Write(text)
	}
	for _, name := range Names() {
		if !strings.Contains(all.String(), `defective("`+name+`")`) {
			t.Errorf("defect %s is nowhere in the overlay", name)
		}
	}
	for _, e := range edits {
		if !slices.Contains(Names(), e.defect) {
			t.Errorf("an edit is for the defect %q, which does not exist", e.defect)
		}
	}
}

// TestApply: an edit whose code is gone, or there twice, is named with it.
func TestApply(t *testing.T) {
	files := map[string]string{"a/x.go": "package a\n\nfunc f() {\n\tg(1)\n}\n", "b/y.go": "package b\n\nfunc f() {\n\tg(2)\n}\n"}
	for _, tt := range []struct {
		edit edit
		want string // in b/y.go, or in the error
		ok   bool
	}{
		{edit{"x", "\n\tg(2)", "\n\tif on {\n\t\tg(3) // on and on\n\t}"}, "\n\tif defective(\"x\") {", true},
		{edit{"x", "g(3)", "g(on)"}, "defect x needs this code once in the product, and it is there 0 times []; change internal/defect/defect.go with the code:\ng(3)", false},
		{edit{"x", "func f", "func on"}, `it is there 2 times ["a/x.go" "b/y.go"]`, false},
		{edit{"x", "g(2)", "g(on"}, "with defects: b/y.go:", false},
	} {
		got, err := apply(files, []edit{tt.edit})
		switch {
		case tt.ok && (err != nil || !strings.Contains(got["b/y.go"], tt.want) || len(got) != 2 || !strings.HasPrefix(got["b/defective.go"], "package b\n")):
			t.Errorf("%q: %q, %v; want %q", tt.edit.new, got, err, tt.want)
		case !tt.ok && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%q: %v; want %q", tt.edit.new, err, tt.want)
		}
	}
}
