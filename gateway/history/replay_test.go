package history

import (
	"context"
	"slices"
	"testing"

	"eventstream/wire"
)

// told is a client that notes what it is told.
type told struct{ before, after []int64 }

func (c *told) Send(context.Context, []*Event, []int64) error { return nil }

func (c *told) Lost(_ string, _ wire.Missing, before, after []int64) {
	c.before, c.after = before, after
}

// A client goes on behind events that are gone, but not behind a range in which compaction
// took some: others of it follow, and whoever dies in between must get them.
func TestReplayLost(t *testing.T) {
	for _, tt := range []struct {
		reason string
		want   int64
	}{
		{wire.GapTrimmed, 6}, {wire.GapSkipped, 6}, {wire.GapCompacted, 3},
	} {
		var c told
		r := Replay{Client: &c, At: []int64{0, 3}}
		r.lost(tt.reason, wire.Missing{Partition: 1, From: 3, To: 6})
		want := []int64{0, tt.want}
		if !slices.Equal(c.before, []int64{0, 3}) || !slices.Equal(c.after, want) || !slices.Equal(r.At, want) {
			t.Errorf("%s: told from %v to %v, and is at %v; want it from [0 3] to %v", tt.reason, c.before, c.after, r.At, want)
		}
	}
}
