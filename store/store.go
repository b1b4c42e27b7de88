// Package store keeps filters, acknowledgements and revocations of tokens, in
// PostgreSQL or in memory.
//
// Each change of a filter raises its revision by one. A reader that wants to hold all
// filters calls Load and continues with ChangesSince, which repeats changes but skips
// none: of two states of a filter, the one with the higher revision is valid. Deletions
// are reported as changes until they are purged.
//
// Acknowledgements never go back, whatever the order in which they are saved: in each
// partition the highest position is kept, see event.Ack.Merge.
//
// Postgres and Memory keep the same promises; one test suite checks both.
package store

import (
	"github.com/google/uuid"

	"eventstream/filter"
)

// Change and Mark are filter's.
type (
	Change = filter.Change
	Mark   = filter.Mark
)

// Errors that callers act on. After an error that wraps ErrUnavailable it is unknown
// whether a write was done.
var (
	ErrNotFound    = filter.ErrNotFound    // never existed, or was deleted
	ErrConflict    = filter.ErrConflict    // has another revision than ifRevision
	ErrSubscriber  = filter.ErrSubscriber  // an update would move it to another subscriber
	ErrUnavailable = filter.ErrUnavailable // the database doesn't answer, or not in time
	ErrMarkLost    = filter.ErrMarkLost    // Load again
	ErrTaken       = filter.ErrTaken       // another pipeline uses the database
	ErrKeyReused   = filter.ErrKeyReused   // CreateOnce or ImportOnce made other filters with this key
)

// newID returns an ID that sorts after those made before by this process.
func newID() filter.ID { return filter.ID(uuid.Must(uuid.NewV7()).String()) }

// canonical returns id in the form that stores compare. ErrNotFound if it is no UUID.
func canonical(id filter.ID) (filter.ID, error) {
	u, err := uuid.Parse(string(id))
	if err != nil || len(id) != len(uuid.Nil.String()) {
		return "", ErrNotFound
	}
	return filter.ID(u.String()), nil
}
