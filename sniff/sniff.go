// Package sniff looks at records of a topic, and says what they are: their formats, and where
// events could have what filters name. It guesses; a person decides.
package sniff

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/topic"
)

// Report is what records are.
type Report struct {
	Records  int
	Formats  []Count        // the most frequent first
	Format   string         // of a source that has most of the events; "" for JSON
	Envelope topic.Envelope // of its events
	Types    []Count        // of the events, by the guess; the most frequent first, at most maxTypes
	Fields   []Guess        // of a mapping; none where everything is called as in filters
	Partial  bool           // there are records that would be no events
}

// Frames reads values with a Schema Registry's frame.
type Frames interface {
	// Open returns the format of a value, as a source calls it, and the value's JSON.
	Open(value []byte) (format string, data []byte, err error)
}

// Count is how often something is there.
type Count struct {
	What string
	N    int
}

// Guess is where a name could be.
type Guess struct {
	Field topic.Field
	N     int // records that have it
}

const maxTypes = 20

// Look looks at records. frames may be nil.
func Look(records []*kgo.Record, frames Frames) Report {
	rep := Report{Records: len(records)}
	looked, labels, formats := make([]look, len(records)), make(map[string]int), make(map[string]int)
	for i, r := range records {
		looked[i] = lookAt(r, frames)
		labels[looked[i].label]++
		if looked[i].data != nil {
			formats[looked[i].format]++
		}
	}
	rep.Formats = counted(labels)
	if all := counted(formats); len(all) > 0 {
		rep.Format = all[0].What
	}
	changes := 0
	for _, l := range looked {
		if l.format == rep.Format && topic.IsDebezium(l.data) {
			changes++
		}
	}
	if 2*changes > formats[rep.Format] {
		rep.Envelope = topic.Debezium
	}
	seen := newSeen()
	for i, r := range records {
		if looked[i].data == nil || looked[i].format != rep.Format {
			continue
		}
		if data, err := rep.Envelope.Open(looked[i].data); err == nil {
			seen.add(r, data)
		}
	}
	rep.Fields = slices.DeleteFunc(seen.guesses(), func(g Guess) bool {
		return rep.Envelope != "" && (g.Field.Name == "event_type" || g.Field.Name == "timestamp") // it says where they are
	})
	rep.count(records, looked)
	return rep
}

// look is what is known of a record.
type look struct {
	label  string
	format string // of a source for it; "" for JSON
	data   []byte // its JSON; nil if it has none
}

func lookAt(r *kgo.Record, frames Frames) look {
	_, body, framed := topic.Frame(r.Value)
	switch {
	case framed && !topic.IsCloudEvent(r) && frames != nil:
		format, data, err := frames.Open(r.Value)
		if err != nil {
			return look{label: Framed + ", but it can't be read"}
		}
		return look{"record of a Schema Registry: " + format, format, data}
	case framed && !topic.IsCloudEvent(r) && json.Valid(body):
		return look{formatFramed, "json_schema", body}
	}
	l := look{label: formatOf(r)}
	if value, err := topic.Value(r); err == nil {
		l.data = value
	}
	return l
}

// count tries the guess on the records.
func (rep *Report) count(records []*kgo.Record, looked []look) {
	fields := make([]topic.Field, len(rep.Fields))
	for i, g := range rep.Fields {
		fields[i] = g.Field
	}
	source, err := topic.NewSource(fields, rep.Envelope)
	if err != nil {
		source = nil
	}
	var d topic.Decoder
	types := make(map[string]int)
	events := 0
	for i, r := range records {
		if looked[i].format != rep.Format || looked[i].data == nil && r.Value != nil {
			continue
		}
		in := source
		if rep.Format != "" {
			in = source.In(read(looked[i].data))
		}
		if _, ev, err := in.Decode(context.Background(), &d, r, nil); err == nil {
			types[string(ev.Type)]++
			events++
		}
	}
	rep.Partial = events < len(records)
	rep.Types = counted(types)
	rep.Types = rep.Types[:min(len(rep.Types), maxTypes)]
}

// read is a format of one value that was read before.
type read []byte

func (data read) Append(_ context.Context, dst, _ []byte) ([]byte, error) {
	return append(dst, data...), nil
}

func counted(all map[string]int) []Count {
	out := make([]Count, 0, len(all))
	for _, what := range slices.Sorted(maps.Keys(all)) {
		out = append(out, Count{what, all[what]})
	}
	slices.SortStableFunc(out, func(a, b Count) int { return cmp.Compare(b.N, a.N) })
	return out
}

// Formats of records.
const (
	formatJSON       = "JSON object"
	formatOther      = "JSON, but no object"
	formatCloudEvent = "CloudEvent"
	formatBad        = "CloudEvent that can't be read"
	Framed           = "record of a Schema Registry" // its format can't be told without that
	formatFramed     = "record of a Schema Registry: json_schema"
	formatNull       = "no value (tombstone)"
	formatMark       = "JSON after a byte order mark"
	formatText       = "text that is no JSON"
	formatBinary     = "binary"
)

func formatOf(r *kgo.Record) string {
	value, err := topic.Value(r)
	trimmed := bytes.TrimSpace(value)
	switch {
	case r.Value == nil && err != nil:
		return formatNull
	case err != nil:
		return formatBad
	case topic.IsCloudEvent(r):
		return formatCloudEvent
	case len(r.Value) > 5 && r.Value[0] == 0:
		return Framed
	case bytes.HasPrefix(r.Value, []byte("\xef\xbb\xbf")):
		return formatMark
	case json.Valid(value) && trimmed[0] == '{':
		return formatJSON
	case json.Valid(value):
		return formatOther
	case bytes.ContainsFunc(r.Value, func(c rune) bool { return c == 0xfffd || c < ' ' && !strings.ContainsRune("\t\r\n", c) }):
		return formatBinary
	}
	return formatText
}

// place is one place in records: a path, or a header.
type place struct {
	field    topic.Place
	n        int            // records that have one value there that is no object
	texts    map[string]int // different texts; nil if there are too many
	numbers  int
	numerals int // texts that are numbers
	times    int // texts that are timestamps
	largest  float64
}

// seen are all places in the records.
type seen struct {
	records int
	places  map[string]*place // by its text
}

func newSeen() *seen { return &seen{places: make(map[string]*place)} }

// Bounds of what is looked at.
const (
	maxPlaces = 2000
	maxDepth  = 4
	maxTexts  = 200 // different ones; more are no types
)

func (s *seen) add(r *kgo.Record, value []byte) {
	s.records++
	for _, h := range r.Headers {
		s.note(topic.Place{Header: h.Key}, string(h.Value))
	}
	if ev, err := filter.DecodeEvent(value); err == nil {
		s.walk(nil, ev)
	}
}

func (s *seen) walk(path event.Path, object map[string]any) {
	for name, v := range object {
		at := append(path[:len(path):len(path)], name)
		inner, ok := v.(map[string]any)
		switch {
		case name == "": // filters can't name it
		case ok && len(at) < maxDepth:
			s.walk(at, inner)
		case !ok:
			s.note(topic.Place{Path: filter.FormatPath(at)}, v)
		}
	}
}

func (s *seen) note(at topic.Place, v any) {
	p := s.places[at.String()]
	if p == nil {
		if len(s.places) == maxPlaces {
			return
		}
		p = &place{field: at, texts: make(map[string]int)}
		s.places[at.String()] = p
	}
	switch v := v.(type) {
	case string:
		p.n++
		p.text(v)
	case json.Number:
		p.n++
		p.numbers++
		if f, err := v.Float64(); err == nil {
			p.largest = max(p.largest, f)
		}
	}
}

func (p *place) text(s string) {
	if _, ok := event.ParseTime([]byte(s)); ok {
		p.times++
	}
	if len(s) > 0 && json.Valid([]byte(s)) && (s[0] == '-' || s[0] >= '0' && s[0] <= '9') {
		p.numerals++
	}
	if p.texts == nil {
		return
	}
	if p.texts[s]++; len(p.texts) > maxTexts || len(s) > 200 {
		p.texts = nil
	}
}
