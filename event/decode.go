package event

import (
	"bytes"
	"encoding/json"
	"slices"
	"unicode/utf8"
)

// A Decoder decodes events one after another and reuses its memory. The zero
// value works. It is not safe for concurrent use.
type Decoder struct {
	ev    Event
	paths *Paths
	raw   []byte

	objects uint64    // those with paths into them so far, in all events
	stamps  []stamp   // by node of paths
	dead    []int32   // by value: how many ranges of dead ones begin here, less those that ended before
	guesses [64]guess // of keys after a key or, for the first, an object, by the hash of that
	typeAt  int       // the place of event_type's value in raw; 0 if there is none
	wide    bool      // there are bytes in raw that are not ASCII

	unescaped    []byte // texts of this event; what is in it stays
	unescapedKey []byte // the last key with escapes
}

// stamp tells where a key was last seen.
type stamp struct {
	object     uint64 // its number, of Decoder.objects
	start, end int32  // the values that were under the key
}

// Decode checks that raw is a complete JSON object in UTF-8 with an event_type,
// and returns a view of it with the attributes that paths ask for. As in
// encoding/json, the last of duplicate keys counts.
//
// An array stands for its elements wherever it is on a path. What is neither a
// string nor a number nor a boolean is a value of the kind Other.
func (d *Decoder) Decode(raw []byte, paths *Paths) (*Event, error) {
	if paths == nil {
		paths = onlyType
	}
	d.begin(raw, paths)
	if err := d.scan(); err != nil {
		return nil, err
	}
	if d.typeAt == 0 || raw[d.typeAt] != '"' {
		return nil, noType(raw)
	}
	d.link()
	if d.ev.Type = d.ev.First(TypeAttr).Text; len(d.ev.Type) == 0 {
		return nil, noType(raw)
	}
	return &d.ev, nil
}

// begin forgets the event before. It takes time for that event's attributes, not
// for all that paths ask for.
func (d *Decoder) begin(raw []byte, paths *Paths) {
	const keep = 1 << 14 // values: a Decoder lives long, and events of so many are rare
	e := &d.ev
	if cap(e.values) > keep {
		e.values, d.dead = nil, nil
	}
	for _, a := range e.attrs {
		e.first[a] = 0
	}
	e.Type, e.attrs, e.values = nil, e.attrs[:0], e.values[:0]
	e.first = resize(e.first, paths.attrs)
	d.stamps = resize(d.stamps, len(paths.nodes))
	if d.paths != paths {
		d.guesses = [len(d.guesses)]guess{} // they are of nodes
	}
	d.raw, d.paths = raw, paths
	d.dead, d.typeAt, d.wide, d.unescaped = d.dead[:0], 0, false, d.unescaped[:0]
}

// resize keeps what is in s, up to its capacity.
func resize[T any](s []T, n int) []T {
	if more := n - cap(s); more > 0 {
		s = append(s[:cap(s)], make([]T, more)...)
	}
	return s[:n]
}

// scan checks that raw is an object and gathers its values.
func (d *Decoder) scan() error {
	// The bytes are later sent inside other JSON and in WebSocket text frames:
	// a record that is not strictly valid would break its neighbours.
	if len(d.raw) > MaxBytes {
		return ErrTooLarge
	}
	i, at := skipSpace(d.raw, 0), int32(none)
	isObject := i < len(d.raw) && d.raw[i] == '{'
	if isObject {
		at = root
	}
	end := d.value(i, at, 1)
	if end >= 0 && skipSpace(d.raw, end) != len(d.raw) {
		end = bad
	}
	switch {
	case end < 0 && bytes.HasPrefix(d.raw, []byte{0}): // and what follows is seldom UTF-8
		return ErrRegistry
	case (end < 0 || d.wide) && !utf8.Valid(d.raw):
		return ErrNotUTF8
	case end == tooDeep && json.Valid(d.raw):
		return ErrTooDeep
	case end < 0 && bytes.HasPrefix(d.raw, []byte("\xef\xbb\xbf")):
		return errMark
	case end < 0:
		return ErrNotJSON
	case !isObject:
		return ErrNotObject
	}
	return nil
}

// value scans a value that is level deep, and gathers what is in it for a node
// and those below.
func (d *Decoder) value(i int, at int32, level int) int {
	if i >= len(d.raw) {
		return bad
	}
	switch d.raw[i] {
	case '"':
		return d.text(i, at)
	case '{':
		d.add(at)
		return d.object(i+1, at, level)
	case '[':
		return d.array(i+1, at, level)
	case 't':
		d.addBool(at, 1)
		return skipWord(d.raw, i, "true")
	case 'f':
		d.addBool(at, 0)
		return skipWord(d.raw, i, "false")
	case 'n':
		d.add(at)
		return skipWord(d.raw, i, "null")
	}
	return d.number(i, at)
}

func (d *Decoder) text(i int, at int32) int {
	end, escaped := d.skipString(i + 1)
	if end < 0 {
		return bad
	}
	if v := d.add(at); v != nil {
		v.Kind, v.Text = String, d.raw[i+1:end-1:end-1]
		if escaped {
			v.Text = d.unescape(v.Text)
		}
	}
	return end
}

// unescape returns the text of a string with escapes. If d.unescaped has to move,
// what was returned before stays where it was.
func (d *Decoder) unescape(s []byte) []byte {
	start := len(d.unescaped)
	d.unescaped = appendUnescaped(d.unescaped, s)
	return slices.Clip(d.unescaped[start:])
}

func (d *Decoder) number(i int, at int32) int {
	end := skipNumber(d.raw, i)
	if end < 0 {
		return bad
	}
	if v := d.add(at); v != nil {
		v.Kind, v.Key = Number, NumberKey(parseNumber(d.raw[i:end]))
		if d.paths.nodes[at].digits {
			v.Text = d.raw[i:end:end]
		}
	}
	return end
}

// array scans an array after its bracket.
func (d *Decoder) array(i int, at int32, level int) int {
	i = skipSpace(d.raw, i)
	if i < len(d.raw) && d.raw[i] == ']' {
		d.add(at)
		return i + 1
	}
	if level == MaxDepth {
		return tooDeep
	}
	for more := true; more; {
		i, more = skipComma(d.raw, d.value(i, at, level+1), ']')
	}
	return i
}

// add adds a value of the kind Other for a node, and returns it; nil if the node
// is no attribute.
func (d *Decoder) add(at int32) *Value {
	a := d.paths.nodes[at].attr
	if a == noAttr {
		return nil
	}
	n := len(d.ev.values)
	d.ev.values = slices.Grow(d.ev.values, 1)[:n+1]
	v := &d.ev.values[n]
	*v = Value{}
	v.attr = a
	return v
}

func (d *Decoder) addBool(at int32, key uint64) {
	if v := d.add(at); v != nil {
		v.Kind, v.Key = Bool, key
	}
}

// bury notes that the values from start to before end are dead: their key came
// again. It takes no time for each, because they may be buried once more with
// each object around them.
func (d *Decoder) bury(start, end int32) {
	if start == end {
		return
	}
	if more := int(end) + 1 - len(d.dead); more > 0 {
		d.dead = append(d.dead, make([]int32, more)...)
	}
	d.dead[start]++
	d.dead[end]--
}

// link chains the values of each attribute, but for the dead.
func (d *Decoder) link() {
	e := &d.ev
	graves := int32(0)
	for i, n := range d.dead {
		if graves += n; graves > 0 {
			e.values[i].attr = noAttr
		}
	}
	for i := len(e.values) - 1; i >= 0; i-- {
		v := &e.values[i]
		if v.attr == noAttr {
			continue
		}
		first := &e.first[v.attr]
		v.size = int32(len(v.Text)) + 1
		if *first == 0 {
			e.attrs = append(e.attrs, v.attr)
		} else {
			v.size += e.values[*first-1].size
		}
		v.next, *first = *first, int32(i+1)
	}
}
