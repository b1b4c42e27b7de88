package cmd_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter"
	"eventstream/internal/testenv"
)

// everything is a filter that matches all events, of this subscriber.
func everything(subscriber string) filter.Spec {
	return filter.Spec{SubscriberID: subscriber, MatchAll: true}
}

// TestRedisCluster runs on three primaries and kills one after the other.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	c := testenv.RedisCluster(t)
	p := newPipelineOn(t, c.Addr)
	f := p.flow(2, append(specs[:2:2], everything("away"), everything("all")))
	away := f.listeners[2]
	f.continues("the start")
	for i, node := range c.Nodes {
		away.leave()
		node.Kill()
		node.Restart()
		c.Wait(t)
		f.continues("kill -9 of node " + node.Addr)
		away.comeBack(f.gateways[i%2])
		f.paused("node killed and started again")
	}
	f.finish()
}

// TestRedisFailover loses the last writes of Redis, several times, while some
// listeners are there, one has left before, and one leaves with a cursor to what
// gets lost.
func TestRedisFailover(t *testing.T) {
	t.Parallel()
	pair := testenv.RedisPair(t)
	p := newPipelineOn(t, pair.Addr)
	f := p.flow(2, append(specs[:2:2], everything("before"), everything("during"), everything("all")))
	before, during := f.listeners[2], f.listeners[3]
	f.continues("the start")
	for i := range 4 {
		before.leave()
		f.continues("one is away")
		pair.StopReplication()
		f.continues("the replica lags")
		during.leave()
		f.paused("nothing")
		pair.Failover()
		if i%2 == 0 { // before and after lanes are filled again
			before.comeBack(f.gateways[0])
			during.comeBack(f.gateways[1])
		}
		f.continues("failover")
		if i%2 == 1 {
			before.comeBack(f.gateways[1])
			during.comeBack(f.gateways[0])
		}
		f.paused("failover")
	}
	f.finish()
}

// TestColdStart starts with an empty Redis and a topic with a history within the
// lanes' retention, which a slow filter service fills them with. A client that comes
// meanwhile without a cursor gets nothing of it, but what is produced after its hello.
func TestColdStart(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.service("api")
	p.addFilter(everything("s"))
	first := p.service("filter") // makes the topic
	first.kill()
	p.flushRedis()
	prod := p.producer()
	made := func(i int) source {
		return parseSource(t, fmt.Appendf(nil, `{"event_id":"e%d","event_type":"x","user_id":"u"}`, i))
	}
	const history = 3 * 4096 // of one partition, which is taken up in so many batches
	var acked sync.WaitGroup
	acked.Add(history)
	for i := range history {
		s := made(i)
		prod.Produce(t.Context(), []byte(s.user), s.data, nil, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
			acked.Done()
		})
	}
	acked.Wait()
	p.service("filter", "--append-interval", "2s")
	l := p.listen(p.service("gateway"), "s")
	news := made(history)
	p.send(prod, news)
	l.wait(1, time.Minute)
	l.expect("s", []source{news})
}
