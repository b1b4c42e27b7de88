package format

import (
	"log/slog"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"eventstream/event"
	"eventstream/topic"
	"eventstream/topic/format/registrytest"
)

// The event of event.BenchmarkDecode, of 305 bytes and 13 attributes.
const flat = `{"event_id":"evt_00000000000042","event_type":"purchase","user_id":"user_00123456","user_tier":"premium",` +
	`"amount":129.99,"currency":"EUR","timestamp":"2026-01-02T03:04:05.678Z","country":"DE","channel":"web",` +
	`"sku":"SKU-0004711","quantity":3,"category":"home/kitchen/coffee","session":"7d3f1c9a-22b0-4a7e"}`

const flatAvro = `{"type":"record","name":"Flat","fields":[
	{"name":"event_id","type":"string"},{"name":"event_type","type":"string"},{"name":"user_id","type":"string"},
	{"name":"user_tier","type":"string"},{"name":"amount","type":"double"},{"name":"currency","type":"string"},
	{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"country","type":"string"},
	{"name":"channel","type":"string"},{"name":"sku","type":"string"},{"name":"quantity","type":"int"},
	{"name":"category","type":"string"},{"name":"session","type":"string"}]}`

// BenchmarkDecode reads the same event from each format, as a worker does.
func BenchmarkDecode(b *testing.B) {
	server, url := registrytest.Start(b)
	server.Add(7, sr.Schema{Type: sr.TypeAvro, Schema: flatAvro})
	r, err := NewRegistry(RegistryConfig{URLs: []string{url}}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.Close)
	avroBody := avroOf(b, flatAvro, map[string]any{
		"event_id": "evt_00000000000042", "event_type": "purchase", "user_id": "user_00123456", "user_tier": "premium", "amount": 129.99,
		"currency": "EUR", "timestamp": int64(1767323045678), "country": "DE", "channel": "web", "sku": "SKU-0004711", "quantity": 3,
		"category": "home/kitchen/coffee", "session": "7d3f1c9a-22b0-4a7e",
	})
	paths := event.NewPaths([]event.Path{{"event_type"}, {"user_tier"}, {"amount"}, {"country"}, {"sku"}})
	for _, bb := range []struct {
		name   string
		source *topic.Source
		value  []byte
	}{
		{"json", nil, []byte(flat)},
		{"avro", (*topic.Source)(nil).In(New(Avro, r)), registrytest.Framed(7, avroBody)},
		{"json_schema", (*topic.Source)(nil).In(New(JSONSchema, nil)), registrytest.Framed(7, []byte(flat))},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var d topic.Decoder
			record := &kgo.Record{Value: bb.value}
			data, _, err := bb.source.Decode(b.Context(), &d, record, paths)
			if err != nil || string(data) != flat {
				b.Fatalf("got %s, %v, want %s", data, err, flat)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := bb.source.Decode(b.Context(), &d, record, paths); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
