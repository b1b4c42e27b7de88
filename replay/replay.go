// Package replay is how gateways and the API ask a filter service for a
// subscriber's events that Kafka still holds. The service evaluates the
// subscriber's filters as they are now.
//
// A Stream holds every matching event of the range that was asked for, in order
// of each partition, or says what is lost. It is complete only if it ends with
// io.EOF: what broke off is asked for again from the Next of the last Batch of
// each partition on, and nothing is missing or comes twice.
package replay

import (
	"errors"
	"time"

	"eventstream/event"
	"eventstream/wire"
)

// Request says whose events are asked for, and which.
type Request struct {
	Subscriber string
	Topic      event.TopicID // that From and To are of; zero: whatever the topic is

	From  []int64   // first offset, by partition; nil: see Since
	Since time.Time // only records of this time or later; without From, all of them that there are

	// To is the offset to stop before, by partition; nil: see Until. It can be
	// at most Kafka's end. A partition that From doesn't name is asked for from its
	// beginning; of one that To doesn't name, nothing is.
	To    []int64
	Until time.Time // instead of To: only records from before this time; zero: the ends as they are now
}

// Lost is a range of offsets, To not included, whose events are not passed on.
type Lost struct {
	Partition int32
	From, To  int64
	Reason    string // one of reasons
}

// Batch is a step of one partition.
type Batch struct {
	Partition int32
	Next      int64  // every offset of the partition below has been passed on, or is in Lost
	Entry     []byte // matched events, for a lane.Unpacker, without recipients; may be empty
	Lost      *Lost  // what is lost below Next, mostly nil; of wire.GapCompacted it is among the events of Entry, else before them
}

// Why a request is not served. A Client asks the next service after ErrDenied,
// ErrElsewhere and ErrUnavailable, and tells of an *Unavailable if none is left.
var (
	ErrRequest     = errors.New("the request is wrong")
	ErrOtherTopic  = errors.New("the offsets are of another topic")
	ErrBeyondEnd   = errors.New("the offsets are beyond Kafka's end")
	ErrDenied      = errors.New("the replay secret is missing or wrong")
	ErrElsewhere   = errors.New("the subscriber is served elsewhere")
	ErrUnavailable = errors.New("replay is not available now")
)

// ErrBroken reports a Stream that the service ended before it was complete.
var ErrBroken = errors.New("replay broke off")

// reasons are those of a Lost, as they are written in a stream.
var reasons = [...]string{1: wire.GapTrimmed, 2: wire.GapLimit, 3: wire.GapLost, 4: wire.GapSkipped, 5: wire.GapCompacted}
