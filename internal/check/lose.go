package check

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"eventstream/internal/check/cluster"
	"eventstream/internal/check/judge"
	"eventstream/wire"
)

// loss is what Kafka has lost of a partition that services had read. From then on clients
// may be told a gap of it.
type loss struct {
	cluster.Loss
	since judge.Seq
}

// loseRecords cuts off the end of a partition's log. Services know of it before events
// get the offsets again: who does not look before the log has grown can't know. Nor can
// they if Redis, which another fault has emptied, does not know yet how far they were.
func loseRecords(ctx context.Context, f *fault) error {
	c := f.check.cluster
	k := c.Broker()
	parts := []any{k}
	for _, r := range c.Redis() {
		parts = append(parts, r)
	}
	readers, free := f.takeThese(filters, filters(c), parts...)
	defer free()
	goOn, err := f.check.load.hold(ctx)
	if err != nil {
		return err
	}
	defer goOn()
	if err := caughtUp(ctx, c); err != nil {
		return err
	}
	ends, err := c.Ends(ctx)
	if err != nil {
		return err
	}
	maps.DeleteFunc(ends, func(_ int32, end int64) bool { return end == 0 })
	if len(ends) == 0 {
		return nil
	}
	p := pick(f.rng, slices.Sorted(maps.Keys(ends)))
	f.begins(fmt.Sprintf("partition %d", p))
	_, topic := c.Kafka()
	k.Kill()
	if err := k.Cut(topic, p, 1+f.rng.Int64N(64<<10)); err != nil {
		return err
	}
	if err := k.Start(ctx); err != nil {
		return err
	}
	if err := f.lost(ctx, p, readers); err != nil {
		return err
	}
	goOn()
	pause(ctx, f.hold)
	if _, err := c.SkipLost(ctx, true); err != nil {
		return err
	}
	for _, s := range readers {
		if err := f.ready(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func caughtUp(ctx context.Context, c *cluster.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	return c.CaughtUp(ctx)
}

// lost notes what Kafka has lost, and waits until services know.
func (f *fault) lost(ctx context.Context, partition int32, readers []*cluster.Service) error {
	ends, err := f.check.cluster.Ends(ctx)
	if err != nil {
		return err
	}
	n := f.check.events.Lose(partition, ends[partition])
	read, err := f.check.cluster.SkipLost(ctx, false)
	if err != nil {
		return err
	}
	in := &f.check.faults
	in.mu.Lock()
	for _, l := range read {
		in.losses = append(in.losses, loss{l, f.began})
	}
	in.mu.Unlock()
	f.check.log.Info("Kafka has lost events", "partition", partition, "end", ends[partition], "events", n, "of them were read", read)
	if len(read) == 0 {
		return nil // nothing was read that is not there any more
	}
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	return cluster.KnowLoss(ctx, readers)
}

// lostByKafka tells whether all that the gap names was lost before.
func (in *injector) lostByKafka(g judge.Gap) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	outside := func(m wire.Missing) bool {
		return !slices.ContainsFunc(in.losses, func(l loss) bool {
			return l.since < g.At && l.Partition == m.Partition && l.From <= m.From && m.To <= l.To
		})
	}
	return g.Reason == wire.GapLost && len(g.Missing) > 0 && !slices.ContainsFunc(g.Missing, outside)
}
