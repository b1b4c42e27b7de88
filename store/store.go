// Package store keeps filters, what subscribers acknowledged, and which tokens are
// revoked, in PostgreSQL or in memory.
//
// Each change of a filter raises its revision by one. A reader that wants to
// hold all filters Loads them and goes on with ChangesSince, which repeats
// changes but skips none: of two states of a filter, the one with the higher
// revision counts. Deleted filters are told as changes until they are Purged.
//
// What is acknowledged never goes back, whoever saves it and in whatever order:
// in each partition the furthest position counts, see event.Ack.Merge.
//
// Postgres and Memory keep the same promises; the tests hold them to one suite.
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

// What callers act on. An error that wraps ErrUnavailable leaves it open
// whether a write was done.
var (
	ErrNotFound    = filter.ErrNotFound    // it was never there, or is gone
	ErrConflict    = filter.ErrConflict    // its revision is not the one asked for
	ErrSubscriber  = filter.ErrSubscriber  // an update would move it to another subscriber
	ErrUnavailable = filter.ErrUnavailable // the database doesn't answer, or not in time
	ErrMarkLost    = filter.ErrMarkLost    // Load again
	ErrTaken       = filter.ErrTaken       // another pipeline uses the database
	ErrKeyReused   = filter.ErrKeyReused   // CreateOnce or ImportOnce made other filters with this key
)

// newID returns an ID that sorts after those made before by this process.
func newID() filter.ID { return filter.ID(uuid.Must(uuid.NewV7()).String()) }

// canonical returns id as the stores compare it. What is no UUID is not found.
func canonical(id filter.ID) (filter.ID, error) {
	u, err := uuid.Parse(string(id))
	if err != nil || len(id) != len(uuid.Nil.String()) {
		return "", ErrNotFound
	}
	return filter.ID(u.String()), nil
}
