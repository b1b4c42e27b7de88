package format

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/sr"

	"eventstream/topic"
)

// unusable is what is wrong with a schema, and will be tomorrow.
type unusable struct{ error }

// checked returns what is wrong with an answer of the registry: with it, topic.ErrNoSchema, or
// unusable.
func checked(s sr.Schema, err error) error {
	answer, refused := errors.AsType[*sr.ResponseError](err)
	switch {
	case refused && none[answer.ErrorCode]:
		return topic.ErrNoSchema
	case err != nil && !refused && strings.Contains(err.Error(), "unknown schema type"): // the library has no name for it
		return unusable{errors.New("it is of a type that is none of AVRO, PROTOBUF and JSON")}
	case err != nil:
		return shorter(err)
	case s.Schema == "":
		return errors.New("it answers without a schema")
	}
	return nil
}

// errDoubt reports a schema that one URL does not have, while another could not be asked.
var errDoubt = errors.New("not all URLs of the Schema Registry can be asked")

// fetch asks one URL after another. The error says nothing about the schema, but for
// topic.ErrNoSchema: none of them has it.
func (r *Registry) fetch(k key) (*entry, error) {
	var unknown error
	var all []error
	first := r.first.Load()
	for i := range r.clients {
		at := (first + int64(i)) % int64(len(r.clients))
		f := fetch{cl: r.clients[at], done: make(map[string]bool)}
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		e, err := f.schema(ctx, k)
		cancel()
		switch {
		case err == nil:
			r.first.Store(at)
			return e, nil
		case errors.Is(err, topic.ErrNoSchema):
			unknown = err
		default:
			all = append(all, err)
		}
	}
	if unknown != nil && len(all) > 0 {
		return nil, fmt.Errorf("%w: %w", errDoubt, errors.Join(all...))
	}
	return nil, cmp.Or(unknown, errors.Join(all...))
}

// fetch is of one schema, with all that it refers to.
type fetch struct {
	cl    *sr.Client
	texts []string
	names []string        // of texts, by those who refer to them
	done  map[string]bool // references that are among texts
	bytes int
}

// Codes of Confluent's API that say that there is none.
var none = map[int]bool{40401: true, 40402: true, 40403: true}

func (f *fetch) schema(ctx context.Context, k key) (*entry, error) {
	e := new(entry)
	got, err := f.cl.SchemaByID(ctx, int(k.id))
	err = checked(got, err)
	if want := types[k.kind]; err == nil && got.Type != want {
		e.err = fmt.Errorf("schema id %d is of type %s, but the source's format is %s", k.id, got.Type, k.kind)
		return e, nil
	}
	if err == nil {
		err = f.references(ctx, got.References)
	}
	if err == nil {
		err = f.add("", got.Schema)
	}
	if _, ok := errors.AsType[unusable](err); err != nil && !ok {
		return nil, err
	}
	if err == nil {
		e.schema, err = f.parse(k.kind)
	}
	if err != nil {
		e.err = fmt.Errorf("schema id %d: %w", k.id, err)
	}
	return e, nil
}

// parse makes a schema of the texts. A parser that panics must not end the service: it would
// meet the same schema again when it is started again.
func (f *fetch) parse(kind Kind) (s schema, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser of %s can't take it: %v", kind, p)
		}
	}()
	return parsers[kind](f.names, f.texts)
}

// KindOf asks for the schema of an id, and returns how values are written by it.
func (r *Registry) KindOf(ctx context.Context, id uint32) (Kind, error) {
	var unknown error
	var all []error
	for _, cl := range r.clients {
		got, err := cl.SchemaByID(ctx, int(id))
		if answer, ok := errors.AsType[*sr.ResponseError](err); ok && none[answer.ErrorCode] {
			unknown = fmt.Errorf("schema id %d: %w", id, topic.ErrNoSchema)
			continue
		}
		if err != nil {
			all = append(all, shorter(err))
			continue
		}
		for kind, typ := range types {
			if typ == got.Type {
				return kind, nil
			}
		}
		return JSONSchema, nil
	}
	return "", cmp.Or(errors.Join(all...), unknown)
}

var errTooMuch = unusable{fmt.Errorf("with all that it refers to it is more than %d bytes or %d schemas", maxText, maxTexts)}

// references takes all that is referred to, each before who refers to it.
func (f *fetch) references(ctx context.Context, refs []sr.SchemaReference) error {
	for _, ref := range refs {
		at := ref.Subject + "/" + strconv.Itoa(ref.Version) + "/" + ref.Name
		if f.done[at] {
			continue
		}
		if f.done[at] = true; len(f.done) > maxTexts {
			return errTooMuch
		}
		// What was written by it stays, also when its subject was deleted since.
		got, err := f.cl.SchemaByVersion(sr.WithParams(ctx, sr.ShowDeleted), ref.Subject, ref.Version)
		if err := checked(got.Schema, err); err != nil {
			return fmt.Errorf("version %d of subject %.100q, which it refers to: %w", ref.Version, ref.Subject, err)
		}
		if err := f.references(ctx, got.References); err != nil {
			return err
		}
		if err := f.add(ref.Name, got.Schema.Schema); err != nil {
			return err
		}
	}
	return nil
}

func (f *fetch) add(name, text string) error {
	f.names, f.texts = append(f.names, name), append(f.texts, text)
	if f.bytes += len(text); f.bytes > maxText || len(f.texts) > maxTexts {
		return errTooMuch
	}
	return nil
}

// shorter leaves out what a server answers beside its message: a page, perhaps.
func shorter(err error) error {
	answer, ok := errors.AsType[*sr.ResponseError](err)
	if !ok {
		return err
	}
	if answer.StatusCode == http.StatusNotFound {
		return fmt.Errorf("%s answers 404, but not as a Schema Registry does; is its URL right?", answer.URL)
	}
	return fmt.Errorf("%s answers %d: %.200s", answer.URL, answer.StatusCode, answer.Message)
}

// types and parsers are of the kinds that the registry has schemas of.
var (
	types   = map[Kind]sr.SchemaType{Avro: sr.TypeAvro, Protobuf: sr.TypeProtobuf}
	parsers = map[Kind]func(names, texts []string) (schema, error){
		Avro:     func(_, texts []string) (schema, error) { return parseAvro(texts) },
		Protobuf: parseProtobuf,
	}
)
