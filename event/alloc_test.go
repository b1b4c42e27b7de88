//go:build !race

package event

import (
	"strings"
	"testing"
)

// Not under -race, which allocates by itself.
func TestDecodeAllocs(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		paths     *Paths
	}{
		{"typical", typical, typicalPaths},
		{"event_type only", typical, nil},
		{"escapes", `{"event_type":"\u0061","user_ti\u0065r":["\n","\ud83d\ude00"],"amount":1}`, typicalPaths},
		{"numbers", `{"event_type":"a","amount":[0.1234567890123456789012345678901234567890123456789,1e-999]}`, typicalPaths},
		{"again", `{"event_type":"a","items":[{"n":1,"n":2}],"items":[{"n":3},4],"amount":1,"amount":2}`, typicalPaths},
		{"not ASCII", `{"event_type":"é","user_tier":"日本語","x":"é"}`, typicalPaths},
		{"many values", `{"event_type":"a","amount":[` + strings.Repeat("1,", 10_000) + `1]}`, typicalPaths},
	} {
		var d Decoder
		raw := []byte(tt.raw)
		n := testing.AllocsPerRun(100, func() {
			if _, err := d.Decode(raw, tt.paths); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: Decode allocates %v times, want 0", tt.name, n)
		}
	}
}

func TestParseTimeAllocs(t *testing.T) {
	for _, s := range []string{"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678901234+02:00", "an identifier, no time"} {
		if n := testing.AllocsPerRun(100, func() { ParseTime([]byte(s)) }); n != 0 {
			t.Errorf("ParseTime(%q) allocates %v times, want 0", s, n)
		}
	}
}

func TestParseIDAllocs(t *testing.T) {
	n := testing.AllocsPerRun(1000, func() {
		if _, err := ParseID("2147483647-9223372036854775807"); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("ParseID allocates %v times, want 0", n)
	}
}
