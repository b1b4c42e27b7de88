package format

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// wellKnown are the messages that are more than their members.
var wellKnown = map[protoreflect.FullName]func(*protoReader, *protoMessage, []byte) error{
	"google.protobuf.Timestamp":   (*protoReader).timestamp,
	"google.protobuf.Duration":    (*protoReader).span,
	"google.protobuf.FieldMask":   (*protoReader).fieldMask,
	"google.protobuf.Struct":      (*protoReader).bare,
	"google.protobuf.ListValue":   (*protoReader).bare,
	"google.protobuf.Value":       (*protoReader).bare,
	"google.protobuf.DoubleValue": (*protoReader).bare,
	"google.protobuf.FloatValue":  (*protoReader).bare,
	"google.protobuf.Int64Value":  (*protoReader).bare,
	"google.protobuf.UInt64Value": (*protoReader).bare,
	"google.protobuf.Int32Value":  (*protoReader).bare,
	"google.protobuf.UInt32Value": (*protoReader).bare,
	"google.protobuf.BoolValue":   (*protoReader).bare,
	"google.protobuf.StringValue": (*protoReader).bare,
	"google.protobuf.BytesValue":  (*protoReader).bare,
	"confluent.type.Decimal":      (*protoReader).decimal,
}

// parts are the first fields of a message, by their numbers.
type parts struct {
	numbers [4]int64
	bytes   [4][]byte
}

func (r *protoReader) parts(body []byte) (p parts, err error) {
	err = r.scan(body, 0, len(body), func(number protowire.Number, typ protowire.Type, _, value, end int) error {
		if number >= protowire.Number(len(p.numbers)) {
			return nil
		}
		switch typ {
		case protowire.VarintType:
			n, _ := protowire.ConsumeVarint(body[value:end])
			p.numbers[number] = int64(n)
		case protowire.BytesType:
			p.bytes[number], _ = protowire.ConsumeBytes(body[value:end])
		}
		return nil
	})
	return p, err
}

// timestamp appends RFC 3339 in UTC, or the members if there is none for it.
func (r *protoReader) timestamp(m *protoMessage, body []byte) error {
	p, err := r.parts(body)
	if err != nil {
		return err
	}
	seconds, nanos := p.numbers[1], p.numbers[2]
	t := time.Unix(seconds, nanos).UTC()
	if nanos < 0 || nanos >= 1e9 || t.Year() < 0 || t.Year() > 9999 {
		return r.message(m, body)
	}
	r.out = appendTime(r.out, t, time.RFC3339Nano, seconds)
	return nil
}

// span appends seconds, as "1.5s", or the members if that can't be.
func (r *protoReader) span(m *protoMessage, body []byte) error {
	p, err := r.parts(body)
	if err != nil {
		return err
	}
	seconds, nanos := p.numbers[1], p.numbers[2]
	if nanos <= -1e9 || nanos >= 1e9 || seconds > 0 && nanos < 0 || seconds < 0 && nanos > 0 || seconds < -1<<53 || seconds > 1<<53 {
		return r.message(m, body)
	}
	sign := ""
	if seconds < 0 || nanos < 0 {
		sign, seconds, nanos = "-", -seconds, -nanos
	}
	text := fmt.Sprintf("%s%d.%09d", sign, seconds, nanos)
	r.out = appendString(r.out, []byte(strings.TrimRight(strings.TrimRight(text, "0"), ".")+"s"))
	return nil
}

// fieldMask appends paths with commas between them.
func (r *protoReader) fieldMask(_ *protoMessage, body []byte) error {
	var paths []string
	size := 0
	err := r.scan(body, 0, len(body), func(number protowire.Number, typ protowire.Type, _, value, end int) error {
		if number == 1 && typ == protowire.BytesType {
			path, _ := protowire.ConsumeBytes(body[value:end])
			size += len(path) + 1
			if err := room(r.out, size); err != nil {
				return err
			}
			paths = append(paths, string(path))
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.out = appendString(r.out, []byte(strings.Join(paths, ",")))
	return nil
}

// decimal appends a number, or the members if it can't be one.
func (r *protoReader) decimal(m *protoMessage, body []byte) error {
	p, err := r.parts(body)
	if err != nil {
		return err
	}
	scale := int64(int32(p.numbers[3]))
	if scale < 0 || scale > maxScale || len(p.bytes[1]) > maxDecimal {
		return r.message(m, body)
	}
	r.out = appendDecimal(r.out, p.bytes[1], int(scale))
	return nil
}

// anything appends the message that is in an Any, with its type in the member @type. If that
// is not among the known ones, the member value has it in base64.
func (r *protoReader) anything(_ *protoMessage, body []byte, known map[protoreflect.FullName]*protoMessage) error {
	p, err := r.parts(body)
	if err != nil {
		return err
	}
	url, value := p.bytes[1], p.bytes[2]
	if err := room(r.out, len(url)); err != nil {
		return err
	}
	r.out = append(r.out, `{"@type":`...)
	r.out = appendString(r.out, url)
	m := known[protoreflect.FullName(url[strings.LastIndexByte(string(url), '/')+1:])]
	switch {
	case m == nil:
		if err := room(r.out, len(value)); err != nil {
			return err
		}
		r.out = append(r.out, `,"value":`...)
		r.out = appendBase64(r.out, value)
	case m.plain:
		err = r.nested(m, value)
	default:
		r.out = append(r.out, `,"value":`...)
		err = r.value(m, value)
	}
	r.out = append(r.out, '}')
	return err
}

// nested appends the members of a message that is in another one.
func (r *protoReader) nested(m *protoMessage, body []byte) error {
	r.depth++
	err := r.worked(len(m.fields) + 1)
	if err == nil {
		err = r.members(m, body, true)
	}
	r.depth--
	return err
}
