package filter

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Patch returns s with a JSON merge patch (RFC 7396) applied: members of the patch replace
// those of s, null removes them, objects are patched in turn. The result is checked by
// ParseSpec, and errors are its errors.
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

// merge returns target with the changes made. A target that is no object is replaced by one.
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

// patched returns the new value: nil if it is removed.
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
