package filter_test

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"eventstream/filter"
	"eventstream/filter/filtertest"
)

// testdata/corners.txt has the cases; what is here is about the form of events.

// TestMatchTakesFloats: an event may be decoded with float64 as well.
func TestMatchTakesFloats(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	compared := 0
	for range 1000 {
		s, raw := filtertest.Spec(rng), filtertest.Event(rng)
		var floats map[string]any
		if json.Unmarshal(raw, &floats) != nil {
			continue // 1e999 has no float64
		}
		compared++
		numbers, err := filter.DecodeEvent(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := s.Match(floats), s.Match(numbers); got != want {
			t.Errorf("%+v on %s: with float64 %t, with json.Number %t", s, raw, got, want)
		}
	}
	if compared < 500 {
		t.Errorf("compared only %d", compared)
	}
}

func TestDecodeEventRefusesWhatIsNoObject(t *testing.T) {
	for _, raw := range []string{``, `null`, `[]`, `1`, `{`, `{}{}`, `{} x`} {
		if ev, err := filter.DecodeEvent([]byte(raw)); err == nil {
			t.Errorf("DecodeEvent(%s) = %v, want an error", raw, ev)
		}
	}
}
