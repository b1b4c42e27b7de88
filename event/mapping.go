package event

import (
	"fmt"
	"slices"
	"strings"
)

// A Mapping says where events have what filters name: the type in another member than
// event_type, the user in a header. It changes what is decoded, never the event itself.
// A nil *Mapping changes nothing.
type Mapping struct {
	fields []Field
	inner  *Mapping // without the fields that are outside the JSON
	noType error    // of an event without a type
}

// Field is one name of a Mapping. With it filters mean what is at its place, and nothing
// else: not a member of that name.
type Field struct {
	Name string // the first key of paths in filters
	Path Path   // the place in the event's JSON; nil if it is outside
	As   As
}

// As is what values of a Field become. A value that can't become it stays what it is.
type As uint8

const (
	AsIs        As = iota
	AsNumber       // a string that is a JSON number, such as "99.90", becomes one
	AsString       // a number becomes its text, a boolean true or false
	AsUnix         // a number, or a string that is one, of seconds since 1970 becomes a timestamp
	AsUnixMilli    // of milliseconds
	AsUnixMicro    // of microseconds
)

// asNames are the values of As in configuration.
var asNames = [...]string{"", "number", "string", "unix", "unix_ms", "unix_us"}

// String is what ParseAs reads.
func (as As) String() string { return asNames[as] }

// ParseAs returns the As that is called so, AsIs for "".
func ParseAs(name string) (As, error) {
	if i := slices.Index(asNames[:], name); i >= 0 {
		return As(i), nil
	}
	return 0, fmt.Errorf("%.60q: allowed are %s", name, strings.Join(asNames[1:], ", "))
}

// MaxFields bounds a Mapping.
const MaxFields = 64

// NewMapping returns a Mapping of fields whose names differ. Those outside the JSON are
// numbered in their order, for Decoder.DecodeMapped. typeAt names the place of event_type
// in errors; it is "" if no field is of that name.
func NewMapping(fields []Field, typeAt string) (*Mapping, error) {
	if len(fields) > MaxFields {
		return nil, fmt.Errorf("%d fields; at most %d are allowed", len(fields), MaxFields)
	}
	m := &Mapping{fields: slices.Clone(fields), noType: ErrNoType}
	for i, f := range fields {
		if f.Name == "" {
			return nil, fmt.Errorf("field %d has no name", i+1)
		}
		if slices.ContainsFunc(fields[:i], func(o Field) bool { return o.Name == f.Name }) {
			return nil, fmt.Errorf("%.60q is mapped twice", f.Name)
		}
	}
	if typeAt != "" {
		m.noType = fmt.Errorf("%w, in %s", ErrNoType, typeAt)
	}
	m.inner = m
	if m.outside() > 0 {
		inner := *m
		inner.fields = slices.DeleteFunc(slices.Clone(fields), func(f Field) bool { return f.Path == nil })
		inner.inner = &inner
		m.inner = &inner
	}
	return m, nil
}

// outside is how many fields are outside the JSON.
func (m *Mapping) outside() (n int) {
	for _, f := range m.fields {
		if f.Path == nil {
			n++
		}
	}
	return n
}

// Inner returns m without the fields that are outside the JSON: for events without a
// record. There filters mean the members of those names.
func (m *Mapping) Inner() *Mapping {
	if m == nil {
		return nil
	}
	return m.inner
}

// field returns the place in fields of a name, -1 if it is not mapped.
func (m *Mapping) field(name string) int {
	return slices.IndexFunc(m.fields, func(f Field) bool { return f.Name == name })
}

// moved is what a Mapping does to Paths, beside where their nodes are.
type moved struct {
	noType error
	copies []copied
	given  []given
	turned []turned
}

// copied is an attribute that is where another one is.
type copied struct{ from, to Attr }

// given is an attribute that is outside the JSON.
type given struct {
	attr  Attr
	place int // among those outside
}

// turned is an attribute whose values become something else.
type turned struct {
	attr Attr
	as   As
}

// on returns paths as m moves them. It makes them once.
func (m *Mapping) on(paths *Paths) *Paths {
	if p, ok := paths.mapped.Load(m); ok {
		return p.(*Paths)
	}
	p, _ := paths.mapped.LoadOrStore(m, m.move(paths))
	return p.(*Paths)
}

func (m *Mapping) move(paths *Paths) *Paths {
	longest := 1
	for _, f := range m.fields {
		longest = max(longest, len(f.Path))
	}
	p := newPaths(paths.attrs, len(paths.nodes)*longest)
	p.moved = &moved{noType: m.noType}
	for i := range paths.nodes {
		if a := paths.nodes[i].attr; a != noAttr {
			m.moveOne(p, paths.path(int32(i)), a)
		}
	}
	return p
}

// moveOne adds an attribute to p, at the place that m says.
func (m *Mapping) moveOne(p *Paths, path Path, a Attr) {
	i := m.field(path[0])
	if i >= 0 && m.fields[i].Path == nil && len(path) > 1 {
		return // what is outside has no members
	}
	if i >= 0 && m.fields[i].As != AsIs && len(path) == 1 {
		p.moved.turned = append(p.moved.turned, turned{a, m.fields[i].As})
	}
	switch {
	case i >= 0 && m.fields[i].Path == nil:
		before := Mapping{fields: m.fields[:i]}
		p.moved.given = append(p.moved.given, given{a, before.outside()})
		return
	case i >= 0:
		path = slices.Concat(m.fields[i].Path, path[1:])
		if m.fields[i].As != AsIs {
			p.nodes[p.reach(path)].digits = true
		}
	}
	if holder := p.add(path, a); holder != a {
		p.moved.copies = append(p.moved.copies, copied{holder, a})
	}
}

// path returns the keys that lead to a node.
func (p *Paths) path(at int32) (path Path) {
	for ; at != root; at = p.nodes[at].parent {
		path = append(path, p.nodes[at].name)
	}
	slices.Reverse(path)
	return path
}
