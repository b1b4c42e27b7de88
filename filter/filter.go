// Package filter is the filter language: what a Filter may say, how it is parsed,
// validated, stored and explained, and what it means. Spec.Match defines the meaning,
// one filter and one event at a time; package filter/index finds the matching filters
// among millions. The package does no I/O.
package filter

// ID identifies a filter: a UUID in its usual text form.
type ID string

// Filter is a stored filter.
type Filter struct {
	ID       ID    `json:"id"`
	Revision int64 `json:"revision"` // 1 when created, one more with each change
	Spec
}

// Spec is what a subscriber asks for: the events that meet all the conditions
// that are present. LANGUAGE.md says what each means, to the corner.
//
// The lists and amounts are short for conditions in Where:
//
//	event_types  {"event_type": {"in": […]}}    min_amount  {"amount": {"gte": …}}
//	user_tiers   {"user_tier": {"in": […]}}     max_amount  {"amount": {"lte": …}}
//	user_ids     {"user_id": {"in": […]}}       countries   {"country": {"in": […]}}
type Spec struct {
	SubscriberID string   `json:"subscriber_id"`
	EventTypes   []string `json:"event_types,omitempty"`
	UserTiers    []string `json:"user_tiers,omitempty"`
	UserIDs      []string `json:"user_ids,omitempty"`
	Countries    []string `json:"countries,omitempty"`
	MinAmount    *float64 `json:"min_amount,omitempty"`
	MaxAmount    *float64 `json:"max_amount,omitempty"`
	Where        Where    `json:"where,omitempty"`
	Any          []Where  `json:"any,omitempty"`       // at least one of these holds
	Expr         string   `json:"expr,omitempty"`      // CEL, as the subscriber wrote it
	ExprAny      []Where  `json:"expr_any,omitempty"`  // what Expr was translated to: at least one of these holds
	MatchAll     bool     `json:"match_all,omitempty"` // confirms that every event may have to be looked at
}
