package check

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"eventstream/internal/check/cluster"
)

// loseLeader moves a partition to a broker of its own, which goes away. A filter service
// that restarts meanwhile is ready again, and all other partitions go on.
func loseLeader(ctx context.Context, f *fault) error {
	c := f.check.cluster
	k, some := c.Broker(), filters(c)
	some, free := f.takeThese(filters, []*cluster.Service{pick(f.rng, some)}, k)
	defer free()
	ends, err := c.Ends(ctx)
	if err != nil {
		return err
	}
	p := int32(f.rng.IntN(len(ends)))
	second, err := c.Second(ctx)
	if err != nil {
		return err
	}
	if err := c.Place(ctx, p, 2); err != nil {
		return err
	}
	f.begins(fmt.Sprintf("partition %d", p))
	if f.rng.IntN(2) == 0 {
		second.Kill()
	} else if err := second.Stop(); err != nil {
		return err
	}
	gone := f.without(ctx, p, some)
	if err := second.Start(ctx); err != nil {
		return err
	}
	if err := c.Place(ctx, p, 1); err != nil {
		return err
	}
	return errors.Join(gone, second.Stop())
}

func (f *fault) without(ctx context.Context, partition int32, restart []*cluster.Service) error {
	for _, s := range restart {
		if err := s.Stop(); err != nil {
			return err
		}
		if err := f.again(ctx, s); err != nil {
			return err
		}
	}
	sent, _ := f.check.events.Len()
	pause(ctx, f.hold)
	return f.check.othersGoOn(ctx, partition, sent)
}

const (
	othersLimit = 30 * time.Second
	othersLeast = 50 // events of a partition: one of them is surely somebody's
)

// othersGoOn waits until events come of each partition but one, if there are enough of them
// among those from number first on.
func (r *run) othersGoOn(ctx context.Context, but int32, first int) error {
	ctx, cancel := context.WithTimeout(ctx, othersLimit)
	defer cancel()
	for {
		var still []int32
		for p, n := range r.events.AckedSince(first) {
			if p != but && n >= othersLeast && r.newest.of(p) < first {
				still = append(still, p)
			}
		}
		if len(still) == 0 {
			return nil
		}
		if !pause(ctx, 100*time.Millisecond) {
			return fmt.Errorf("while partition %d has no leader nothing comes of %v", but, still)
		}
	}
}

// newest is the newest event of each partition that came to anybody, by number.
type newest struct {
	mu  sync.Mutex
	all map[int32]int
}

func (n *newest) came(partition int32, number int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all == nil {
		n.all = make(map[int32]int)
	}
	n.all[partition] = max(n.all[partition], number)
}

func (n *newest) of(partition int32) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all[partition]
}
