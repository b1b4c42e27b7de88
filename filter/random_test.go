package filter_test

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"eventstream/filter"
	"eventstream/filter/filtertest"
)

// TestGenerators: what the generators make is what they promise, and meets often.
func TestGenerators(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	seen := make(map[string]bool)
	matches, tries := 0, 0
	for range 300 {
		s := filtertest.Spec(rng)
		for _, g := range filter.Operators(&s) {
			seen[g.Op()] = true
			seen[g.Path()] = true
		}
		for range 10 {
			raw := filtertest.Event(rng)
			ev, err := filter.DecodeEvent(raw)
			if typ, _ := ev["event_type"].(string); err != nil || typ == "" {
				t.Fatalf("event %s: %v", raw, err)
			}
			if tries++; s.Match(ev) {
				matches++
			}
		}
	}
	for name := range strings.SplitSeq(filter.OperatorNames+", "+strings.Join(filtertest.Paths, ", "), ", ") {
		if !seen[name] {
			t.Errorf("no random Spec has %s", name)
		}
	}
	t.Logf("%d%% of %d tries match", 100*matches/tries, tries)
	if 100*matches < 5*tries || 100*matches > 60*tries {
		t.Errorf("%d of %d tries match, want 5%% to 60%%", matches, tries)
	}
}

// TestRandomSpecsSurvive: a Spec is the same after it was stored and read, and
// after it was read from what the API shows of it.
func TestRandomSpecsSurvive(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		s := filtertest.Spec(rng)
		survives(t, s)
	}
}

// survives fails unless s is the same after it was stored and read, and after it was parsed.
func survives(t *testing.T, s filter.Spec) {
	t.Helper()
	stored, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var again filter.Spec
	if err := json.Unmarshal(stored, &again); err != nil || !reflect.DeepEqual(again, s) {
		t.Fatalf("stored as %s and read as %+v, %v; want %+v", stored, again, err, s)
	}
	again, err = parseAgain(t, s)
	if err != nil || !reflect.DeepEqual(again, s) {
		t.Fatalf("stored as %s and parsed as %+v, %v; want %+v", stored, again, err, s)
	}
}

// parseAgain parses the JSON of s without what was made of expr.
func parseAgain(t *testing.T, s filter.Spec) (filter.Spec, error) {
	t.Helper()
	made := s.ExprAny
	s.ExprAny = nil
	body, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return filter.ParseSpec(body, func(string) ([]filter.Where, error) { return made, nil })
}
