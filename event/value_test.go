package event

import (
	"math"
	"math/rand/v2"
	"testing"
)

// floats are those at which something changes, and many at random.
func floats() []float64 {
	all := []float64{
		0, math.Copysign(0, -1), math.SmallestNonzeroFloat64, 0x1p-1022, 0.1, 1, 1.5, 2, 1 << 53, math.MaxFloat64, math.Inf(1),
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		if f := math.Float64frombits(r.Uint64()); !math.IsNaN(f) {
			all = append(all, f, math.Round(r.Float64()*1e4)/100)
		}
	}
	for _, f := range all {
		all = append(all, -f)
	}
	return all
}

func TestNumberKeyOrder(t *testing.T) {
	all := floats()
	for _, a := range all[:200] {
		for _, b := range all {
			x, y := NumberKey(a), NumberKey(b)
			if (x < y) != (a < b) || (x == y) != (a == b) {
				t.Fatalf("the keys of %v and %v are %#x and %#x", a, b, x, y)
			}
		}
	}
}

func TestNumberKeyInverse(t *testing.T) {
	for _, f := range floats() {
		if got := KeyNumber(NumberKey(f)); got != f || got == 0 && math.Signbit(got) {
			t.Errorf("KeyNumber(NumberKey(%v)) = %v", f, got)
		}
	}
}

func TestNumberKeyNeighbours(t *testing.T) {
	for _, f := range floats() {
		next := math.Nextafter(f, math.Inf(1))
		want := NumberKey(f) + 1
		if next == 0 {
			want++ // past the key of -0, which nothing has
		}
		if got := NumberKey(next); f != next && got != want {
			t.Errorf("NumberKey(%v) = %#x, want %#x, after that of %v", next, got, want, f)
		}
	}
}

func TestValueTime(t *testing.T) {
	want, _ := ParseTime([]byte("2026-01-02T03:04:05Z"))
	for _, tt := range []struct {
		v    Value
		want uint64
		ok   bool
	}{
		{Value{Kind: String, Text: []byte("2026-01-02T05:04:05+02:00")}, want, true},
		{Value{Kind: String, Text: []byte("2026-01-02")}, 0, false},
		{Value{Kind: String}, 0, false},
		{Value{Kind: Number, Key: want}, 0, false},
		{Value{Kind: Other}, 0, false},
	} {
		for range 2 { // the second answer is remembered
			if key, ok := tt.v.Time(); key != tt.want || ok != tt.ok {
				t.Errorf("Time of %s = %d, %t, want %d, %t", showValue(&tt.v), key, ok, tt.want, tt.ok)
			}
		}
	}
}
