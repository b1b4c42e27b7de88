package defect

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Overlay writes copies of the files of the product in root that the defects change into
// dir, and returns the file for go build -overlay that puts them in place.
func Overlay(root, dir string) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	files, err := read(root)
	if err != nil {
		return "", err
	}
	changed, err := apply(files, edits)
	if err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for name, text := range changed {
		copied := filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, name)] = copied
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, list, 0o600)
}

// product are the folders with the product's code.
var product = []string{"api", "auth", "client", "cmd", "event", "filter", "gateway", "lane", "limit", "origin", "producer", "replay", "store", "topic", "wire"}

// read returns the product's files by their paths below root.
func read(root string) (map[string]string, error) {
	files := make(map[string]string)
	for _, folder := range product {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			name, _ := filepath.Rel(root, path) // it is below it
			files[name] = string(text)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// apply returns the files that edits change, and in each of their packages one more that
// knows which defect is switched on.
func apply(files map[string]string, edits []edit) (map[string]string, error) {
	changed := make(map[string]string)
	var problems []error
	for _, e := range edits {
		name, err := e.find(files)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		text, ok := changed[name]
		if !ok {
			text = files[name]
		}
		is := fmt.Sprintf("defective(%q)", e.defect)
		changed[name] = strings.Replace(text, e.old, on.ReplaceAllString(e.new, is), 1)
	}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		f, err := parser.ParseFile(token.NewFileSet(), name, changed[name], 0)
		if err != nil {
			problems = append(problems, fmt.Errorf("with defects: %w", err))
			continue
		}
		changed[filepath.Join(filepath.Dir(name), "defective.go")] = fmt.Sprintf(chosen, f.Name)
	}
	return changed, errors.Join(problems...)
}

// on is the word in an edit.
var on = regexp.MustCompile(`\bon\b`)

const chosen = `package %s

import "os"

var chosenDefect = os.Getenv("EVENTSTREAM_DEFECT")

func defective(defect string) bool { return defect == chosenDefect }
`

// find returns the file that e changes.
func (e edit) find(files map[string]string) (string, error) {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for range strings.Count(files[name], e.old) {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("defect %s needs this code once in the product, and it is there %d times %q; change internal/defect/defect.go with the code:\n%s",
			e.defect, len(found), found, strings.Trim(e.old, "\n"))
	}
	return found[0], nil
}
