package arch

import (
	"errors"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"testing"
)

// maxKnot bounds how many files of a package may use each other in a circle: one who reads
// a file of a knot has to read all of it.
const maxKnot = 6

// TestKnots: the gateway and its parts can be read file by file, each after those that it
// uses.
func TestKnots(t *testing.T) {
	found := false
	for _, p := range list(t) {
		if !covers("gateway/...", p.path) {
			continue
		}
		uses, err := usesOf(filepath.Join("../..", p.path))
		if err != nil {
			t.Fatal(err)
		}
		found = found || len(uses) > maxKnot
		for _, knot := range knots(uses) {
			if len(knot) > maxKnot {
				t.Errorf("%s: %d files use each other in a circle: %v; want %d at most", p.path, len(knot), knot, maxKnot)
			}
		}
	}
	if !found {
		t.Error("no package of the gateway was found")
	}
}

// The circles of a package are found through functions and methods, and others are none.
func TestKnotsAreFound(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  [][]string
	}{
		{"a chain", map[string]string{"a.go": "func A() { B() }", "b.go": "func B() { C() }", "c.go": "func C() {}"}, nil},
		{"by a method", map[string]string{"a.go": "type A struct{}; func (A) do() { b() }", "b.go": "func b() { A{}.do() }", "c.go": "var c = A{}"}, [][]string{{"a.go", "b.go"}}},
		{"by a local name", map[string]string{"a.go": "func A() { b := 1; _ = b; B() }", "b.go": "func B() { A := 1; _ = A }"}, nil},
		{"two", map[string]string{
			"a.go": "const A = B", "b.go": "const B = 1 + len(a); var a [2]struct{ C }", "c.go": "type C struct{ d *D }", "d.go": "type D struct{ c *C }; func f() int { return A }",
		}, [][]string{{"a.go", "b.go", "c.go", "d.go"}}},
	} {
		fset := token.NewFileSet()
		var files []*ast.File
		for _, name := range slices.Sorted(maps.Keys(tt.files)) {
			f, err := parser.ParseFile(fset, name, "package p; "+tt.files[name], 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		if got := knots(uses(fset, files)); !slices.EqualFunc(got, tt.want, slices.Equal) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// usesOf returns which files of a folder's package, without its tests, use which.
func usesOf(folder string) (map[string]map[string]bool, error) {
	pkg, err := build.ImportDir(folder, 0)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range pkg.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(folder, name), nil, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return uses(fset, files), nil
}

// uses returns which files use what others declare: names of the package, and methods.
// Other packages are left out, so that some types, and methods called on them, are unknown.
func uses(fset *token.FileSet, files []*ast.File) map[string]map[string]bool {
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	cfg := types.Config{Importer: none{}, Error: func(error) {}}
	pkg, _ := cfg.Check("p", fset, files, info) // fails for what is unknown
	name := func(p token.Pos) string { return filepath.Base(fset.Position(p).Filename) }
	all := make(map[string]map[string]bool)
	for _, f := range files {
		all[name(f.Pos())] = make(map[string]bool)
	}
	for ident, object := range info.Uses {
		if object.Pkg() != pkg {
			continue
		}
		f, ok := object.(*types.Func)
		method := ok && f.Signature().Recv() != nil
		if from, to := name(ident.Pos()), name(object.Pos()); from != to && (method || object.Parent() == pkg.Scope()) {
			all[from][to] = true
		}
	}
	return all
}

// none imports nothing.
type none struct{}

func (none) Import(string) (*types.Package, error) { return nil, errors.New("left out") }

// knots returns the sets of files that reach each other, of two and more.
func knots(uses map[string]map[string]bool) (all [][]string) {
	reach := make(map[string]map[string]bool)
	for file := range uses {
		reach[file] = make(map[string]bool)
		next := []string{file}
		for len(next) > 0 {
			last := next[len(next)-1]
			next = next[:len(next)-1]
			for used := range uses[last] {
				if !reach[file][used] {
					reach[file][used] = true
					next = append(next, used)
				}
			}
		}
	}
	var done []string
	for _, file := range slices.Sorted(maps.Keys(uses)) {
		if slices.Contains(done, file) || !reach[file][file] {
			continue
		}
		knot := []string{file}
		for _, other := range slices.Sorted(maps.Keys(reach[file])) {
			if other != file && reach[other][file] {
				knot = append(knot, other)
			}
		}
		done = append(done, knot...)
		all = append(all, knot)
	}
	return all
}
