package filter

import "errors"

// Facts about stored filters that callers act on. They are told here, not in
// the store, for the services that must not know which store they use.
var (
	ErrNotFound    = errors.New("not found") // a filter, or what a subscriber acknowledged
	ErrConflict    = errors.New("filter has another revision")
	ErrSubscriber  = errors.New("filter belongs to another subscriber")
	ErrUnavailable = errors.New("filter store unavailable")
	ErrMarkLost    = errors.New("changes since the mark are no longer known")
	ErrTaken       = errors.New("the filter store is another pipeline's")
	ErrKeyReused   = errors.New("idempotency key was used for something else")
)

// Change tells what a filter is now, or what it was when it was Deleted. Of two
// Changes of one filter the one with the higher Revision is the later. Its JSON
// stands in the control stream.
type Change struct {
	Filter
	Deleted bool `json:"deleted,omitempty"`
}

// Mark is a place among a store's changes. Only the store that made it can read
// it. The zero Mark stands before all changes.
type Mark string
