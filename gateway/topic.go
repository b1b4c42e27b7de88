package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"eventstream/event"
	"eventstream/gateway/presence"
	"eventstream/gateway/reader"
	"eventstream/gateway/uptime"
	"eventstream/internal/watchdog"
	"eventstream/lane"
)

// topics is the topic that is served, and the readers of its lanes.
type topics struct {
	lanes    Lanes
	timeout  time.Duration // of a call to the store
	reading  reader.Config
	changed  func(topic event.TopicID, readers int) // called before the readers are there
	watchdog *watchdog.Watchdog
	log      *slog.Logger

	topic   atomic.Pointer[lane.Topic]
	readers atomic.Pointer[[]*reader.Reader] // by lane shard; set before topic is, and replaced while nobody is connected
	lookMu  sync.Mutex                       // held while partitions are taken up
}

// errTopicChanged reports that the topic was made anew, or is served in another number
// of shards: all positions have become meaningless.
var errTopicChanged = errors.New("the topic was made anew, or its filter services have another number of shards; the gateway moves on to that")

// topicEvery is how often a gateway looks whether the topic has changed, unless somebody
// joins.
const topicEvery = 2 * time.Second

// retryEvery is the pause between two looks for the filter service.
const retryEvery = 250 * time.Millisecond

// begin waits until it is known which topic the lanes carry, and in how many
// shards.
func (t *topics) begin(ctx context.Context) (topic lane.Topic) {
	said := ""
	for ; ctx.Err() == nil; uptime.Sleep(ctx, retryEvery) {
		var err error
		if topic, err = t.ask(ctx); err == nil {
			break
		}
		if err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			t.log.Info("not ready yet; waiting", "err", err)
		}
	}
	return topic
}

// ask asks the store for the topic.
func (t *topics) ask(ctx context.Context) (lane.Topic, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	return t.lanes.Topic(ctx)
}

// setUp makes the readers of the topic's lanes. From then on the gateway may be
// ready.
func (t *topics) setUp(topic lane.Topic) {
	n := max(topic.Shards, 1)
	readers := make([]*reader.Reader, n)
	for i := range n {
		readers[i] = reader.New(t.lanes, int(i), lane.Shard{Index: i, Of: n}, topic.Partitions, t.reading, t.log)
	}
	t.changed(topic.ID, int(n))
	t.readers.Store(&readers)
	t.topic.Store(&topic)
}

// laneReaders returns the readers by lane shard; none before the topic is known.
func (t *topics) laneReaders() []*reader.Reader {
	if all := t.readers.Load(); all != nil {
		return *all
	}
	return nil
}

func (t *topics) presenceReaders() (all []presence.Reader) {
	for _, r := range t.laneReaders() {
		all = append(all, r)
	}
	return all
}

// readerOf returns the reader of the lanes that a subscriber's events go through.
func (t *topics) readerOf(subscriber string) *reader.Reader {
	all := t.laneReaders()
	return all[lane.ShardOf(subscriber, int32(len(all)))]
}

// silence returns for how long lanes that are read have not answered.
func (t *topics) silence() (longest time.Duration) {
	for _, r := range t.laneReaders() {
		longest = max(longest, r.Silence())
	}
	return longest
}

// ringBytes returns how much of the lanes is in memory.
func (t *topics) ringBytes() (n int64) {
	for _, r := range t.laneReaders() {
		n += r.Past().Bytes()
	}
	return n
}

// carry reads the lanes of the topic, and of the one that takes its place, until ctx
// ends. Between two topics nobody is connected: clients come back with cursors of the
// old one, and are told that there is a gap. away sends them away and lets nobody in, and
// back lets them in again.
func (t *topics) carry(ctx context.Context, away func(context.Context), back func()) error {
	for ctx.Err() == nil {
		reading, stop := context.WithCancel(ctx)
		var running sync.WaitGroup
		for _, r := range t.laneReaders() {
			lock := t.watchdog.Lock("the lock of the lanes' reader", r.Lock()) // held while a batch is divided
			running.Go(func() {
				defer lock.Done()
				r.Run(reading)
			})
		}
		for uptime.Sleep(ctx, min(topicEvery, t.timeout)) == nil && !errors.Is(t.look(ctx), errTopicChanged) {
		}
		if ctx.Err() == nil {
			t.log.Warn(errTopicChanged.Error())
			away(ctx)
		}
		stop()
		running.Wait()
		topic := t.begin(ctx)
		if ctx.Err() != nil {
			break
		}
		t.setUp(topic)
		back()
		t.log.Info("reading another topic, or other shards", "partitions", topic.Partitions, "shards", len(t.laneReaders()))
	}
	return nil
}

// look takes up partitions that were added to the topic. A filter service tells of them
// before it begins with them.
//
// Therefore whoever joins has this done after its seat was announced: either it is
// addressed in all that a partition holds from then on, or the partition is taken up
// before the connection's floor is found, or the end of following its old seat.
func (t *topics) look(ctx context.Context) error {
	t.lookMu.Lock()
	defer t.lookMu.Unlock()
	found, err := t.ask(ctx)
	ours := t.topic.Load()
	switch {
	case errors.Is(err, lane.ErrNoTopic): // the store was emptied: no filter service has begun with it
		return nil
	case err != nil:
		return fmt.Errorf("look for the topic: %w", err)
	case found.ID != ours.ID || found.Shards != ours.Shards:
		return errTopicChanged
	case found.Partitions <= ours.Partitions:
		return nil
	}
	for _, r := range t.laneReaders() {
		r.Grow(int(found.Partitions))
	}
	t.topic.Store(&found)
	t.log.Info("the topic has more partitions; taken up", "from", ours.Partitions, "to", found.Partitions)
	return nil
}
