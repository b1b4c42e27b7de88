package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sort"

	"eventstream/event"
)

// A conjunction in its compact form is a sequence of predicates:
//
//	op 1 byte | attribute uvarint | length of payload uvarint | payload
//
//	in, notIn                 number of values uvarint | if more than scanMost: for each, where it
//	                          begins among the values, 4 bytes little endian | values, ascending
//	  a value                 kind 1 byte | String: length uvarint, bytes; Number: key 8 bytes; Bool: 1 byte
//	prefix, suffix, contains  its bytes
//	interval                  kind 1 byte | from 8 bytes | to 8 bytes, both included
//	exists, missing           nothing
//
// Keys and bounds are big endian. The same bytes are the source of a stored Condition, what
// two Conditions are compared by, and the program that tests a candidate.
type op byte

// In the order of preference for filing, if nothing else decides.
const (
	opIn op = iota
	opPrefix
	opExists
	opInterval
	opMissing
	opNotIn
	opSuffix
	opContains
)

// files reports whether conjunctions can be filed under a predicate with o.
func (o op) files() bool { return o <= opExists }

// scanMost is the longest list that is searched from its beginning to its end.
const scanMost = 16

// predicate is one predicate of a compact conjunction.
type predicate struct {
	op      op
	attr    event.Attr
	payload []byte
}

// next takes the first predicate off code.
func next(code []byte) (p predicate, rest []byte) {
	p.op = op(code[0])
	attr, n := shortUvarint(code[1:])
	at := 1 + n
	size, n := shortUvarint(code[at:])
	at += n
	end := at + int(size)
	p.attr, p.payload = event.Attr(attr), code[at:end]
	return p, code[end:]
}

// shortUvarint is binary.Uvarint, faster for numbers of one byte, as most are.
func shortUvarint(b []byte) (uint64, int) {
	if b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}

// appendPredicate appends p's compact form.
func appendPredicate(b []byte, p predicate) []byte {
	b = append(b, byte(p.op))
	b = binary.AppendUvarint(b, uint64(p.attr))
	b = binary.AppendUvarint(b, uint64(len(p.payload)))
	return append(b, p.payload...)
}

// literal is a value in a predicate, in the form that values of events have.
type literal struct {
	kind event.Kind
	text string // of a String
	key  uint64 // of a Number, of a Bool
}

func compareLiterals(a, b literal) int {
	if a.kind == event.String && b.kind == event.String {
		return cmp.Compare(a.text, b.text)
	}
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.key, b.key))
}

// sortLiterals sorts values and removes duplicates.
func sortLiterals(values []literal) []literal {
	if len(values) > 1 {
		slices.SortFunc(values, compareLiterals)
		values = slices.Compact(values)
	}
	return values
}

// appendList appends the payload of in and notIn. The values must be in order.
func appendList(b []byte, values []literal) []byte {
	b = binary.AppendUvarint(b, uint64(len(values)))
	table := len(b)
	if len(values) > scanMost {
		b = append(b, make([]byte, 4*len(values))...)
	}
	first := len(b)
	for i, v := range values {
		if len(values) > scanMost {
			binary.LittleEndian.PutUint32(b[table+4*i:], uint32(len(b)-first))
		}
		b = append(b, byte(v.kind))
		switch v.kind {
		case event.String:
			b = binary.AppendUvarint(b, uint64(len(v.text)))
			b = append(b, v.text...)
		case event.Number:
			b = binary.BigEndian.AppendUint64(b, v.key)
		default:
			b = append(b, byte(v.key))
		}
	}
	return b
}

// list is the decoded head of a list's payload.
type list struct {
	n      int
	starts []byte // nil if the list is short
	values []byte
}

func openList(payload []byte) list {
	count, n := shortUvarint(payload)
	l := list{n: int(count), values: payload[n:]}
	if l.n > scanMost {
		l.starts, l.values = l.values[:4*l.n], l.values[4*l.n:]
	}
	return l
}

// nextValue takes the first value off b. A Number and a Bool have their bytes as text.
func nextValue(b []byte) (kind event.Kind, text, rest []byte) {
	kind = event.Kind(b[0])
	switch b = b[1:]; kind {
	case event.String:
		size, n := shortUvarint(b)
		return kind, b[n : n+int(size)], b[n+int(size):]
	case event.Number:
		return kind, b[:8], b[8:]
	default:
		return kind, b[:1], b[1:]
	}
}

// holds reports whether one of the list's values is v.
func (l list) holds(v *event.Value) bool {
	var buf [8]byte
	text := valueBytes(v, &buf)
	if l.starts == nil {
		for b := l.values; len(b) > 0; {
			var kind event.Kind
			var t []byte
			if kind, t, b = nextValue(b); kind == v.Kind && bytes.Equal(t, text) {
				return true
			}
		}
		return false
	}
	_, found := sort.Find(l.n, func(i int) int {
		kind, t, _ := nextValue(l.values[binary.LittleEndian.Uint32(l.starts[4*i:]):])
		return cmp.Or(cmp.Compare(v.Kind, kind), bytes.Compare(text, t))
	})
	return found
}

// valueBytes returns v as it is written in a list.
func valueBytes(v *event.Value, buf *[8]byte) []byte {
	switch v.Kind {
	case event.String:
		return v.Text
	case event.Number:
		binary.BigEndian.PutUint64(buf[:], v.Key)
		return buf[:]
	default:
		buf[0] = byte(v.Key)
		return buf[:1]
	}
}

// span is an interval, both ends included, of Numbers or of timestamps. Timestamps have the
// kind String.
type span struct {
	kind   event.Kind
	lo, hi uint64
}

func (s span) append(b []byte) []byte {
	b = append(b, byte(s.kind))
	b = binary.BigEndian.AppendUint64(b, s.lo)
	return binary.BigEndian.AppendUint64(b, s.hi)
}

func openSpan(payload []byte) span {
	return span{event.Kind(payload[0]), binary.BigEndian.Uint64(payload[1:]), binary.BigEndian.Uint64(payload[9:])}
}

// intervalKey returns the key by which v is compared with intervals of a kind, and whether
// it has one.
func intervalKey(v *event.Value, kind event.Kind) (uint64, bool) {
	if v.Kind != kind {
		return 0, false
	}
	if kind == event.String {
		return v.Time()
	}
	return v.Key, true
}

// holds reports whether ev, which has the first value v of p's attribute, passes p.
func (p *predicate) holds(ev *event.Event, v *event.Value) bool {
	switch p.op {
	case opExists:
		return v != nil
	case opMissing:
		return v == nil
	case opIn, opNotIn:
		l := openList(p.payload)
		for ; v != nil; v = ev.Next(v) {
			if v.Kind != event.Other && l.holds(v) {
				return p.op == opIn
			}
		}
		return p.op == opNotIn
	case opInterval:
		s := openSpan(p.payload)
		for ; v != nil; v = ev.Next(v) {
			if k, ok := intervalKey(v, s.kind); ok && s.lo <= k && k <= s.hi {
				return true
			}
		}
		return false
	}
	for ; v != nil; v = ev.Next(v) {
		if v.Kind == event.String && matchText(p.op, v.Text, p.payload) {
			return true
		}
	}
	return false
}

func matchText(o op, text, part []byte) bool {
	switch o {
	case opPrefix:
		return bytes.HasPrefix(text, part)
	case opSuffix:
		return bytes.HasSuffix(text, part)
	default:
		return bytes.Contains(text, part)
	}
}
