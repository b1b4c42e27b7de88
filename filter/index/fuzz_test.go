package index

import (
	"math/rand/v2"
	"slices"
	"testing"

	"eventstream/filter"
	"eventstream/filter/filtertest"
)

// FuzzIndex compares the index with the plain definition. A stored Spec that
// isn't valid must not break the index either: it could come from another version.
func FuzzIndex(f *testing.F) {
	rng := rand.New(rand.NewPCG(2, 3))
	for range 20 {
		s := filtertest.Spec(rng)
		f.Add(filtertest.Stored(f, s), filtertest.Event(rng))
	}
	f.Add([]byte(`{"where":{"a..b":{"between":[1]},"":{"in":[]}},"min_amount":5,"max_amount":1}`), []byte(`{"event_type":"a"}`))
	f.Add([]byte(`{"where":{"t":{"gt":"x","lt":5,"gte":true}}}`), []byte(`{"event_type":"a","t":"x"}`))
	f.Fuzz(func(t *testing.T, spec, raw []byte) {
		var s filter.Spec
		if s.UnmarshalJSON(spec) != nil {
			return
		}
		match := func(o Options) ([]Slot, error) {
			x := New(o)
			c := x.Intern(&s)
			x.Add(c, 3)
			var r reader
			got, err := r.match(x.Snapshot(), raw)
			x.Remove(c, 3)
			x.Release(c)
			checkEmpty(t, x)
			return got, err
		}
		got, err := match(Options{})
		digested, derr := match(Options{DigestBytes: 1, DigestTries: 1})
		if !slices.Equal(got, digested) || (err == nil) != (derr == nil) {
			t.Fatalf("filter %s, event %s: %v, and %v if attributes are digested", spec, raw, got, digested)
		}
		doc, notEvent := filter.DecodeEvent(raw)
		if err != nil || notEvent != nil || s.Validate() != nil {
			return
		}
		if want := s.Match(doc); (len(got) == 1) != want {
			t.Fatalf("filter %s, event %s: match = %t, want %t", spec, raw, len(got) == 1, want)
		}
	})
}
