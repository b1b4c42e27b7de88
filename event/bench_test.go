package event

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/valyala/fastjson"
)

// flat is an event of 305 bytes and 13 attributes.
const flat = `{"event_id":"evt_00000000000042","event_type":"purchase","user_id":"user_00123456","user_tier":"premium",` +
	`"amount":129.99,"currency":"EUR","timestamp":"2026-01-02T03:04:05.678Z","country":"DE","channel":"web",` +
	`"sku":"SKU-0004711","quantity":3,"category":"home/kitchen/coffee","session":"7d3f1c9a-22b0-4a7e"}`

var flatPaths = []Path{
	{"event_type"}, {"user_tier"}, {"amount"}, {"country"}, {"sku"}, {"event_id"}, {"user_id"}, {"currency"},
	{"timestamp"}, {"channel"}, {"quantity"}, {"category"}, {"session"},
}

func BenchmarkDecode(b *testing.B) {
	if len(flat) != 305 {
		b.Fatalf("flat is of %d bytes, want 305", len(flat))
	}
	others := make([]Path, 100_000)
	for i := range others {
		others[i] = Path{fmt.Sprint("attribute", i)}
	}
	large := flat[:len(flat)-1] + `,"tags":[` + strings.Repeat(`{"name":"a tag","weight":0.5},`, 500) + `{}]}`
	for _, bb := range []struct {
		name, raw string
		paths     []Path
	}{
		{"bytes=305/attrs=1", flat, flatPaths[:1]},
		{"bytes=305/attrs=5", flat, flatPaths[:5]},
		{"bytes=305/attrs=13", flat, flatPaths},
		{"bytes=305/attrs=100k", flat, append(flatPaths[:5:5], others...)},
		{"bytes=15k/attrs=5", large, flatPaths[:5]},
		{"bytes=15k/attrs=7", large, append(flatPaths[:5:5], Path{"tags", "name"}, Path{"tags", "weight"})},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var d Decoder
			raw, paths := []byte(bb.raw), NewPaths(bb.paths)
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				if _, err := d.Decode(raw, paths); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecodeMapped decodes the same attributes as BenchmarkDecode/bytes=305/attrs=5: as they
// are, and where a Mapping says.
func BenchmarkDecodeMapped(b *testing.B) {
	raw := []byte(strings.NewReplacer(`"event_type"`, `"eventType_"`, `129.99`, `"129.99"`).Replace(flat))
	m, err := NewMapping([]Field{
		{Name: "event_type", Path: Path{"eventType_"}}, {Name: "amount", Path: Path{"amount"}, As: AsNumber}, {Name: "country"},
	}, "")
	if err != nil {
		b.Fatal(err)
	}
	var d Decoder
	paths, outside := NewPaths(flatPaths[:5]), [][]byte{[]byte("DE")}
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := d.DecodeMapped(raw, paths, m, outside); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkYardstick is what others do with the event of BenchmarkDecode: check
// it, or make a tree of it without a check.
func BenchmarkYardstick(b *testing.B) {
	raw := []byte(flat)
	b.Run("json.Valid", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			json.Valid(raw)
		}
	})
	b.Run("fastjson", func(b *testing.B) {
		var p fastjson.Parser
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			p.ParseBytes(raw)
		}
	})
}
