package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"eventstream/gateway/uptime"
	"eventstream/lane"
)

// errTopicChanged reports that the topic was made anew, or is served in another number
// of shards: all positions have become meaningless.
var errTopicChanged = errors.New("the topic was made anew, or its filter services have another number of shards; the gateway moves on to that")

// topicEvery is how often a gateway looks whether the topic has changed, unless somebody
// joins.
const topicEvery = 2 * time.Second

// carry reads the lanes of the topic, and of the one that takes its place, until ctx
// ends. Between two topics nobody is connected: clients come back with cursors of the
// old one, and are told that there is a gap.
func (g *Gateway) carry(ctx context.Context) error {
	for ctx.Err() == nil {
		reading, stop := context.WithCancel(ctx)
		var running sync.WaitGroup
		for _, r := range g.laneReaders() {
			lock := g.watchdog.Lock("the lock of the lanes' reader", r.Lock()) // held while a batch is divided
			running.Go(func() {
				defer lock.Done()
				r.Run(reading)
			})
		}
		for uptime.Sleep(ctx, min(topicEvery, g.cfg.timeout)) == nil && !errors.Is(g.look(ctx), errTopicChanged) {
		}
		if ctx.Err() == nil {
			g.log.Warn(errTopicChanged.Error())
			g.sendAway(ctx)
		}
		stop()
		running.Wait()
		topic := g.begin(ctx)
		if ctx.Err() != nil {
			break
		}
		g.setUp(topic)
		g.moving.Store(false)
		g.log.Info("reading another topic, or other shards", "partitions", topic.Partitions, "shards", len(g.laneReaders()))
	}
	return nil
}

// sendAway closes all connections, and lets nobody in.
func (g *Gateway) sendAway(ctx context.Context) {
	g.admitMu.Lock()
	g.moving.Store(true)
	g.admitMu.Unlock()
	g.admitted.Wait()
	g.closeAll("the topic was made anew, or divided anew; reconnect")
	for g.open.Load() > 0 && uptime.Sleep(ctx, 10*time.Millisecond) == nil { // the sweeper cuts off who does not answer
	}
}

// look takes up partitions that were added to the topic. A filter service tells of them
// before it begins with them.
//
// Therefore whoever joins has this done after its seat was announced: either it is
// addressed in all that a partition holds from then on, or the partition is taken up
// before the connection's floor is found, or the end of following its old seat.
func (g *Gateway) look(ctx context.Context) error {
	g.lookMu.Lock()
	defer g.lookMu.Unlock()
	var t lane.Topic
	err := g.within(ctx, func(ctx context.Context) (err error) {
		t, err = g.lanes.Topic(ctx)
		return err
	})
	ours := g.topic.Load()
	switch {
	case errors.Is(err, lane.ErrNoTopic): // the store was emptied: no filter service has begun with it
		return nil
	case err != nil:
		return fmt.Errorf("look for the topic: %w", err)
	case t.ID != ours.ID || t.Shards != ours.Shards:
		return errTopicChanged
	case t.Partitions <= ours.Partitions:
		return nil
	}
	for _, r := range g.laneReaders() {
		r.Grow(int(t.Partitions))
	}
	g.topic.Store(&t)
	g.log.Info("the topic has more partitions; taken up", "from", ours.Partitions, "to", t.Partitions)
	return nil
}
