package index

import (
	"encoding/binary"
	"slices"

	"eventstream/event"
)

// Portable is what a Condition asks for, apart from any Index. It does not change
// and is safe for concurrent use.
type Portable struct {
	alternatives [][]lowered
}

// Export returns what c, which is x's, asks for.
func (x *Index) Export(c *Condition) Portable {
	var p Portable
	for code := range c.codes() {
		preds := []lowered{}
		for len(code) > 0 {
			var one predicate
			one, code = next(code)
			preds = append(preds, raise(one, x.attrs[one.attr].path))
		}
		p.alternatives = append(p.alternatives, preds)
	}
	return p
}

// raise undoes encode.
func raise(p predicate, path string) lowered {
	l := lowered{path: path, op: p.op}
	switch p.op {
	case opIn, opNotIn:
		for rest := openList(p.payload).values; len(rest) > 0; {
			var kind event.Kind
			var text []byte
			kind, text, rest = nextValue(rest)
			l.values = append(l.values, literalOf(kind, text))
		}
	case opInterval:
		l.span = openSpan(p.payload)
	default:
		l.text = string(p.payload)
	}
	return l
}

func literalOf(kind event.Kind, text []byte) literal {
	switch kind {
	case event.String:
		return literal{kind: kind, text: string(text)}
	case event.Number:
		return literal{kind: kind, key: binary.BigEndian.Uint64(text)}
	default:
		return literal{kind: kind, key: uint64(text[0])}
	}
}

// InternPortable is Intern of the Spec that p was exported of.
func (x *Index) InternPortable(p Portable) *Condition {
	x.buf = x.buf[:0]
	all := make([]conjunction, 0, len(p.alternatives))
	for _, preds := range p.alternatives {
		preds = slices.Clone(preds)
		for i := range preds {
			preds[i].values = slices.Clone(preds[i].values) // encode sorts them
		}
		all = append(all, x.compact(preds))
	}
	return x.intern(sortConjunctions(all))
}
