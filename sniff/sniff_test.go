package sniff

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestLook: shapes of events that companies have.
func TestLook(t *testing.T) {
	t.Parallel()
	header := func(pairs ...string) (h []kgo.RecordHeader) {
		for i := 0; i < len(pairs); i += 2 {
			h = append(h, kgo.RecordHeader{Key: pairs[i], Value: []byte(pairs[i+1])})
		}
		return h
	}
	kinds := []string{"created", "paid", "refunded"}
	for _, tt := range []struct {
		name   string
		record func(i int) kgo.Record
		want   string // the guess, its places by name
		format string // the most frequent one
		types  int
	}{
		{"as filters have it", func(i int) kgo.Record {
			return kgo.Record{Value: fmt.Appendf(nil, `{"event_type":%q,"user_id":"u%d","amount":%d.5,"timestamp":"2026-09-21T14:13:20Z","type":"x"}`, kinds[i%3], i, i)}
		}, "", formatJSON, 3},
		{"Stripe", func(i int) kgo.Record {
			return kgo.Record{Value: fmt.Appendf(nil, `{"id":"evt_%d","object":"event","type":"charge.%s","created":%d,"data":{"object":{"id":"ch_%d","customer":"cus_%d","amount":%d,"status":"ok"}}}`,
				i, kinds[i%3], 1790000000+i, i, i, 100*i)}
		}, "event_type=type user_id=data.object.customer amount=data.object.amount timestamp=created as unix", formatJSON, 3},
		{"Shopify", func(i int) kgo.Record {
			return kgo.Record{Headers: header("X-Shopify-Topic", "orders/"+kinds[i%3]),
				Value: fmt.Appendf(nil, `{"id":%d,"total_price":"%d.94","customer":{"id":%d},"created_at":"2026-09-21T14:13:20-04:00"}`, i, i, i)}
		}, "event_type=the header X-Shopify-Topic user_id=customer.id as string amount=total_price as number timestamp=created_at", formatJSON, 3},
		{"Segment", func(i int) kgo.Record {
			return kgo.Record{Value: fmt.Appendf(nil, `{"type":"track","event":"Order %s","userId":"u%d","timestamp":"2026-09-21T14:13:20.123Z","properties":{"revenue":%d}}`, kinds[i%3], i, i)}
		}, "event_type=event user_id=userId amount=properties.revenue", formatJSON, 3},
		{"Debezium", func(i int) kgo.Record {
			return kgo.Record{Value: fmt.Appendf(nil, `{"before":null,"after":{"id":%d,"email":"a@example.org"},"source":{"table":"users"},"op":"c","ts_ms":%d}`, i, 1790000000123+i)}
		}, "envelope=debezium", formatJSON, 1},
		{"Debezium with its schema", func(i int) kgo.Record {
			return kgo.Record{Value: fmt.Appendf(nil, `{"schema":{"type":"struct"},"payload":{"before":null,"after":{"customer_id":%d,"total":"%d.50"},"source":{"ts_ms":1790000000123},"op":%q}}`, i, i, string("cud"[i%3]))}
		}, "envelope=debezium user_id=after.customer_id as string amount=after.total as number", formatJSON, 3},
		{"JSON in a frame", func(i int) kgo.Record {
			return kgo.Record{Value: fmt.Appendf([]byte("\x00\x00\x00\x00\x07"), `{"kind":%q}`, kinds[i%3])}
		}, "format=json_schema event_type=kind", formatFramed, 3},
		{"EventBridge", func(i int) kgo.Record {
			return kgo.Record{Value: fmt.Appendf(nil, `{"version":"0","detail-type":"Order %s","source":"shop","time":"2026-09-21T14:13:20Z","account":"123","detail":{"amount":%d}}`, kinds[i%3], i)}
		}, "event_type=detail-type user_id=account amount=detail.amount timestamp=time", formatJSON, 3},
		{"CloudEvents", func(i int) kgo.Record {
			return kgo.Record{Headers: header("ce_specversion", "1.0", "ce_id", fmt.Sprint(i), "ce_type", kinds[i%3], "ce_source", "/shop"), Value: []byte(`{"amount":1}`)}
		}, "", formatCloudEvent, 3},
		{"Avro with a registry", func(i int) kgo.Record {
			return kgo.Record{Value: []byte{0, 0, 0, 0, 7, 2, byte(i), 4}}
		}, "", Framed, 0},
		{"tombstones", func(int) kgo.Record { return kgo.Record{} }, "", formatNull, 0},
		{"text", func(int) kgo.Record { return kgo.Record{Value: []byte("hello")} }, "", formatText, 0},
		{"a list", func(int) kgo.Record { return kgo.Record{Value: []byte("[1]")} }, "", formatOther, 0},
		{"binary", func(int) kgo.Record { return kgo.Record{Value: []byte("\x01\xff\xfe")} }, "", formatBinary, 0},
		{"a mark", func(int) kgo.Record { return kgo.Record{Value: []byte("\xef\xbb\xbf{}")} }, "", formatMark, 0},
		{"a bad envelope", func(int) kgo.Record {
			return kgo.Record{Headers: header("content-type", "application/cloudevents+json"), Value: []byte("{")}
		}, "", formatBad, 0},
		{"types without end are none", func(i int) kgo.Record {
			return kgo.Record{Value: fmt.Appendf(nil, `{"type":"t%d","kind":%q}`, i, kinds[i%3])}
		}, "event_type=kind", formatJSON, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var records []*kgo.Record
			for i := range 300 {
				r := tt.record(i)
				records = append(records, &r)
			}
			rep := Look(records, nil)
			var got []string
			if rep.Format != "" {
				got = append(got, "format="+rep.Format)
			}
			if rep.Envelope != "" {
				got = append(got, "envelope="+string(rep.Envelope))
			}
			for _, g := range rep.Fields {
				text := g.Field.Name + "=" + g.Field.Place.String()
				if as := g.Field.As.String(); as != "" {
					text += " as " + as
				}
				got = append(got, text)
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("guessed %s, want %s", text, tt.want)
			}
			if len(rep.Formats) != 1 || rep.Formats[0].What != tt.format || rep.Records != 300 {
				t.Errorf("formats %v of %d, want %s", rep.Formats, rep.Records, tt.format)
			}
			if len(rep.Types) != tt.types || rep.Partial != (tt.types == 0) {
				t.Errorf("types %v, partial %t, want %d", rep.Types, rep.Partial, tt.types)
			}
		})
	}
}

// opened are frames of which the first byte of the body tells what is in it.
type opened struct{}

func (opened) Open(value []byte) (format string, data []byte, err error) {
	switch value[5] {
	case 'a':
		return "avro", []byte(`{"type":"x"}`), nil
	case 'p':
		return "protobuf", []byte(`{"kind":"x"}`), nil
	}
	return "", nil, errors.New("unknown")
}

// TestLookIntoFrames: the format that most records have is that of the source.
func TestLookIntoFrames(t *testing.T) {
	t.Parallel()
	var records []*kgo.Record
	for _, body := range []string{"a", "a", "p", "-"} {
		records = append(records, &kgo.Record{Value: append([]byte{0, 0, 0, 0, 7}, body...)})
	}
	records = append(records, &kgo.Record{Value: []byte(`{"event":"y"}`)})
	rep := Look(records, opened{})
	want := "[{record of a Schema Registry: avro 2} {JSON object 1} {record of a Schema Registry, but it can't be read 1} {record of a Schema Registry: protobuf 1}]"
	if got := fmt.Sprint(rep.Formats); got != want || rep.Format != "avro" || !rep.Partial || fmt.Sprint(rep.Types) != "[{x 2}]" {
		t.Errorf("got %+v, want formats %s", rep, want)
	}
	if len(rep.Fields) != 1 || rep.Fields[0].Field.Path != "type" {
		t.Errorf("guessed %v", rep.Fields)
	}
}

func FuzzLook(f *testing.F) {
	f.Add([]byte(`{"type":"a","user":{"id":7},"":{"":1},"ts":1e400}`), "kind", []byte("x"))
	f.Add([]byte("\x00\x00"), "", []byte(nil))
	f.Fuzz(func(t *testing.T, value []byte, header string, text []byte) {
		r := &kgo.Record{Value: value, Headers: []kgo.RecordHeader{{Key: header, Value: text}}}
		if rep := Look([]*kgo.Record{r, r}, nil); rep.Records != 2 || len(rep.Formats) != 1 {
			t.Errorf("report %+v", rep)
		}
	})
}
