// Command plots draws the SVGs of perf/RESULTS.md from its own tables. A comment of one
// line above a table says what to draw of it, as JSON:
//
//	<!-- plot {"file":"cliff.svg","kind":"lines","title":"…","y":"%","columns":["ours: served"]} -->
//
// The x axis, or what the groups of bars are called, is the first column if "x" does not
// name another. Columns are named as in the table's head. Of a cell the first number counts.
//
//	go run . ../RESULTS.md
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "plots:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: plots RESULTS.md; the SVGs go into the working directory")
	}
	plots, err := drawAll(args[0])
	if err != nil {
		return err
	}
	for name, svg := range plots {
		if err := os.WriteFile(name, svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// drawAll returns the SVGs that a file asks for, by name.
func drawAll(file string) (map[string][]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	specs, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	out := make(map[string][]byte)
	for _, s := range specs {
		if filepath.Base(s.File) != s.File || filepath.Ext(s.File) != ".svg" {
			return nil, fmt.Errorf("%s:%d: file %q: want a name that ends in .svg", file, s.line, s.File)
		}
		if out[s.File] != nil {
			return nil, fmt.Errorf("%s:%d: there is a plot %s already", file, s.line, s.File)
		}
		var svg bytes.Buffer
		if err := s.svg(&svg); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, s.line, err)
		}
		out[s.File] = svg.Bytes()
	}
	return out, nil
}
