package topic

import (
	"context"
	"testing"
	"time"
)

func TestReadsFromSeek(t *testing.T) {
	_, cfg := embedded(t, 3)
	for p := range int32(3) {
		fill(t, cfg, p, 0, 1000)
	}
	type got struct {
		partition int32
		first     int64
		n         int
	}
	results := make(chan got)
	start(t, cfg, func(ctx context.Context, p *Partition) error {
		from := int64(p.ID) * 100
		p.SeekTo(from)
		g := got{partition: p.ID, first: -1}
		for from < 1000 {
			recs, err := p.Next(ctx, time.Second)
			if err != nil {
				return err
			}
			for _, r := range recs {
				if g.first < 0 {
					g.first = r.Offset
				}
				if r.Offset != from {
					t.Errorf("partition %d: got offset %d, want %d", p.ID, r.Offset, from)
				}
				from = r.Offset + 1
				g.n++
			}
		}
		p.Done(from)
		results <- g
		<-ctx.Done()
		return nil
	})
	for range 3 {
		select {
		case g := <-results:
			if want := int64(g.partition) * 100; g.first != want || g.n != 1000-int(want) {
				t.Errorf("partition %d: got %d records from %d, want from %d", g.partition, g.n, g.first, want)
			}
		case <-time.After(patience):
			t.Fatal("timeout")
		}
	}
}
