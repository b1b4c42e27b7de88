// Command notices writes THIRD_PARTY_NOTICES: the licences of all that is linked into
// eventstream and eventstream-check. It fails if one of them, or of what the tests use, is not allowed.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

func main() {
	text, err := notices("..")
	if err == nil {
		err = os.WriteFile("../THIRD_PARTY_NOTICES", text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

// allowed are licences under which a commercial product may use a library, and that ask
// for no more than their text beside it.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "Zlib"}

// forTests are allowed where nothing of it is linked into the program. MPL-2.0 asks those
// who distribute a library to publish changes to it.
var forTests = append(slices.Clone(allowed), "MPL-2.0")

// platforms are those that the programs are built for.
var platforms = [][2]string{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "arm64"}}

// library is a module, or Go itself.
type library struct {
	name     string          // with its version
	root     string          // folder of its module
	licences map[string]bool // identifiers
	files    map[string]bool // paths below root
}

// notices returns the text for the module in root.
func notices(root string) ([]byte, error) {
	linked, tested := map[string]*library{}, map[string]*library{}
	for _, p := range platforms {
		if err := list(linked, root, p, ".", "./cmd/eventstream-check"); err != nil {
			return nil, err
		}
		if err := list(tested, root, p, "-test", "./..."); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(check(linked, allowed), check(tested, forTests)); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	fmt.Fprintln(&out, "The programs eventstream and eventstream-check contain these libraries. Made by `make notices`.")
	for _, name := range slices.Sorted(maps.Keys(linked)) {
		if err := linked[name].write(&out); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// list adds what the packages of args are made of.
func list(into map[string]*library, root string, platform [2]string, args ...string) error {
	cmd := exec.Command("go", append([]string{"list", "-deps", "-json=Dir,Standard,Module"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS="+platform[0], "GOARCH="+platform[1], "CGO_ENABLED=0", "GOFLAGS=-mod=readonly")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir      string
			Standard bool
			Module   *struct {
				Path, Version, Dir string
				Main               bool
			}
		}
		switch err := dec.Decode(&p); {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("go list: %w", err)
		case p.Standard:
			add(into, "Go's standard library", strings.TrimSpace(string(goroot)), "")
		case p.Module != nil && !p.Module.Main:
			add(into, p.Module.Path+" "+p.Module.Version, p.Module.Dir, p.Dir)
		}
	}
}

// legal are names of files with licences and what belongs to them.
var legal = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|copyright)([._-].*)?$`)

// isLicence are those that have to be a licence.
var isLicence = regexp.MustCompile(`(?i)^(licen[cs]e|copying)`)

// add notes the files with licences in dir, and in those above it up to root.
func add(into map[string]*library, name, root, dir string) {
	l := into[name]
	if l == nil {
		l = &library{name: name, root: root, licences: map[string]bool{}, files: map[string]bool{}}
		into[name] = l
	}
	if dir == "" {
		dir = root
	}
	for {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if path, err := filepath.Rel(root, filepath.Join(dir, e.Name())); err == nil && e.Type().IsRegular() && legal.MatchString(e.Name()) && !strings.HasSuffix(e.Name(), ".go") {
				l.files[filepath.ToSlash(path)] = true
			}
		}
		if dir == root || len(dir) <= len(root) {
			return
		}
		dir = filepath.Dir(dir)
	}
}

// check names all libraries that may not be used.
func check(libraries map[string]*library, allowed []string) error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(libraries)) {
		if err := libraries[name].check(allowed); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// check identifies the licences of l.
func (l *library) check(allowed []string) error {
	for file := range l.files {
		if !isLicence.MatchString(filepath.Base(file)) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(l.root, file))
		if err != nil {
			return err
		}
		found, err := identify(text, allowed)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", l.name, file, err)
		}
		for _, id := range found {
			l.licences[id] = true
		}
	}
	if len(l.licences) == 0 {
		return fmt.Errorf("%s has no licence", l.name)
	}
	return nil
}

// identify returns the licences in a text, all of which are allowed.
func identify(text []byte, allowed []string) ([]string, error) {
	cover := licensecheck.Scan(text)
	if cover.Percent < 75 {
		return nil, fmt.Errorf("%.0f %% of it is a licence that is known", cover.Percent)
	}
	var ids []string
	for _, m := range cover.Match {
		if !slices.Contains(allowed, m.ID) {
			return nil, fmt.Errorf("%s is not among the licences that are allowed: %s", m.ID, strings.Join(allowed, ", "))
		}
		ids = append(ids, m.ID)
	}
	return ids, nil
}

// write writes what l's licences ask for.
func (l *library) write(out io.Writer) error {
	fmt.Fprintf(out, "\n%s\n%s (%s)\n", strings.Repeat("=", 80), l.name, strings.Join(slices.Sorted(maps.Keys(l.licences)), ", "))
	for _, file := range slices.Sorted(maps.Keys(l.files)) {
		text, err := os.ReadFile(filepath.Join(l.root, file))
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s\n%s:\n\n%s\n", strings.Repeat("-", 80), file, strings.TrimRight(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n"))
	}
	return nil
}
