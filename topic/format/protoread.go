package format

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// read appends the JSON of a message. Before it stands which of the file's messages it is.
func (s *protobufSchema) read(dst, body []byte) ([]byte, error) {
	m, body, err := s.find(body)
	if err != nil {
		return nil, err
	}
	r := protoReader{out: dst}
	if err := r.value(m, body); err != nil {
		return nil, err
	}
	return r.out, nil
}

// find returns the type of a message, and the message:
//
//	number of indexes n | index of a type at the top | index of a type in that | ... | message
//
// n 0 stands for the first type of the file. All are varints in zigzag.
func (s *protobufSchema) find(body []byte) (*protoMessage, []byte, error) {
	n, size := binary.Varint(body)
	if size <= 0 {
		return nil, nil, errShort
	}
	body = body[size:]
	if n == 0 {
		if len(s.messages) == 0 {
			return nil, nil, errors.New("the schema has no message")
		}
		return s.messages[0], body, nil
	}
	var m *protoMessage
	for in := s.messages; n > 0; n-- {
		i, size := binary.Varint(body)
		if size <= 0 {
			return nil, nil, errShort
		}
		if i < 0 || i >= int64(len(in)) {
			return nil, nil, fmt.Errorf("the schema has no message at index %d", i)
		}
		m, body = in[i], body[size:]
		in = m.inner
	}
	if m == nil {
		return nil, nil, fmt.Errorf("a list of %d indexes", n)
	}
	return m, body, nil
}

// protoReader reads one message.
type protoReader struct {
	out   []byte
	slots []slot // of the message, and of those around it
	depth int
	work  int
}

// slot is where a field of a message is in its bytes.
type slot struct {
	n           int // how often it is there
	first, last int // where the first and the last of them begin
	end         int // of the last
}

// maxWork bounds what messages cost that become little JSON.
const maxWork = 1 << 25

var (
	errWork = errors.New("it takes too much work to read it")
	errWire = errors.New("it is no Protobuf")
)

func (r *protoReader) worked(n int) error {
	if r.work += n; r.work > maxWork {
		return errWork
	}
	return full(len(r.out), r.depth)
}

// value appends a message.
func (r *protoReader) value(m *protoMessage, body []byte) error {
	r.depth++
	err := r.worked(len(m.fields) + 1)
	if err == nil {
		err = m.do(r, m, body)
	}
	r.depth--
	return err
}

func (r *protoReader) message(m *protoMessage, body []byte) error {
	r.out = append(r.out, '{')
	if err := r.members(m, body, false); err != nil {
		return err
	}
	r.out = append(r.out, '}')
	return nil
}

// members appends the members of a message, with a comma before each if there is one before
// them.
func (r *protoReader) members(m *protoMessage, body []byte, comma bool) error {
	base, err := r.locate(m, body)
	if err != nil {
		return err
	}
	for i := range m.fields {
		f, s := &m.fields[i], r.slots[base+i]
		if s.n == 0 && f.zero == nil {
			continue
		}
		if comma {
			r.out = append(r.out, ',')
		}
		comma = true
		r.out = append(r.out, f.name...)
		if err := r.field(f, s, body); err != nil {
			return err
		}
	}
	r.slots = r.slots[:base]
	return nil
}

// bare appends the one field that a message has, without its name.
func (r *protoReader) bare(m *protoMessage, body []byte) error {
	base, err := r.locate(m, body)
	if err != nil {
		return err
	}
	for i := range m.fields {
		if f, s := &m.fields[i], r.slots[base+i]; s.n > 0 || f.zero != nil {
			r.slots = r.slots[:base]
			return r.field(f, s, body)
		}
	}
	r.slots = r.slots[:base]
	r.out = append(r.out, "null"...)
	return nil
}

// locate finds the fields of a message: field i of m is in r.slots[base+i]. Those that m does
// not have, or that are written as another kind, are passed over.
func (r *protoReader) locate(m *protoMessage, body []byte) (base int, err error) {
	base = len(r.slots)
	r.slots = slices.Grow(r.slots, len(m.fields))[:base+len(m.fields)]
	clear(r.slots[base:])
	err = r.scan(body, 0, len(body), func(number protowire.Number, typ protowire.Type, start, _, end int) error {
		i, ok := m.at[number]
		if !ok || !m.fields[i].written(typ) {
			return nil
		}
		if o := m.fields[i].oneof; o >= 0 && len(m.oneofs[o]) > 1 {
			r.work += len(m.oneofs[o])
			for _, other := range m.oneofs[o] { // the last of them counts
				if other != i {
					r.slots[base+other] = slot{}
				}
			}
		}
		s := &r.slots[base+i]
		if s.n++; s.n == 1 {
			s.first = start
		}
		s.last, s.end = start, end
		return nil
	})
	return base, err
}

// written reports whether values of the field are written so.
func (f *protoField) written(typ protowire.Type) bool {
	return typ == f.wire || f.list && typ == protowire.BytesType && f.wire != protowire.StartGroupType // packed
}

// scan calls each with every field in body[from:to]: where it begins, where its value
// begins, and where it ends.
func (r *protoReader) scan(body []byte, from, to int, each func(number protowire.Number, typ protowire.Type, start, value, end int) error) error {
	for at := from; at < to; {
		if err := r.worked(1); err != nil {
			return err
		}
		number, typ, n := protowire.ConsumeTag(body[at:to])
		if n < 0 {
			return errWire
		}
		size := protowire.ConsumeFieldValue(number, typ, body[at+n:to])
		if size < 0 {
			return errWire
		}
		if err := each(number, typ, at, at+n, at+n+size); err != nil {
			return err
		}
		at += n + size
	}
	return nil
}

// field appends the value of a field.
func (r *protoReader) field(f *protoField, s slot, body []byte) error {
	switch {
	case s.n == 0:
		r.out = append(r.out, f.zero...)
		return nil
	case f.object:
		return r.enclosed('{', '}', f, s, body, func(_ protowire.Type, value []byte) error { return r.entry(f.inner, content(f, value)) })
	case f.list:
		return r.enclosed('[', ']', f, s, body, func(typ protowire.Type, value []byte) error { return r.elements(f, typ, value) })
	case f.inner != nil && s.n > 1: // parts of one message
		var whole []byte
		err := r.each(f, s, body, func(_ protowire.Type, value []byte) error {
			part := content(f, value)
			if err := r.worked(len(part)); err != nil { // it is copied, and perhaps again in each message that is in it
				return err
			}
			whole = append(whole, part...)
			return nil
		})
		if err != nil {
			return err
		}
		return r.value(f.inner, whole)
	}
	s.first = s.last
	return r.each(f, s, body, func(_ protowire.Type, value []byte) error { return r.one(f, value) })
}

// each calls do with the values of a field.
func (r *protoReader) each(f *protoField, s slot, body []byte, do func(typ protowire.Type, value []byte) error) error {
	return r.scan(body, s.first, s.end, func(number protowire.Number, typ protowire.Type, _, value, end int) error {
		if number != f.number || !f.written(typ) {
			return nil
		}
		return do(typ, body[value:end])
	})
}

// enclosed appends the values of a field in brackets. do begins each with a comma.
func (r *protoReader) enclosed(left, right byte, f *protoField, s slot, body []byte, do func(typ protowire.Type, value []byte) error) error {
	begin := len(r.out)
	if err := r.each(f, s, body, do); err != nil {
		return err
	}
	if len(r.out) == begin { // nothing but empty packed lists
		r.out = append(r.out, left)
	}
	r.out[begin] = left // in place of the first comma
	r.out = append(r.out, right)
	return nil
}

// elements appends a value of a list, or several in a packed one.
func (r *protoReader) elements(f *protoField, typ protowire.Type, value []byte) error {
	if typ == f.wire {
		r.out = append(r.out, ',')
		return r.one(f, value)
	}
	packed, n := protowire.ConsumeBytes(value)
	if n < 0 {
		return errWire
	}
	for len(packed) > 0 {
		n := protowire.ConsumeFieldValue(f.number, f.wire, packed)
		if n < 0 {
			return errWire
		}
		r.out = append(r.out, ',')
		if err := r.one(f, packed[:n]); err != nil {
			return err
		}
		packed = packed[n:]
	}
	return nil
}

// entry appends a member of a map.
func (r *protoReader) entry(m *protoMessage, body []byte) error {
	base, err := r.locate(m, body)
	if err != nil {
		return err
	}
	key, value := r.slots[base], r.slots[base+1]
	r.slots = r.slots[:base]
	r.out = append(r.out, ',')
	begin := len(r.out)
	if err := r.half(&m.fields[0], key, body); err != nil {
		return err
	}
	if r.out[begin] != '"' { // a number or a boolean
		r.out = append(r.out, '"', '"')
		copy(r.out[begin+1:], r.out[begin:len(r.out)-2])
		r.out[begin] = '"'
	}
	r.out = append(r.out, ':')
	return r.half(&m.fields[1], value, body)
}

// half appends the key or the value of an entry. One that is not there is the zero of its
// type, whatever the file says of presence.
func (r *protoReader) half(f *protoField, s slot, body []byte) error {
	switch {
	case s.n > 0:
		return r.field(f, s, body)
	case f.inner != nil:
		return r.value(f.inner, nil)
	}
	r.out = f.append(r.out, 0, nil)
	return nil
}

// one appends one value.
func (r *protoReader) one(f *protoField, value []byte) error {
	if err := r.worked(1); err != nil {
		return err
	}
	if f.inner != nil {
		return r.value(f.inner, content(f, value))
	}
	var number uint64
	switch f.wire {
	case protowire.VarintType:
		number, _ = protowire.ConsumeVarint(value)
	case protowire.Fixed32Type:
		n, _ := protowire.ConsumeFixed32(value)
		number = uint64(n)
	case protowire.Fixed64Type:
		number, _ = protowire.ConsumeFixed64(value)
	case protowire.BytesType:
		value, _ = protowire.ConsumeBytes(value)
		if err := room(r.out, len(value)); err != nil {
			return err
		}
	}
	r.out = f.append(r.out, number, value)
	return nil
}

// content returns a message without its length, or without the end of its group.
func content(f *protoField, value []byte) []byte {
	if f.wire == protowire.StartGroupType {
		value, _ = protowire.ConsumeGroup(f.number, value)
		return value
	}
	value, _ = protowire.ConsumeBytes(value)
	return value
}

// append appends a value that is no message: a number as it is written, or bytes.
func (f *protoField) append(dst []byte, number uint64, b []byte) []byte {
	switch f.kind {
	case protoreflect.BoolKind:
		return strconv.AppendBool(dst, number != 0)
	case protoreflect.EnumKind:
		if name := f.names[int32(number)]; name != nil {
			return append(dst, name...)
		}
		return strconv.AppendInt(dst, int64(int32(number)), 10)
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind:
		return strconv.AppendInt(dst, int64(int32(number)), 10)
	case protoreflect.Int64Kind, protoreflect.Sfixed64Kind:
		return strconv.AppendInt(dst, int64(number), 10)
	case protoreflect.Sint32Kind:
		return strconv.AppendInt(dst, int64(int32(protowire.DecodeZigZag(number&math.MaxUint32))), 10)
	case protoreflect.Sint64Kind:
		return strconv.AppendInt(dst, protowire.DecodeZigZag(number), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return strconv.AppendUint(dst, uint64(uint32(number)), 10)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return strconv.AppendUint(dst, number, 10)
	case protoreflect.FloatKind:
		return appendFloat(dst, float64(math.Float32frombits(uint32(number))), 32)
	case protoreflect.DoubleKind:
		return appendFloat(dst, math.Float64frombits(number), 64)
	case protoreflect.BytesKind:
		return appendBase64(dst, b)
	}
	return appendString(dst, b)
}
