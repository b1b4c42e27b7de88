package tools

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRenameModule gives a copy of the repository another name, twice: every import is found in
// it, and nothing imports the old one.
func TestRenameModule(t *testing.T) {
	dir := copyOfRepository(t)
	run := func(in, name string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = filepath.Join(dir, in)
		cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(in, name string, args ...string) string {
		t.Helper()
		out, err := run(in, name, args...)
		if err != nil {
			t.Fatalf("%s: %s %v: %v\n%s", in, name, args, err, out)
		}
		return out
	}
	const script = "scripts/rename-module.sh"
	for _, wrong := range [][]string{nil, {"eventstream"}, {"example.com/org/gateway"}, {"Example.com/x/eventstream"}, {"example.com/eventstream;x"}, {"a.b/eventstream", "c"}} {
		if out, err := run("", script, wrong...); err == nil || !strings.Contains(out, "usage: ") {
			t.Errorf("%v: %v, printed %q; want the usage", wrong, err, out)
		}
	}
	for _, name := range []string{"git.example.com/first.one/eventstream", "example.org/org/eventstream"} {
		must("", script, name)
		for file, text := range filesOf(t, dir) {
			for _, old := range []string{`^module eventstream`, `(?m)^\s*(import )?(\w+ )?"eventstream/`, `\breplace[ =]eventstream\b`, `(require|replace)=eventstream\b`} {
				if found := regexp.MustCompile(old).FindString(text); found != "" {
					t.Errorf("%s: %s has %q", name, file, found)
				}
			}
			if name == "example.org/org/eventstream" && strings.Contains(text, "first.one") && file != filepath.Join("tools", "rename_test.go") {
				t.Errorf("%s still has the name before", file)
			}
		}
		if got := must("", "go", "list", "-m"); got != name+"\n" {
			t.Errorf("the module is %s, want %s", got, name)
		}
	}
	if out := must("", "gofmt", "-l", "."); out != "" {
		t.Errorf("gofmt is needed for %s", out)
	}
	for _, module := range []string{"", "tools", "perf/peers", "perf/plots"} {
		must(module, "go", "list", "-deps", "-test", "./...") // every import is found
	}
	must("", "go", "build", "./client")
	must("", "go", "vet", "./client", "./event", "./wire")
	must("", "go", "test", "./event", "./internal/arch")
}

// copyOfRepository copies what is in the repository, and what is yet to be added to it.
func copyOfRepository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for file, text := range filesOf(t, "..") {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasSuffix(file, ".sh") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// filesOf returns all files below root but those in folders that begin with a dot, and npm's.
func filesOf(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && path != root && (strings.HasPrefix(e.Name(), ".") || e.Name() == "node_modules"):
			return filepath.SkipDir
		case !e.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		all[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
