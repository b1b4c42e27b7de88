package pipeline

import (
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/replay"
)

// A replay by time gives the records whose own time is in [since, until). In a partition times
// need not be in order: a producer's clock may be ahead, and a record may come late. Kafka
// finds the first record of a time or later. So
//
//   - nothing of since or later is below the first record of since or later: it is read from
//     there, and what is older is left out;
//   - behind the first record of until or later there may be more from before until. If times
//     are out of order by no more than Config.TimeSkew, none is behind the first record of
//     until + TimeSkew or later: it is read up to there. A replay that meets records which are
//     further out of order tells that it does not know the rest.

// times is what a replay of one partition goes by. Only the scan touches it while its ride
// is aboard.
type times struct {
	since, until int64 // ms; until is not included
	skew         int64 // ms; negative if nobody wants to know of disorder

	upTo     int64 // records below were looked at
	newest   int64 // time of these
	disorder bool  // one was older than another before it, by more than skew
}

// allTimes leaves nothing out.
var allTimes = times{since: math.MinInt64, until: math.MaxInt64, skew: -1}

func timesOf(r replay.Request, skew time.Duration) times {
	t := allTimes
	if !r.Since.IsZero() {
		t.since = r.Since.UnixMilli()
	}
	if !r.Until.IsZero() {
		t.until, t.skew, t.newest = r.Until.UnixMilli(), skew.Milliseconds(), math.MinInt64
	}
	return t
}

// has reports whether a record's time was asked for.
func (t *times) has(r *kgo.Record) bool {
	ms := r.Timestamp.UnixMilli()
	return t.since <= ms && ms < t.until
}

// look takes note of records that were read, in [from, to).
func (t *times) look(records []*kgo.Record, from, to int64) {
	if t.skew < 0 {
		return
	}
	for _, r := range records {
		if r.Offset < max(from, t.upTo) || r.Offset >= to {
			continue
		}
		ms := r.Timestamp.UnixMilli()
		if ms < 0 { // it has no time, and says nothing of the order
			continue
		}
		t.upTo, t.newest = r.Offset+1, max(t.newest, ms)
		t.disorder = t.disorder || ms < t.newest-t.skew
	}
}
