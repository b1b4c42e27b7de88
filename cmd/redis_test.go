package cmd_test

import (
	"testing"

	"eventstream/filter"
	"eventstream/internal/testenv"
)

// everything is a filter that matches all events, of this subscriber.
func everything(subscriber string) filter.Spec {
	return filter.Spec{SubscriberID: subscriber, MatchAll: true}
}

// TestRedisCluster runs on three primaries and kills one after the other.
func TestRedisCluster(t *testing.T) {
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
