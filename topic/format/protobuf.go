package format

import (
	"context"
	"embed"
	"errors"
	"io"
	"io/fs"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// protobufSchema is a .proto file, in the form that reading is fast by.
type protobufSchema struct {
	messages []*protoMessage // those at the top, in their order
}

// protoMessage is a type of messages. One that is recursive is a cycle.
type protoMessage struct {
	do     func(r *protoReader, m *protoMessage, body []byte) error
	plain  bool         // it is its members, and no more
	fields []protoField // in their order in the file
	at     map[protowire.Number]int
	oneofs [][]int         // places in fields
	inner  []*protoMessage // types that are declared in it, in their order
}

type protoField struct {
	name   []byte // as JSON, with the colon
	number protowire.Number
	kind   protoreflect.Kind
	wire   protowire.Type
	oneof  int // in oneofs; -1 if it is in none
	list   bool
	object bool   // a map
	zero   []byte // the JSON of one that is not there; nil if that is nothing
	inner  *protoMessage
	names  map[int32][]byte // of an enum, as JSON
}

// builtin are the files that Confluent's registry knows without being told.
//
//go:embed proto
var builtin embed.FS

// mainFile is the name of the schema itself. No other file can import it.
const mainFile = "the schema"

// parseProtobuf returns the last of texts, which imports those before by their names.
func parseProtobuf(names, texts []string) (schema, error) {
	files := make(map[string]string)
	for i, name := range names {
		files[name] = texts[i]
	}
	last := len(names) - 1
	delete(files, names[last])
	files[mainFile] = texts[last]
	c := protocompile.Compiler{MaxParallelism: 1, Resolver: protocompile.WithStandardImports(protocompile.CompositeResolver{
		&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(files)},
		&protocompile.SourceResolver{Accessor: openBuiltin},
	})}
	linked, err := c.Compile(context.Background(), mainFile)
	if err != nil {
		return nil, err
	}
	main := linked.FindFileByPath(mainFile)
	if main == nil {
		return nil, errors.New("the schema is empty")
	}
	p := protoCompiler{known: make(map[protoreflect.FullName]*protoMessage), files: make(map[string]bool)}
	p.file(main)
	return &protobufSchema{p.messages(main.Messages())}, nil
}

func openBuiltin(path string) (io.ReadCloser, error) {
	if !fs.ValidPath(path) {
		return nil, fs.ErrNotExist
	}
	return builtin.Open("proto/" + path)
}

type protoCompiler struct {
	known map[protoreflect.FullName]*protoMessage
	files map[string]bool
}

// file compiles all messages of a file and of those that it imports: an Any may have each.
func (p *protoCompiler) file(f protoreflect.FileDescriptor) {
	if p.files[f.Path()] {
		return
	}
	p.files[f.Path()] = true
	p.messages(f.Messages())
	for i := range f.Imports().Len() {
		p.file(f.Imports().Get(i).FileDescriptor)
	}
}

func (p *protoCompiler) messages(all protoreflect.MessageDescriptors) (list []*protoMessage) {
	for i := range all.Len() {
		list = append(list, p.message(all.Get(i)))
	}
	return list
}

func (p *protoCompiler) message(d protoreflect.MessageDescriptor) *protoMessage {
	if m := p.known[d.FullName()]; m != nil {
		return m
	}
	m := &protoMessage{do: (*protoReader).message, plain: true, at: make(map[protowire.Number]int)}
	p.known[d.FullName()] = m
	if special := wellKnown[d.FullName()]; special != nil {
		m.do, m.plain = special, false
	}
	if d.FullName() == "google.protobuf.Any" {
		m.plain = false
		m.do = func(r *protoReader, m *protoMessage, body []byte) error { return r.anything(m, body, p.known) }
	}
	m.oneofs = make([][]int, d.Oneofs().Len())
	for i := range d.Fields().Len() {
		f := p.field(d.Fields().Get(i))
		m.at[f.number] = i
		m.fields = append(m.fields, f)
		if f.oneof >= 0 {
			m.oneofs[f.oneof] = append(m.oneofs[f.oneof], i)
		}
	}
	for i := range d.Messages().Len() {
		// Serializers in Java do not count the entries of maps, which have types of their own.
		if inner := d.Messages().Get(i); !inner.IsMapEntry() {
			m.inner = append(m.inner, p.message(inner))
		}
	}
	return m
}

func (p *protoCompiler) field(d protoreflect.FieldDescriptor) protoField {
	f := protoField{
		name: append(quoted(string(d.Name())), ':'), number: d.Number(), kind: d.Kind(), wire: wires[d.Kind()],
		oneof: -1, list: d.IsList(), object: d.IsMap(),
	}
	if o := d.ContainingOneof(); o != nil {
		f.oneof = o.Index()
	}
	if d.Message() != nil {
		f.inner = p.message(d.Message())
	}
	if e := d.Enum(); e != nil {
		f.names = make(map[int32][]byte)
		for i := range e.Values().Len() {
			v := e.Values().Get(i)
			if f.names[int32(v.Number())] == nil {
				f.names[int32(v.Number())] = quoted(string(v.Name()))
			}
		}
		if e.FullName() == "google.protobuf.NullValue" {
			f.names[0] = []byte("null")
		}
	}
	switch {
	case f.list:
		f.zero = []byte("[]")
	case f.object:
		f.zero = []byte("{}")
	case !d.HasPresence():
		f.zero = f.append(nil, 0, nil)
	}
	return f
}

// wires are how values of a kind are written.
var wires = map[protoreflect.Kind]protowire.Type{
	protoreflect.BoolKind: protowire.VarintType, protoreflect.EnumKind: protowire.VarintType,
	protoreflect.Int32Kind: protowire.VarintType, protoreflect.Sint32Kind: protowire.VarintType, protoreflect.Uint32Kind: protowire.VarintType,
	protoreflect.Int64Kind: protowire.VarintType, protoreflect.Sint64Kind: protowire.VarintType, protoreflect.Uint64Kind: protowire.VarintType,
	protoreflect.Sfixed32Kind: protowire.Fixed32Type, protoreflect.Fixed32Kind: protowire.Fixed32Type, protoreflect.FloatKind: protowire.Fixed32Type,
	protoreflect.Sfixed64Kind: protowire.Fixed64Type, protoreflect.Fixed64Kind: protowire.Fixed64Type, protoreflect.DoubleKind: protowire.Fixed64Type,
	protoreflect.StringKind: protowire.BytesType, protoreflect.BytesKind: protowire.BytesType, protoreflect.MessageKind: protowire.BytesType,
	protoreflect.GroupKind: protowire.StartGroupType,
}
