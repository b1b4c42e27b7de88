package store

import (
	"cmp"
	"fmt"
	"slices"

	"eventstream/event"
	"eventstream/filter"
)

// merge returns one acknowledgement for each subscriber, in the order of their
// ids: all who write rows take their locks in that order, so nobody waits in a
// circle.
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

// sorted leaves those of one subscriber in their order.
func sorted(acks []event.Ack) []event.Ack {
	acks = slices.Clone(acks)
	slices.SortStableFunc(acks, func(a, b event.Ack) int { return cmp.Compare(a.Subscriber, b.Subscriber) })
	return acks
}
