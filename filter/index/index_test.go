package index

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/filter/filtertest"
)

// small returns Options by which a few filters reach all that a million do.
func small(few, leaf, bucket, list int) Options {
	return Options{
		NodeEntries: few, NodeChildren: few, BucketKeys: bucket, LeafEntries: leaf, BranchKids: leaf, PostingSlots: list,
		DirectInserts: few, LoadInserts: list, DenseMatches: list, DigestBytes: few, DigestTries: few,
	}
}

// model is an Index in the obvious way.
type model struct {
	x    *Index
	held []holding
}

type holding struct {
	spec filter.Spec
	slot Slot
	c    *Condition
}

func (m *model) add(s filter.Spec, slot Slot) {
	h := holding{s, slot, m.x.Intern(&s)}
	if m.x.Add(h.c, slot) {
		m.held = append(m.held, h)
	} else {
		m.x.Release(h.c)
	}
}

func (m *model) remove(i int) {
	h := m.held[i]
	m.held = slices.Delete(m.held, i, i+1)
	if !m.x.Remove(h.c, h.slot) {
		panic("Remove: it wasn't there")
	}
	m.x.Release(h.c)
}

func (m *model) want(raw []byte) []Slot {
	doc, err := filter.DecodeEvent(raw)
	if err != nil {
		panic(err)
	}
	found := map[Slot]bool{}
	for i := range m.held {
		if !found[m.held[i].slot] && m.held[i].spec.Match(doc) {
			found[m.held[i].slot] = true
		}
	}
	var out []Slot
	for s := range found {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// reader matches events against Snapshots.
type reader struct {
	d event.Decoder
	m Matcher
}

func (r *reader) match(s *Snapshot, raw []byte) ([]Slot, error) {
	ev, err := r.d.Decode(raw, s.Paths())
	if err != nil {
		return nil, err
	}
	r.m.Match(s, ev)
	return read(&r.m), nil
}

func read(m *Matcher) []Slot {
	var out []Slot
	for base, mask := range m.All() {
		for ; mask != 0; mask &= mask - 1 {
			out = append(out, base+Slot(bits.TrailingZeros64(mask)))
		}
	}
	slices.Sort(out)
	return out
}

// TestIndexAgainstReference adds and removes filters at random and compares
// every match with trying all filters one by one, also on a Snapshot from before.
func TestIndexAgainstReference(t *testing.T) {
	for name, o := range map[string]Options{"tiny": small(1, 2, 1, 2), "small": small(3, 4, 2, 5), "default": {}} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("sizes=%s/seed=%d", name, seed), func(t *testing.T) {
				testIndex(t, rand.New(rand.NewPCG(seed, 7)), o)
			})
		}
	}
}

func testIndex(t *testing.T, rng *rand.Rand, o Options) {
	m := &model{x: New(o)}
	var r reader
	common := []filter.Spec{filtertest.Spec(rng), filtertest.Spec(rng), filtertest.Spec(rng)} // many hold these
	for step := range 2000 {
		grow := step/500%2 == 0 // and then shrink
		if n := rng.IntN(10); n < 2 || n < 7 && grow {
			s := filtertest.Spec(rng)
			if rng.IntN(4) == 0 {
				s = common[rng.IntN(len(common))]
			}
			m.add(s, Slot(rng.IntN(40)*rng.IntN(300)))
		} else if len(m.held) > 0 {
			m.remove(rng.IntN(len(m.held)))
		}
		if rng.IntN(3) > 0 {
			continue // several changes share a generation
		}
		before, raw := m.x.Snapshot(), filtertest.Event(rng)
		want := m.want(raw)
		if got, err := r.match(before, raw); err != nil || !slices.Equal(got, want) {
			t.Fatalf("step %d, event %s: got %v, want %v", step, raw, got, want)
		}
		for range rng.IntN(3) {
			if len(m.held) > 0 && rng.IntN(2) == 0 {
				m.remove(rng.IntN(len(m.held)))
			}
			m.add(filtertest.Spec(rng), Slot(rng.IntN(40)))
		}
		m.x.Snapshot()
		if got, err := r.match(before, raw); err != nil || !slices.Equal(got, want) {
			t.Fatalf("step %d, event %s: a Snapshot changed: got %v, want %v", step, raw, got, want)
		}
	}
	if m.x.Len() != len(m.held) {
		t.Errorf("Len = %d, want %d", m.x.Len(), len(m.held))
	}
	for len(m.held) > 0 {
		m.remove(rng.IntN(len(m.held)))
	}
	checkEmpty(t, m.x)
}

// checkEmpty looks for what an Index without conditions has kept.
func checkEmpty(t *testing.T, x *Index) {
	t.Helper()
	if x.Len() != 0 || x.Conditions() != 0 || !x.root.empty() || x.root.split {
		t.Errorf("without filters: Len %d, %d conditions, root %+v; want none", x.Len(), x.Conditions(), x.root)
	}
	if taken := len(x.attrs) - len(x.spareAttr); taken != 1 || len(x.attrOf) != 1 {
		t.Errorf("without filters: %d attributes, %v; want event_type only", taken, x.attrOf)
	}
	if int(x.numbered) != len(x.spare) {
		t.Errorf("without filters: %d of %d postings are in use", int(x.numbered)-len(x.spare), x.numbered)
	}
}

// TestReadersDuringChanges has readers match while filters change. A reader's
// Snapshot holds some filters for certain; each change replaces a filter of one
// subscriber by another that matches the same events, so that one of them has to
// match at every moment.
func TestReadersDuringChanges(t *testing.T) {
	x := New(small(2, 4, 2, 4))
	const subscribers = 200
	versions := func(i int) [2]filter.Spec {
		amount := float64(i % 7)
		return [2]filter.Spec{
			{SubscriberID: "s", EventTypes: []string{"a", "b"}, MinAmount: &amount},
			{SubscriberID: "s", Where: filter.Where{"user_tier": {In: []filter.Scalar{filter.Text("x"), filter.Text("y")}}, "amount": {Gte: new(filter.Num(float64(i % 5)))}}},
		}
	}
	held := make([]*Condition, subscribers)
	for i := range held {
		v := versions(i)
		held[i] = x.Intern(&v[0])
		x.Add(held[i], Slot(i))
	}
	var published atomic.Pointer[Snapshot]
	published.Store(x.Snapshot())
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			var r reader
			raw := []byte(`{"event_type":"a","user_tier":"x","amount":9}`)
			for !stop.Load() {
				if got, err := r.match(published.Load(), raw); len(got) != subscribers {
					t.Errorf("%d subscribers, %v; want %d", len(got), err, subscribers)
					return
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(3, 3))
	for step := range 20_000 {
		i := rng.IntN(subscribers)
		v := versions(i)
		c := x.Intern(&v[step%2])
		x.Remove(held[i], Slot(i))
		x.Add(c, Slot(i))
		x.Release(held[i])
		held[i] = c
		published.Store(x.Snapshot())
	}
	stop.Store(true)
	readers.Wait()
}

func TestInternsWhatAsksForTheSame(t *testing.T) {
	x := New(Options{})
	same := []string{
		`{"subscriber_id":"a","event_types":["p","q"],"min_amount":5}`,
		`{"subscriber_id":"b","event_types":["q","p"],"min_amount":5.0}`,
		`{"subscriber_id":"c","where":{"amount":{"gte":5},"event_type":{"in":["q","p"]}}}`,
		`{"subscriber_id":"d","where":{"event_type":{"in":["q","p"]}},"any":[{"amount":{"gte":5}}]}`,
	}
	var first *Condition
	for _, body := range same {
		s, err := filter.ParseSpec([]byte(body), nil)
		if err != nil {
			t.Fatal(err)
		}
		c := x.Intern(&s)
		if first == nil {
			first = c
		}
		if c != first {
			t.Errorf("%s: a Condition of its own, want that of %s", body, same[0])
		}
	}
	if x.Conditions() != 1 {
		t.Errorf("%d Conditions, want 1", x.Conditions())
	}
}
