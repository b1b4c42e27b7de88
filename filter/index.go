package filter

import (
	"cmp"
	"slices"

	"eventstream/event"
)

// Slot is a small dense number that the Index's owner gives to a subscriber.
type Slot uint32

// Index finds the slots whose filters match an event. A filter is filed under
// each pair of its event types and user tiers; within a pair, filters are in
// order of their min_amount, so that the matches are the front of a list.
//
// Matches may run side by side; Add and Remove must run alone.
type Index struct {
	byType map[string]map[string]*bucket // event type, user tier; "" is any
	filed  map[ID]filed
}

// bucket holds the filters of one pair.
type bucket struct {
	all      []entry // without min_amount
	byAmount []entry // ascending by min
}

type entry struct {
	min  float64
	slot Slot
	id   ID
}

type filed struct {
	slot Slot
	spec Spec
}

// NewIndex returns an empty Index.
func NewIndex() *Index {
	return &Index{byType: make(map[string]map[string]*bucket), filed: make(map[ID]filed)}
}

// Len is the number of filters in the Index.
func (x *Index) Len() int { return len(x.filed) }

// Add files f for slot. A filter with the same ID is replaced.
func (x *Index) Add(f *Filter, slot Slot) {
	x.Remove(f.ID)
	x.filed[f.ID] = filed{slot, f.Spec}
	for typ, tier := range pairs(&f.Spec) {
		tiers := x.byType[typ]
		if tiers == nil {
			tiers = make(map[string]*bucket)
			x.byType[typ] = tiers
		}
		b := tiers[tier]
		if b == nil {
			b = &bucket{}
			tiers[tier] = b
		}
		b.add(f, slot)
	}
}

// Remove takes the filter out. An unknown ID is ignored.
func (x *Index) Remove(id ID) {
	old, ok := x.filed[id]
	if !ok {
		return
	}
	delete(x.filed, id)
	for typ, tier := range pairs(&old.spec) {
		tiers := x.byType[typ]
		tiers[tier].remove(id, &old.spec)
		if b := tiers[tier]; len(b.all)+len(b.byAmount) == 0 {
			delete(tiers, tier)
		}
		if len(tiers) == 0 {
			delete(x.byType, typ)
		}
	}
}

// pairs yields every pair of event type and user tier that s asks for.
func pairs(s *Spec) func(yield func(typ, tier string) bool) {
	return func(yield func(typ, tier string) bool) {
		for _, typ := range orAny(s.EventTypes) {
			for _, tier := range orAny(s.UserTiers) {
				if !yield(typ, tier) {
					return
				}
			}
		}
	}
}

var anyValue = []string{""}

func orAny(values []string) []string {
	if len(values) == 0 {
		return anyValue
	}
	return values
}

func (b *bucket) add(f *Filter, slot Slot) {
	if f.MinAmount == nil {
		b.all = append(b.all, entry{slot: slot, id: f.ID})
		return
	}
	i := b.search(*f.MinAmount)
	b.byAmount = slices.Insert(b.byAmount, i, entry{*f.MinAmount, slot, f.ID})
}

func (b *bucket) remove(id ID, s *Spec) {
	same := func(e entry) bool { return e.id == id }
	if s.MinAmount == nil {
		b.all = slices.DeleteFunc(b.all, same)
		return
	}
	i := b.search(*s.MinAmount)
	i += slices.IndexFunc(b.byAmount[i:], same)
	b.byAmount = slices.Delete(b.byAmount, i, i+1)
}

// search returns the place of the first entry whose min is at least amount.
func (b *bucket) search(amount float64) int {
	i, _ := slices.BinarySearchFunc(b.byAmount, amount, func(e entry, t float64) int { return cmp.Compare(e.min, t) })
	return i
}

// Matcher runs matches against an Index and owns the memory for their results.
// One Matcher serves one goroutine.
type Matcher struct {
	index *Index
	round uint32
	seen  []uint32 // by slot: the round in which it was last found
	found []Slot
}

// NewMatcher returns a Matcher on x.
func NewMatcher(x *Index) *Matcher { return &Matcher{index: x} }

// Match returns the slots with at least one filter that matches ev, each once,
// in no particular order. The result is valid until the next Match.
func (m *Matcher) Match(ev *event.Event) []Slot {
	m.found = m.found[:0]
	if m.round++; m.round == 0 { // wrapped: old marks could look new
		clear(m.seen)
		m.round = 1
	}
	m.matchTiers(m.index.byType[string(ev.Type)], ev)
	m.matchTiers(m.index.byType[""], ev)
	return m.found
}

func (m *Matcher) matchTiers(tiers map[string]*bucket, ev *event.Event) {
	if len(ev.UserTier) > 0 { // "" as a value is not the same as any
		m.matchBucket(tiers[string(ev.UserTier)], ev)
	}
	m.matchBucket(tiers[""], ev)
}

func (m *Matcher) matchBucket(b *bucket, ev *event.Event) {
	if b == nil {
		return
	}
	m.take(b.all)
	if !ev.HasAmount {
		return
	}
	end, _ := slices.BinarySearchFunc(b.byAmount, ev.Amount, func(e entry, amount float64) int {
		if e.min <= amount {
			return -1
		}
		return 1
	})
	m.take(b.byAmount[:end])
}

func (m *Matcher) take(entries []entry) {
	for i := range entries {
		slot := entries[i].slot
		for int(slot) >= len(m.seen) {
			m.seen = append(m.seen, 0)
		}
		if m.seen[slot] != m.round {
			m.seen[slot] = m.round
			m.found = append(m.found, slot)
		}
	}
}
