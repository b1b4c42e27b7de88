package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// spec says what to draw of the table that follows it.
type spec struct {
	File    string   `json:"file"`
	Kind    string   `json:"kind"` // lines or bars
	Title   string   `json:"title"`
	X       string   `json:"x"` // a column, like those below
	Y       string   `json:"y"` // a text
	Columns []string `json:"columns"`
	LogX    bool     `json:"logx"`
	LogY    bool     `json:"logy"`

	line   int
	labels []string // in column X
	values [][]float64
}

const begin, end = "<!-- plot ", " -->"

// parse returns the plots of a Markdown text.
func parse(text string) ([]spec, error) {
	lines := strings.Split(text, "\n")
	var out []spec
	for i, l := range lines {
		if !strings.HasPrefix(l, begin) {
			continue
		}
		s := spec{line: i + 1}
		d := json.NewDecoder(strings.NewReader(strings.TrimSuffix(strings.TrimPrefix(l, begin), end)))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if err := s.take(table(lines[i+1:])); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// table returns the cells of the first table, without the line below its head.
func table(lines []string) (rows [][]string) {
	for _, l := range lines {
		l, is := strings.CutPrefix(l, "|")
		switch {
		case is:
			cells := strings.Split(strings.TrimSuffix(l, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows = append(rows, cells)
		case len(rows) > 0 || strings.HasPrefix(l, "#"):
			return dropRule(rows)
		}
	}
	return dropRule(rows)
}

func dropRule(rows [][]string) [][]string {
	if len(rows) < 2 {
		return nil
	}
	return slices.Delete(rows, 1, 2)
}

// take takes the columns out of a table.
func (s *spec) take(rows [][]string) error {
	if len(rows) < 2 {
		return errors.New("no table with rows follows before the next heading")
	}
	s.X = cmp.Or(s.X, rows[0][0])
	cells, err := column(rows, s.X)
	if err != nil {
		return err
	}
	for _, cell := range cells {
		s.labels = append(s.labels, strings.Trim(cell, "`*"))
	}
	for _, name := range s.Columns {
		cells, err := column(rows, name)
		if err != nil {
			return err
		}
		values := make([]float64, len(cells))
		for i, cell := range cells {
			if values[i], err = number(cell); err != nil {
				return fmt.Errorf("column %q, row %d: %w", name, i+1, err)
			}
		}
		s.values = append(s.values, values)
	}
	return nil
}

// column returns the cells below a name.
func column(rows [][]string, name string) (cells []string, err error) {
	c := slices.Index(rows[0], name)
	if c < 0 {
		return nil, fmt.Errorf("no column %q: there are %q", name, rows[0])
	}
	for i, row := range rows[1:] {
		if c >= len(row) {
			return nil, fmt.Errorf("column %q, row %d: the row ends before it", name, i+1)
		}
		cells = append(cells, row[c])
	}
	return cells, nil
}

var digits = regexp.MustCompile(`\d[\d,]*(\.\d+)?`)

// number returns the first number in a cell.
func number(cell string) (float64, error) {
	found := digits.FindString(cell)
	if found == "" {
		return 0, fmt.Errorf("no number in %q", cell)
	}
	return strconv.ParseFloat(strings.ReplaceAll(found, ",", ""), 64)
}
