package store

import (
	"cmp"
	"fmt"
	"slices"

	"eventstream/event"
	"eventstream/filter"
)

// merge returns one acknowledgement for each subscriber, sorted by subscriber id: all
// statements lock rows in this order, so they can't deadlock.
func merge(acks []event.Ack) ([]event.Ack, error) {
	var out []event.Ack
	for _, a := range sorted(acks) {
		if err := filter.CheckSubscriberID(a.Subscriber); err != nil {
			return nil, fmt.Errorf("save acknowledgements: subscriber %.40q: %w", a.Subscriber, err)
		}
		if last := len(out) - 1; last >= 0 && out[last].Subscriber == a.Subscriber {
			out[last] = out[last].Merge(a)
			continue
		}
		out = append(out, a)
	}
	return out, nil
}

// sorted keeps the order of one subscriber's acknowledgements.
func sorted(acks []event.Ack) []event.Ack {
	acks = slices.Clone(acks)
	slices.SortStableFunc(acks, func(a, b event.Ack) int { return cmp.Compare(a.Subscriber, b.Subscriber) })
	return acks
}
