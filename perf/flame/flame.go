// Package flame draws a profile as a flame graph: one page of HTML that needs no
// server and nothing from the network. A click on a frame shows what is above it.
package flame

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/google/pprof/profile"
)

//go:embed page.html
var page string

// node is a frame and what it called. The names are short, since there are many.
type node struct {
	Name     string  `json:"n"`
	Value    int64   `json:"v"` // with what it called
	Children []*node `json:"c,omitempty"`
}

// Write writes the page for a profile, by its default kind of sample.
func Write(w io.Writer, pprof io.Reader, title string) error {
	p, err := profile.Parse(pprof)
	if err != nil {
		return fmt.Errorf("read the profile %q: %w", title, err)
	}
	kind := kindOf(p)
	root := tree(p, kind)
	data, err := json.Marshal(map[string]any{"title": title, "unit": p.SampleType[kind].Unit, "root": root})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, strings.Replace(page, "null/*data*/", string(data), 1))
	return err
}

// kindOf returns which value of a sample is drawn: the profile's default, or its last.
func kindOf(p *profile.Profile) int {
	for i, t := range p.SampleType {
		if t.Type == p.DefaultSampleType {
			return i
		}
	}
	return len(p.SampleType) - 1
}

// tree adds up the samples by their stacks.
func tree(p *profile.Profile, kind int) *node {
	root := &node{Name: "all"}
	for _, s := range p.Sample {
		v := s.Value[kind]
		if v == 0 {
			continue
		}
		root.Value += v
		at := root
		for i := len(s.Location) - 1; i >= 0; i-- { // the outermost caller comes last
			lines := s.Location[i].Line
			for j := len(lines) - 1; j >= 0; j-- { // and of inlined calls, too
				at = at.child(lines[j].Function.Name)
				at.Value += v
			}
		}
	}
	return root
}

func (n *node) child(name string) *node {
	for _, c := range n.Children {
		if c.Name == name {
			return c
		}
	}
	c := &node{Name: name}
	n.Children = append(n.Children, c)
	return c
}
