package filter

import "errors"

// Errors of filter stores that callers act on. They are declared here because services do
// not import a store.
var (
	ErrNotFound    = errors.New("not found") // a filter, or what a subscriber acknowledged
	ErrConflict    = errors.New("filter has another revision")
	ErrSubscriber  = errors.New("filter belongs to another subscriber")
	ErrUnavailable = errors.New("filter store unavailable")
	ErrMarkLost    = errors.New("changes since the mark are no longer known")
	ErrTaken       = errors.New("the filter store is another pipeline's")
	ErrKeyReused   = errors.New("idempotency key was used for something else")
)

// Change is a filter as it is now, or as it was when it was Deleted. Of two Changes of one
// filter, the one with the higher Revision is the later. Its JSON is in the control stream.
type Change struct {
	Filter
	Deleted bool `json:"deleted,omitempty"`
}

// Mark is a position in a store's sequence of changes. Only the store that made it can read
// it. The zero Mark is before all changes.
type Mark string
