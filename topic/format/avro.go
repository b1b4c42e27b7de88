package format

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/hamba/avro/v2"
)

// Names are what Java takes: a namespace my-server.inventory is among them, and a field größe.
// Readers need no more of names than that they are the same where they are meant to be.
func init() { avro.SkipNameValidation = true }

// avroSchema is what an Avro schema says of a value, in the form that reading is fast by.
// One that is recursive is a cycle.
type avroSchema struct {
	do      func(r *avroReader, s *avroSchema) error
	members []avroMember  // of a record
	inner   []*avroSchema // of an array or a map, one; of a union, all
	symbols [][]byte      // of an enum, as JSON
	size    int           // of a fixed
	scale   int           // of a decimal
}

// avroMember is a member of a record.
type avroMember struct {
	name   []byte // as JSON, with what is before it and the colon
	schema *avroSchema
}

// parseAvro returns the last of texts. It may use types of those before.
func parseAvro(texts []string) (schema, error) {
	cache := new(avro.SchemaCache)
	var last avro.Schema
	for _, text := range texts {
		bare, err := bareAvro(text)
		if err != nil {
			return nil, err
		}
		if last, err = avro.ParseBytesWithCache(bare, "", cache); err != nil {
			return nil, err
		}
	}
	c := avroCompiler{named: make(map[string]*avroSchema)}
	return c.compile(last)
}

// bareAvro returns a schema without what does not concern who reads by the schema that was
// written with. Above all defaults: old libraries let some pass that are not of their type.
func bareAvro(text string) ([]byte, error) {
	var tree any
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	if err := d.Decode(&tree); err != nil {
		return nil, fmt.Errorf("the schema is no JSON: %w", err)
	}
	strip(tree)
	return json.Marshal(tree)
}

func strip(tree any) {
	switch t := tree.(type) {
	case []any:
		for _, e := range t {
			strip(e)
		}
	case map[string]any:
		for _, name := range []string{"default", "aliases", "doc"} {
			delete(t, name)
		}
		for _, v := range t {
			strip(v)
		}
	}
}

type avroCompiler struct {
	named map[string]*avroSchema
}

func (c *avroCompiler) compile(s avro.Schema) (*avroSchema, error) {
	named, ok := s.(avro.NamedSchema)
	if ref, isRef := s.(*avro.RefSchema); isRef {
		named, ok = ref.Schema(), true
		s = named
	}
	if ok {
		if known := c.named[named.FullName()]; known != nil {
			return known, nil
		}
	}
	out := new(avroSchema)
	if ok {
		c.named[named.FullName()] = out
	}
	return out, c.fill(out, s)
}

func (c *avroCompiler) fill(out *avroSchema, s avro.Schema) error {
	var inner []avro.Schema
	switch s := s.(type) {
	case *avro.NullSchema:
		out.do = (*avroReader).null
	case *avro.PrimitiveSchema:
		return fillPrimitive(out, s)
	case *avro.RecordSchema:
		return c.fillRecord(out, s)
	case *avro.EnumSchema:
		out.do = (*avroReader).enum
		for _, symbol := range s.Symbols() {
			out.symbols = append(out.symbols, quoted(symbol))
		}
	case *avro.FixedSchema:
		return fillFixed(out, s)
	case *avro.ArraySchema:
		out.do, inner = (*avroReader).array, []avro.Schema{s.Items()}
	case *avro.MapSchema:
		out.do, inner = (*avroReader).object, []avro.Schema{s.Values()}
	case *avro.UnionSchema:
		out.do, inner = (*avroReader).union, s.Types()
	default:
		return fmt.Errorf("type %s is not known", s.Type())
	}
	for _, i := range inner {
		compiled, err := c.compile(i)
		if err != nil {
			return err
		}
		out.inner = append(out.inner, compiled)
	}
	return nil
}

func (c *avroCompiler) fillRecord(out *avroSchema, s *avro.RecordSchema) error {
	out.do = (*avroReader).record
	for i, f := range s.Fields() {
		member, err := c.compile(f.Type())
		if err != nil {
			return err
		}
		name := []byte(",")
		if i == 0 {
			name = []byte("{")
		}
		name = append(append(name, quoted(f.Name())...), ':')
		out.members = append(out.members, avroMember{name, member})
	}
	return nil
}

// primitives are read so, by type and logical type. Of a logical type that is not among
// them the type counts.
var primitives = map[string]func(*avroReader, *avroSchema) error{
	"boolean":                     (*avroReader).boolean,
	"int":                         (*avroReader).integer,
	"int/date":                    (*avroReader).date,
	"int/time-millis":             (*avroReader).timeMillis,
	"long":                        (*avroReader).long,
	"long/time-micros":            (*avroReader).timeMicros,
	"long/timestamp-millis":       (*avroReader).millis,
	"long/timestamp-micros":       (*avroReader).micros,
	"long/timestamp-nanos":        (*avroReader).nanos,
	"long/local-timestamp-millis": (*avroReader).localMillis,
	"long/local-timestamp-micros": (*avroReader).localMicros,
	"long/local-timestamp-nanos":  (*avroReader).localNanos,
	"float":                       (*avroReader).float,
	"double":                      (*avroReader).double,
	"bytes":                       (*avroReader).bytes,
	"string":                      (*avroReader).text,
}

// maxScale bounds the digits of a decimal after its point.
const maxScale = 1000

func fillPrimitive(out *avroSchema, s *avro.PrimitiveSchema) error {
	name := string(s.Type())
	if logical, ok := s.Prop("logicalType").(string); ok { // one that the library does not know
		name += "/" + logical
	} else if logical := s.Logical(); logical != nil {
		name += "/" + string(logical.Type())
	}
	if d, ok := s.Logical().(*avro.DecimalLogicalSchema); ok {
		out.do, out.scale = (*avroReader).decimal, d.Scale()
		return checkScale(out.scale)
	}
	if out.do = primitives[name]; out.do == nil {
		out.do = primitives[string(s.Type())]
	}
	return nil
}

func fillFixed(out *avroSchema, s *avro.FixedSchema) error {
	out.do, out.size = (*avroReader).fixed, s.Size()
	if s.Prop("logicalType") == "uuid" && s.Size() == 16 {
		out.do = (*avroReader).fixedUUID
	}
	switch logical := s.Logical().(type) {
	case *avro.DecimalLogicalSchema:
		out.do, out.scale = (*avroReader).fixedDecimal, logical.Scale()
		return checkScale(out.scale)
	case *avro.PrimitiveLogicalSchema:
		if logical.Type() == avro.Duration {
			out.do = (*avroReader).duration
		}
	}
	return nil
}

func checkScale(scale int) error {
	if scale > maxScale {
		return fmt.Errorf("a decimal of scale %d; at most %d is possible", scale, maxScale)
	}
	return nil
}
