package topic

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// However small the fetches were, Next returns all that waits, up to maxBatch.
func TestNextTakesAllFetches(t *testing.T) {
	p := newPartition(0, 1<<20, func() {})
	p.SeekTo(0)
	p.plan() // the reader is there
	const n = maxBatch + 10
	for o := range int64(n) {
		p.put([]*kgo.Record{{Offset: o, Value: []byte("x")}})
	}
	next := int64(0)
	for _, want := range []int{maxBatch, 10, 0} {
		recs, err := p.Next(t.Context(), time.Millisecond)
		if err != nil || len(recs) != want {
			t.Fatalf("Next = %d records, %v; want %d", len(recs), err, want)
		}
		for _, r := range recs {
			if r.Offset != next {
				t.Fatalf("offset %d, want %d", r.Offset, next)
			}
			next++
		}
	}
	if p.bytes != 0 {
		t.Errorf("%d bytes are counted in an empty queue", p.bytes)
	}
}
