//go:build !race

package event

import "testing"

// Not under -race, where json.Valid's pool lets go of a part of what it holds.
func TestDecodeAllocs(t *testing.T) {
	var d Decoder
	raw := []byte(typical)
	n := testing.AllocsPerRun(1000, func() {
		if _, err := d.Decode(raw); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("Decode allocates %v times, want 0", n)
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
