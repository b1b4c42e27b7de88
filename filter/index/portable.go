package index

import (
	"encoding/binary"
	"slices"

	"eventstream/event"
)

// Portable is what a Condition asks for, independent of an Index. It never changes and is
// safe for concurrent use.
type Portable struct {
	alternatives [][]decodedPredicate
}

// Export returns what c, a Condition of x, asks for.
func (x *Index) Export(c *Condition) Portable {
	var p Portable
	for code := range c.codes() {
		preds := []decodedPredicate{}
		for len(code) > 0 {
			var one predicate
			one, code = next(code)
			preds = append(preds, decode(one, x.attrs[one.attr].path))
		}
		p.alternatives = append(p.alternatives, preds)
	}
	return p
}

// decode undoes encode.
func decode(p predicate, path string) decodedPredicate {
	l := decodedPredicate{path: path, op: p.op}
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

// InternPortable does what Intern does for the Spec that p comes from.
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
