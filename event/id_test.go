package event

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestParseID(t *testing.T) {
	for _, tt := range []struct {
		s    string
		want ID
		ok   bool
	}{
		{"0-0", ID{0, 0}, true},
		{"3-10293", ID{3, 10293}, true},
		{"2147483647-9223372036854775807", ID{math.MaxInt32, math.MaxInt64}, true},
		{"2147483648-0", ID{}, false},
		{"0-9223372036854775808", ID{}, false},
		{"", ID{}, false},
		{"-", ID{}, false},
		{"3", ID{}, false},
		{"3-", ID{}, false},
		{"-3", ID{}, false},
		{"3--1", ID{}, false},
		{"-3-1", ID{}, false},
		{"3-1-2", ID{}, false},
		{"+3-1", ID{}, false},
		{" 3-1", ID{}, false},
		{"03-1", ID{}, false}, // one event has one ID
		{"3-01", ID{}, false},
		{"3_0-1", ID{}, false},
		{"0x3-1", ID{}, false},
	} {
		got, err := ParseID(tt.s)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("ParseID(%q) = %v, %v, want %v, ok %t", tt.s, got, err, tt.want, tt.ok)
		}
	}
}

func TestIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := ID{rapid.Int32Min(0).Draw(t, "partition"), rapid.Int64Min(0).Draw(t, "offset")}
		if got, err := ParseID(want.String()); err != nil || got != want {
			t.Errorf("%s: got %v, %v", want, got, err)
		}
		g := Gateway(rapid.Uint64().Draw(t, "gateway"))
		if got, err := ParseGateway(g.String()); err != nil || got != g {
			t.Errorf("%s: got %v, %v", g, got, err)
		}
		a := Address{g, Seat(rapid.Uint32().Draw(t, "seat"))}
		if got, err := ParseAddress(a.String()); err != nil || got != a {
			t.Errorf("%s: got %v, %v", a, got, err)
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add("3-10293")
	f.Add("03--1")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseID(s); err == nil && id.String() != s {
			t.Errorf("ParseID(%q) = %v, whose text is another", s, id)
		}
	})
}

func FuzzParseGateway(f *testing.F) {
	f.Add("0123456789abcdef")
	f.Add("0123456789ABCDEF")
	f.Fuzz(func(t *testing.T, s string) {
		if g, err := ParseGateway(s); err == nil && g.String() != s {
			t.Errorf("ParseGateway(%q) = %v, whose text is another", s, g)
		}
	})
}

func FuzzParseAddress(f *testing.F) {
	f.Add("00000000deadbeef-12")
	f.Add("00000000DEADBEEF-012")
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := ParseAddress(s); err == nil && a.String() != s {
			t.Errorf("ParseAddress(%q) = %v, whose text is another", s, a)
		}
	})
}
