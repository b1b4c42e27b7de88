// Package lane carries matched events from the filter service to the gateways
// through Redis Streams, and what the two must know of each other: who sits
// where (presence) and what changed (the control stream).
//
// A lane is one stream for each Kafka partition and Shard. An entry packs the matched
// events of one batch, with the addresses of their recipients, and is appended
// exactly once: the position up to which the partition is done is compared and
// moved in the same step. Whatever a store loses, it loses together with its
// position, so that a writer that goes on from the position fills it again.
//
// Redis and Memory keep the same promises; the tests hold them to one suite.
package lane

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"eventstream/event"
	"eventstream/filter"
)

// ErrNoTopic reports that no filter service has told yet which topic the lanes carry.
var ErrNoTopic = errors.New("no filter service has started on this store yet")

// ErrControlLost reports that the control stream doesn't hold the changes after
// a ControlID any more: it was trimmed, rolled back or wiped. The reader has to
// start again from the presence hashes.
var ErrControlLost = errors.New("control stream lost its position")

// ControlRetention is how long the control stream keeps its changes.
const ControlRetention = 10 * time.Minute

// Topic is what the lanes carry.
type Topic struct {
	Name       string // in Kafka; empty from versions that did not tell
	ID         event.TopicID
	Partitions int32
	Shards     int32 // every subscriber is in one of them, and each has lanes of its own
}

// Position tells how far a partition has come.
type Position struct {
	Partition int32
	Next      int64     // every offset below is done; -1 if the store knows nothing of this partition
	First     int64     // the lane is complete from this offset on
	Synced    ControlID // every offset from Next on is matched with at least this much of the control stream applied
	Beat      int64     // another one after each Append that was accepted, also one that moved nothing
	Lost      Loss      // what Kafka lost last; zero if nothing
	End       int64     // the partition's end in Kafka at some time before: what is below was produced by then; 0 if that is not known
	Skipped   Skips     // what an operator has the lane pass over
}

// Append is one step of a partition: from offset Expect to Next.
type Append struct {
	Shard      Shard
	Partition  int32
	Topic      event.TopicID
	Expect     int64
	Next       int64
	Entry      []byte    // packed events; empty if none matched and only the position moves
	Last       int64     // offset of the last event in Entry
	TrimBefore int64     // offsets below may be trimmed away; 0 for none
	Synced     ControlID // how much of the control stream was applied when the events were matched
	End        int64     // for Position.End
	Skipped    Skips     // what the writer knows is to be passed over
}

// Entry is one entry of a lane. Its events have offsets above those of the
// entry before and up to Last. After a store lost writes, batches may be cut
// differently: a reader skips by event offset, not by entry.
type Entry struct {
	Partition int32
	Last      int64
	After     int64  // where the entry before ended, or the lane began if that is further; a reader that has not come so far has missed events
	Blob      []byte // see Unpacker
}

// Batch is what Tail passes on at a time.
type Batch struct {
	Entries []Entry
	// Positions, where present, were read before Entries: with this Batch,
	// every entry below Position.Next has been passed on.
	Positions []Position
}

// Seated says which subscriber a seat belongs to.
type Seated struct {
	Seat       event.Seat
	Subscriber string
}

// Announcement is what a gateway tells of its seats.
type Announcement struct {
	Gateway event.Gateway
	Seq     uint64        // one more with each announcement of this gateway; kept in its hash
	TTL     time.Duration // how long the hash outlives its gateway
	All     bool          // Joined is every seat that counts: it replaces the hash
	Joined  []Seated      // into the hash, then into the control stream
	Vacated []event.Seat  // out of the hash: resuming from them is over
	Forgot  []event.Seat  // into the control stream: events need not be addressed to them any more
}

// Beat is what a gateway finds in the store when it shows that it is alive.
type Beat struct {
	Epoch string // identity of the store's content; "" if the store is empty
	Seq   uint64 // of the gateway's hash; 0 if there is none
}

// Change is one entry of the control stream. Besides ID and, for seats,
// Gateway, one of the others is set.
type Change struct {
	ID      ControlID
	Gateway event.Gateway
	Joined  []Seated
	Forgot  []event.Seat
	Filter  *filter.Change
	Bulk    bool  // many filters changed at once: the filter store tells which
	Unknown error // a filter's change that this version can't read: a filter.ErrUnknown
}

// ControlID is a place in the control stream: the ID of a Redis stream entry.
type ControlID struct{ Ms, Seq uint64 }

// Compare orders IDs as the stream does.
func (a ControlID) Compare(b ControlID) int {
	return cmp.Or(cmp.Compare(a.Ms, b.Ms), cmp.Compare(a.Seq, b.Seq))
}

// String returns the ID as Redis writes it: "1700000000000-0".
func (a ControlID) String() string {
	return strconv.FormatUint(a.Ms, 10) + "-" + strconv.FormatUint(a.Seq, 10)
}

// ParseControlID is the inverse of ControlID.String.
func ParseControlID(s string) (ControlID, error) {
	ms, seq, _ := strings.Cut(s, "-")
	m, err1 := strconv.ParseUint(ms, 10, 64)
	n, err2 := strconv.ParseUint(seq, 10, 64)
	if err1 != nil || err2 != nil {
		return ControlID{}, fmt.Errorf("control id %.40q: want <ms>-<seq>", s)
	}
	return ControlID{m, n}, nil
}
