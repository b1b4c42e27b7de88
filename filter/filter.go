// Package filter is the filter language and its engine. A Filter selects events
// for one subscriber; an Index finds the subscribers whose filters match an
// event without trying the filters one by one. The package does no I/O.
package filter

import "eventstream/event"

// ID identifies a filter: a UUID in its usual text form.
type ID string

// Filter is a stored filter.
type Filter struct {
	ID       ID    `json:"id"`
	Revision int64 `json:"revision"` // 1 when created, one more with each change
	Spec
}

// Spec is what a subscriber asks for: the events that meet all the conditions
// that are present. A condition on an attribute that the event lacks, or has
// with another type, is not met. Strings are compared byte for byte.
type Spec struct {
	SubscriberID string   `json:"subscriber_id"`
	EventTypes   []string `json:"event_types,omitempty"` // event_type is one of these
	UserTiers    []string `json:"user_tiers,omitempty"`  // user_tier is one of these
	MinAmount    *float64 `json:"min_amount,omitempty"`  // amount >= this
	MatchAll     bool     `json:"match_all,omitempty"`   // confirms that no condition is meant
}

// Match reports whether ev meets the conditions of s. It is the definition that
// the Index is tested against.
func (s *Spec) Match(ev *event.Event) bool {
	return oneOf(s.EventTypes, ev.Type) && oneOf(s.UserTiers, ev.UserTier) &&
		(s.MinAmount == nil || ev.HasAmount && ev.Amount >= *s.MinAmount)
}

func oneOf(allowed []string, got []byte) bool {
	if len(allowed) == 0 {
		return true
	}
	for _, a := range allowed {
		if a == string(got) && got != nil {
			return true
		}
	}
	return false
}
