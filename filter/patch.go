package filter

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Patch returns what s becomes by a JSON merge patch (RFC 7396): what the patch
// has replaces what s has, null removes it, objects are patched in turn. Errors
// are those of ParseSpec, which has the last word on the result.
func (s *Spec) Patch(patch []byte, translate func(expr string) ([]Where, error)) (Spec, error) {
	changes, err := document(patch)
	if err != nil {
		return Spec{}, err
	}
	shown := *s
	shown.ExprAny = nil // is made from expr
	body, err := json.Marshal(shown)
	if err != nil {
		return Spec{}, fmt.Errorf("encode the filter to patch: %w", err)
	}
	var p parser
	merged := p.merge("", body, changes)
	if len(p.bad.Problems) > 0 {
		return Spec{}, &p.bad
	}
	return ParseSpec(merged, translate)
}

// merge returns target with the changes made. What is no object becomes one.
func (p *parser) merge(at string, target json.RawMessage, changes []field) json.RawMessage {
	fields, err := object(target)
	if err != nil {
		fields = nil
	}
	place := make(map[string]int, len(fields))
	for i, f := range fields {
		place[f.name] = i
	}
	for _, c := range p.unique(at, changes) {
		i, there := place[c.name]
		if !there {
			i = len(fields)
			fields = append(fields, field{name: c.name})
		}
		fields[i].value = p.patched(at+"/"+pointer(c.name), fields[i].value, c.value)
	}
	return encodeObject(fields)
}

// patched returns what a value becomes: nil if it is removed.
func (p *parser) patched(at string, old, change json.RawMessage) json.RawMessage {
	switch change[0] {
	case 'n':
		return nil
	case '{':
		changes, _ := object(change) // it was decoded already
		return p.merge(at, old, changes)
	}
	return change
}

// encodeObject leaves out fields without a value.
func encodeObject(fields []field) json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for _, f := range fields {
		if f.value == nil {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		name, _ := json.Marshal(f.name) // a string can be encoded
		b.Write(name)
		b.WriteByte(':')
		b.Write(f.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}
