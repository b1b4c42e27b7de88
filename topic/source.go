package topic

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/filter"
)

// Source says how the records of a topic are read as events. A nil *Source takes JSON and
// CloudEvents whose type is called event_type.
type Source struct {
	mapping  *event.Mapping
	outside  []Place // of the fields that are not in the JSON
	format   Format
	envelope Envelope
}

// Format turns the values of records into JSON. It is used by several at once.
type Format interface {
	// Append appends the JSON of a value to dst, and returns it. If the error is not
	// ErrNotYet, the value can never be read.
	Append(ctx context.Context, dst, value []byte) ([]byte, error)
}

// ErrNotYet reports a record that can't be read now, as its schema is not known. It is
// neither an event nor a dead letter until it can.
var ErrNotYet = errors.New("the record's schema is not known yet")

// ErrNoSchema reports a record whose schema the registry says it does not have. If the error
// is not ErrNotYet too, nobody waits for it any more.
var ErrNoSchema = errors.New("the Schema Registry does not have it")

// Field says where events have what filters call Name.
type Field struct {
	Name string
	Place
	As event.As
}

// Place is where something is: exactly one of these is set.
type Place struct {
	Path       string // in the JSON, as filters write it
	Header     string // the last of this name
	CloudEvent string // an attribute or extension of the CloudEvent
	Const      string
	Key, Topic bool // the record's
}

// String names the place.
func (p Place) String() string {
	switch {
	case p.Header != "":
		return "the header " + p.Header
	case p.CloudEvent != "":
		return "the CloudEvents attribute " + p.CloudEvent
	case p.Const != "":
		return fmt.Sprintf("the constant %.60q", p.Const)
	case p.Key:
		return "the record's key"
	case p.Topic:
		return "the topic's name"
	}
	return p.Path
}

// check tells what is wrong with a place.
func (p Place) check() error {
	set := 0
	for _, is := range []bool{p.Path != "", p.Header != "", p.CloudEvent != "", p.Const != "", p.Key, p.Topic} {
		if is {
			set++
		}
	}
	if set != 1 {
		return errors.New("want one of path, header, key, topic, const, cloudevent")
	}
	if _, ok := filter.ParsePath(p.Path); !ok && p.Path != "" {
		return fmt.Errorf("%.60q: want a path such as metadata.type; a dot or backslash that belongs to a name is written after a backslash", p.Path)
	}
	return nil
}

// NewSource returns a Source of JSON or CloudEvents, or of what is in an envelope, if that is
// not empty, with fields where they say.
func NewSource(fields []Field, envelope Envelope) (*Source, error) {
	s := &Source{envelope: envelope}
	fields = envelope.fields(fields)
	if len(fields) == 0 {
		return s, nil
	}
	mapped := make([]event.Field, len(fields))
	typeAt := ""
	for i, f := range fields {
		if err := f.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if strings.ContainsAny(f.Name, `.\`) {
			return nil, fmt.Errorf("%.60q: want a name without dots", f.Name)
		}
		mapped[i] = event.Field{Name: f.Name, As: f.As}
		if f.Path != "" {
			mapped[i].Path, _ = filter.ParsePath(f.Path)
		} else {
			s.outside = append(s.outside, f.Place)
		}
		if f.Name == "event_type" {
			typeAt = f.Place.String()
		}
	}
	var err error
	s.mapping, err = event.NewMapping(mapped, typeAt)
	return s, err
}

// In returns the Source for records of a format: it has their JSON.
func (s *Source) In(f Format) *Source {
	in := new(Source)
	if s != nil {
		*in = *s
	}
	in.format = f
	return in
}

// Mapping is that of events without a record: what is outside their JSON is a member there.
func (s *Source) Mapping() *event.Mapping {
	if s == nil {
		return nil
	}
	return s.mapping.Inner()
}

// A Decoder decodes records one after another and reuses its memory. The zero value works.
// It is not safe for concurrent use.
type Decoder struct {
	events event.Decoder
	json   []byte // of a record whose value is something else
}

// keepJSON bounds what a Decoder keeps of it: it lives long, and large events are rare.
const keepJSON = 256 << 10

// Decode returns the JSON of the event that a record carries, and a view of it. Errors are
// those of Value, of the Format and of event.Decoder. Both are valid until the Decoder's
// next call.
func (s *Source) Decode(ctx context.Context, d *Decoder, r *kgo.Record, paths *event.Paths) (data []byte, ev *event.Event, err error) {
	if s == nil {
		if data, err = Value(r); err != nil {
			return nil, nil, err
		}
		if ev, err = d.events.Decode(data, paths); err != nil {
			return nil, nil, framed(data, err)
		}
		return data, ev, nil
	}
	if s.format == nil {
		data, err = Value(r)
	} else {
		data, err = s.formatted(ctx, d, r)
	}
	if err == nil {
		data, err = s.envelope.Open(data)
	}
	if err != nil {
		return nil, nil, err
	}
	if s.mapping == nil {
		ev, err = d.events.Decode(data, paths)
	} else {
		outside := make([][]byte, 0, 8)
		for _, p := range s.outside {
			outside = append(outside, p.of(r))
		}
		ev, err = d.events.DecodeMapped(data, paths, s.mapping, outside)
	}
	if err != nil {
		return nil, nil, framed(data, err)
	}
	return data, ev, nil
}

// formatted returns a record's JSON by the Format.
func (s *Source) formatted(ctx context.Context, d *Decoder, r *kgo.Record) (data []byte, err error) {
	if r.Value == nil {
		return nil, ErrTombstone
	}
	if cap(d.json) > keepJSON {
		d.json = nil
	}
	if data, err = s.format.Append(ctx, d.json[:0], r.Value); err != nil {
		return nil, err
	}
	d.json = data
	return data, nil
}

// of returns what a record has at a place, nil if that is nothing.
func (p Place) of(r *kgo.Record) []byte {
	switch {
	case p.Header != "":
		return header(r, p.Header)
	case p.CloudEvent != "":
		return cloudEventAttribute(r, p.CloudEvent)
	case p.Key:
		return r.Key
	case p.Topic:
		return []byte(r.Topic)
	}
	return []byte(p.Const)
}
