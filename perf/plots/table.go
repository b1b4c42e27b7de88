package main

import (
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
	Y       string   `json:"y"`
	Columns []string `json:"columns"`
	LogX    bool     `json:"logx"`
	LogY    bool     `json:"logy"`

	line   int
	head   []string
	labels []string // of the rows
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
	s.head = rows[0]
	for _, name := range s.Columns {
		c := slices.Index(s.head, name)
		if c < 0 {
			return fmt.Errorf("no column %q: there are %q", name, s.head)
		}
		var values []float64
		for _, row := range rows[1:] {
			if c >= len(row) {
				return fmt.Errorf("row %q has no column %q", row[0], name)
			}
			v, err := number(row[c])
			if err != nil {
				return fmt.Errorf("row %q, column %q: %w", row[0], name, err)
			}
			values = append(values, v)
		}
		s.values = append(s.values, values)
	}
	for _, row := range rows[1:] {
		s.labels = append(s.labels, strings.Trim(row[0], "`*"))
	}
	return nil
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
