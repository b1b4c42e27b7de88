package lane

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// How much one read of lanes brings is bounded by bytes: an entry is 64 KiB and one event,
// which may have megabytes. Redis counts entries alone, so that their size is guessed by
// those that came before, and few are asked for until that was right.

const (
	defaultReadBytes = 16 << 20
	firstEntries     = 16   // of a reader that was not behind
	mostEntries      = 256  // of a read
	mostEntrySize    = 8e6  // what is guessed at most
	leastEntrySize   = 1000 // and at least
	mostTimeout      = 10 * time.Second
)

// reading is what all reads of a Redis share, also those that come after a failure.
type reading struct {
	budget int          // bytes of entries that reads bring at a time, about
	size   atomic.Int64 // of an entry, as it is guessed; 0 if there was none yet
	late   atomic.Int64 // reads in a row that did not come through in time
	tails  atomic.Int64 // connections that read at the same time
}

// share is what one of the connections that read may bring at a time.
func (r *reading) share() int { return r.budget / int(max(r.tails.Load(), 1)) }

// entries returns how many there are in so many bytes: at least one.
func (r *reading) entries(bytes int) int {
	return min(max(bytes/int(max(r.size.Load(), leastEntrySize)), 1), mostEntries)
}

// timeout is how long a read may take: longer if one was late that asked for as little as
// can be.
func (r *reading) timeout() time.Duration {
	if r.size.Load() < mostEntrySize {
		return callTimeout
	}
	return min(callTimeout*time.Duration(r.late.Load()+1), mostTimeout)
}

// saw takes note of a read's entries. A larger size counts at once, a smaller one by and by.
func (r *reading) saw(entries []Entry) (bytes int) {
	for i := range entries {
		bytes += len(entries[i].Blob)
	}
	if len(entries) == 0 {
		return 0
	}
	r.late.Store(0)
	mean, size := int64(bytes/len(entries)), r.size.Load()
	if mean < size {
		mean = (3*size + mean) / 4
	}
	r.size.Store(mean)
	return bytes
}

// failed takes note of a read that failed: if it took too long, the next asks for less.
func (r *reading) failed(err error) {
	if errors.Is(err, context.DeadlineExceeded) {
		r.late.Add(1)
		r.size.Store(min(8*max(r.size.Load(), 64<<10), mostEntrySize))
	}
}
