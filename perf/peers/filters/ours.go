package main

import (
	"fmt"
	"math/bits"
	"strconv"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/filter/index"
)

// ours is package filter as the filter service uses it. It is the only engine
// that gets events as raw JSON.
type ours struct {
	events  []occurrence
	index   *index.Index
	snap    *index.Snapshot
	decoder event.Decoder
	matcher index.Matcher
	pairs   []pair
}

func newOurs(w workload, specOf func(query) (filter.Spec, error)) (*ours, error) {
	e := &ours{events: w.events, index: index.New(index.Options{})}
	for i, q := range w.queries {
		spec, err := specOf(q)
		if err != nil {
			return nil, fmt.Errorf("our filter %d: %w", i, err)
		}
		e.index.Add(e.index.Intern(&spec), index.Slot(i))
	}
	e.snap = e.index.Snapshot()
	return e, nil
}

// requested is q's Spec by way of the JSON that a request brings, which is
// checked.
func requested(q query) (filter.Spec, error) {
	return filter.ParseSpec(fmt.Appendf(nil, `{"subscriber_id":"s","event_types":%s,"user_tiers":%s,"min_amount":%s}`,
		list(q.types), list(q.tiers), q.min), nil)
}

// ready is q's Spec without that.
func ready(q query) (filter.Spec, error) {
	amount, err := strconv.ParseFloat(q.min, 64)
	return filter.Spec{SubscriberID: "s", EventTypes: q.types, UserTiers: q.tiers, MinAmount: &amount}, err
}

func (e *ours) match(events []int) int {
	e.pairs = e.pairs[:0]
	for _, i := range events {
		ev, err := e.decoder.Decode(e.events[i].raw, e.snap.Paths())
		if err != nil {
			panic(err) // newWorkload writes JSON
		}
		e.matcher.Match(e.snap, ev)
		for base, mask := range e.matcher.All() {
			for ; mask != 0; mask &= mask - 1 {
				slot := int32(base) + int32(bits.TrailingZeros64(mask))
				e.pairs = append(e.pairs, pair{int32(i), slot})
			}
		}
	}
	return len(e.pairs)
}

func (e *ours) found() []pair { return e.pairs }

func (e *ours) close() {}
