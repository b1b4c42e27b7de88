package index

import (
	"index/suffixarray"
	"slices"

	"eventstream/event"
)

// An attribute of an event may have many values, or long ones. Testing a condition on it
// takes time for all of them, and authors of filters decide how many conditions there are.
// So a large attribute is digested once it was tested often enough: its values are put in
// order, and from then on a test is a look-up, or one for each value that the condition
// lists. The cost of an event is then bounded by its size plus the number of conditions, and
// not by their product.

// digest is the values of an attribute, in an order that can be searched.
type digest struct {
	tries   int // tests of the attribute until it was made
	made    bool
	count   int                // values
	texts   *suffixarray.Index // of all texts, each between two bytes that are in no text
	numbers []uint64           // keys, ascending
	times   []uint64           // of the texts that are timestamps
	flags   [2]bool            // false is there, true is there
	scratch []byte
}

const textEnd = 0xff // in no UTF-8

// digest returns the digest of an attribute whose first value is v, or nil if it is not
// worth one yet: the caller is about to test all its values.
func (m *Matcher) digest(a event.Attr, v *event.Value) *digest {
	if v.Size() < m.sizes.DigestBytes {
		return nil
	}
	d := m.digests[a]
	if d == nil {
		if m.digests == nil {
			m.digests = make(map[event.Attr]*digest)
		}
		d = &digest{}
		m.digests[a] = d
	}
	if !d.made {
		m.effort += v.Size()
		if d.tries++; d.tries < m.sizes.DigestTries {
			return nil
		}
		d.make(m.ev, v)
		m.Digests++
	}
	m.effort += lookupEffort
	return d
}

// lookupEffort is how many bytes can be read in the time of one look-up, roughly.
const lookupEffort = 1024

func (d *digest) make(ev *event.Event, v *event.Value) {
	text := make([]byte, 0, v.Size()+1)
	for ; v != nil; v = ev.Next(v) {
		d.count++
		switch v.Kind {
		case event.String:
			text = append(append(text, textEnd), v.Text...)
			if t, ok := v.Time(); ok {
				d.times = append(d.times, t)
			}
		case event.Number:
			d.numbers = append(d.numbers, v.Key)
		case event.Bool:
			d.flags[v.Key&1] = true
		}
	}
	d.texts = suffixarray.New(append(text, textEnd))
	slices.Sort(d.numbers)
	slices.Sort(d.times)
	d.numbers, d.times, d.made = slices.Compact(d.numbers), slices.Compact(d.times), true
}

// holds reports whether one of the values passes p, which is neither exists nor missing.
func (d *digest) holds(p *predicate) bool {
	switch p.op {
	case opIn, opNotIn:
		for b := openList(p.payload).values; len(b) > 0; {
			var kind event.Kind
			var text []byte
			if kind, text, b = nextValue(b); d.has(kind, text) {
				return p.op == opIn
			}
		}
		return p.op == opNotIn
	case opInterval:
		s := openSpan(p.payload)
		keys := d.keys(s.kind)
		i, _ := slices.BinarySearch(keys, s.lo)
		return i < len(keys) && keys[i] <= s.hi
	case opPrefix:
		return d.begins(p.payload)
	case opSuffix:
		d.scratch = append(append(d.scratch[:0], p.payload...), textEnd)
		return d.find(d.scratch)
	default:
		return d.find(p.payload)
	}
}

// keys returns the keys of the values that intervals of a kind are compared with.
func (d *digest) keys(kind event.Kind) []uint64 {
	if kind == event.String {
		return d.times
	}
	return d.numbers
}

// has reports whether a value is there, in the form of lists.
func (d *digest) has(kind event.Kind, text []byte) bool {
	switch kind {
	case event.String:
		d.scratch = append(append(append(d.scratch[:0], textEnd), text...), textEnd)
		return d.find(d.scratch)
	case event.Number:
		_, found := slices.BinarySearch(d.numbers, literalOf(kind, text).key)
		return found
	default:
		return d.flags[text[0]&1]
	}
}

// begins reports whether a text begins with part.
func (d *digest) begins(part []byte) bool {
	d.scratch = append(append(d.scratch[:0], textEnd), part...)
	return d.find(d.scratch)
}

func (d *digest) find(part []byte) bool { return len(d.texts.Lookup(part, 1)) > 0 }

// fewer reports whether looking up each value of p's list is less work than reading each
// value of the event.
func (d *digest) fewer(p *predicate) bool {
	if p.op != opIn && p.op != opNotIn {
		return true
	}
	return openList(p.payload).n <= d.count
}

// holds reports whether the event passes p.
func (m *Matcher) holds(p *predicate) bool {
	v := m.ev.First(p.attr)
	if v != nil && v.Size() >= m.sizes.DigestBytes && p.op != opExists && p.op != opMissing {
		if d := m.digest(p.attr, v); d != nil && d.fewer(p) {
			return d.holds(p)
		}
	}
	return p.holds(m.ev, v)
}

// run reports whether the event passes all predicates of code.
func (m *Matcher) run(code []byte) bool {
	for len(code) > 0 {
		var p predicate
		if p, code = next(code); !m.holds(&p) {
			return false
		}
	}
	return true
}

// followKeys visits the nodes of d whose key is in the digest. It goes through all keys of
// d: the caller has seen that they are fewer than the look-ups by the event's values.
func (m *Matcher) followKeys(d *table, in *digest) {
	m.effort += lookupEffort * d.keys.n
	for key, n := range d.keys.all() {
		if d.op == opPrefix && in.begins([]byte(key)) || d.op == opIn && in.has(d.kind, []byte(key)) {
			m.visit(n)
		}
	}
}
