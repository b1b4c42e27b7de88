package lane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// Writers and a reader over outages of Redis, which may each lose acknowledged
// writes: all entries arrive, in order and once, though both have to go on after
// errors, and the writers from where Redis says.

func TestRedisCrash(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{AppendOnly: true})
	f := flowOn(t, server.Addr)
	for range 2 {
		server.Kill()
		server.Restart()
		f.goesOn("kill -9")
	}
}

func TestRedisClusterCrash(t *testing.T) {
	t.Parallel()
	c := testenv.RedisCluster(t)
	f := flowOn(t, c.Addr)
	for _, node := range c.Nodes {
		node.Kill()
		node.Restart()
		c.Wait(t)
		f.goesOn("kill -9 of " + node.Addr)
	}
}

// Slots of lanes move from node to node while they are written and read.
func TestRedisClusterMoves(t *testing.T) {
	t.Parallel()
	c := testenv.RedisCluster(t)
	f := flowOn(t, c.Addr)
	for round := range 3 {
		for p := range int32(flowPartitions) {
			key := f.redis.laneKey(Shard{}, p)
			c.Move(t, c.Slot(t, key), c.Nodes[(int(p)+round)%len(c.Nodes)])
		}
		f.goesOn("slots moved")
	}
}

func TestRedisFailover(t *testing.T) {
	t.Parallel()
	pair := testenv.RedisPair(t)
	f := flowOn(t, pair.Addr)
	for range 3 {
		pair.StopReplication()
		f.goesOn("the replica lags") // all of that gets lost
		pair.Failover()
		f.goesOn("failover")
	}
}

func TestRedisSentinelFailover(t *testing.T) {
	t.Parallel()
	pair := testenv.RedisPair(t)
	f := flowOn(t, pair.Sentinel())
	pair.Primary.Kill()
	f.goesOn("kill -9 of the master")
	pair.Primary.Restart()
	testenv.Eventually(t, goesOnWithin, func() error {
		role, err := pair.Primary.Ask("ROLE") // the sentinel cuts connections when it changes a role
		if err == nil && !strings.HasPrefix(role, "slave") {
			err = errors.New("the old master is " + role)
		}
		return err
	})
	f.goesOn("the old master is a replica")
}

const flowPartitions = 4

// flowing is lanes that are written and read.
type flowing struct {
	t     *testing.T
	redis *Redis
	next  [flowPartitions]atomic.Int64 // what was read, by partition
}

func flowOn(t *testing.T, addr string) *flowing {
	f := &flowing{t: t, redis: newRedis(t, RedisConfig{Addr: addr, Block: 20 * time.Millisecond})}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for p := range int32(flowPartitions) {
		wg.Go(func() { appendOn(ctx, f.redis, p) })
	}
	wg.Go(func() {
		if err := f.tailOn(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	f.goesOn("the start")
	return f
}

// goesOnWithin has room for the TILT mode of a Sentinel, see testenv.
const goesOnWithin = 90 * time.Second

// goesOn waits until every partition has gone on.
func (f *flowing) goesOn(after string) {
	f.t.Helper()
	began := time.Now()
	for p := range f.next {
		start := f.next[p].Load()
		testenv.Eventually(f.t, goesOnWithin, func() error {
			if at := f.next[p].Load(); at < start+500 {
				return fmt.Errorf("after %s: partition %d is at %d, was at %d", after, p, at, start)
			}
			return nil
		})
	}
	f.t.Logf("%s: all went on within %v", after, time.Since(began).Round(time.Millisecond))
}

// appendOn appends one step after the other until ctx ends.
func appendOn(ctx context.Context, r *Redis, p int32) {
	for next := int64(-1); ctx.Err() == nil; {
		got, err := int64(-1), error(nil)
		if next >= 0 {
			got, err = r.Append(ctx, step(p, next/10))
		}
		if err != nil || got < 0 {
			got, err = r.Claim(ctx, Shard{}, p, topicA, 0, 0)
		}
		if next = got; err != nil {
			next = -1
		}
	}
}

// tailOn calls Tail again after each error, until ctx ends or an entry is not
// the next step's.
func (f *flowing) tailOn(ctx context.Context) error {
	next, at := make([]int64, flowPartitions), make([]int64, flowPartitions)
	for ctx.Err() == nil {
		err := f.redis.Tail(ctx, Shard{}, next, func(b Batch) error {
			for _, e := range b.Entries {
				p := e.Partition
				for len(step(p, at[p]).Entry) == 0 {
					at[p]++
				}
				if want := step(p, at[p]); e.Last != want.Last || string(e.Blob) != string(want.Entry) {
					return fmt.Errorf("%w: partition %d: entry %d %q, want %d %q", errSequence, p, e.Last, e.Blob, want.Last, want.Entry)
				}
				at[p]++
				next[p] = e.Last + 1
				f.next[p].Store(next[p])
			}
			return nil
		})
		if errors.Is(err, errSequence) {
			return err
		}
	}
	return nil
}

var errSequence = errors.New("wrong entry")

// A Redis that hangs is an error too, and doesn't keep a Tail from ending.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	testHangs(t, server.Addr, server)
}

func TestRedisClusterHangs(t *testing.T) {
	t.Parallel()
	c := testenv.RedisCluster(t)
	r := newRedis(t, RedisConfig{Addr: c.Addr})
	testHangs(t, c.Addr, c.Owner(t, c.Slot(t, r.laneKey(Shard{}, 0))))
}

func testHangs(t *testing.T, addr string, server *testenv.RedisServer) {
	r := newRedis(t, RedisConfig{Addr: addr, Block: 100 * time.Millisecond})
	f, g := follow(t, r, []int64{0}), follow(t, r, []int64{0})
	for _, f := range []*follower{f, g} {
		f.until("a position", func() bool { return f.pos[0].Next == -1 })
	}
	for _, f := range []*follower{f, g} {
		go func() {
			for range f.batches {
			}
		}()
	}
	server.Pause()
	defer server.Resume()
	start := time.Now()
	if err := g.end(); err != nil {
		t.Errorf("Tail = %v, want nil", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("Tail took %v to end", took)
	}
	select {
	case err := <-f.done:
		if err == nil {
			t.Error("Tail = nil, want an error")
		}
	case <-time.After(15 * time.Second):
		t.Error("Tail hangs with Redis")
	}
	if _, err := r.Positions(t.Context(), Shard{}, 1); err == nil {
		t.Error("Positions = nil, want an error")
	}
}

// Whatever Redis is, it may come up later.
func TestRedisStartsLater(t *testing.T) {
	t.Parallel()
	single, cluster, pair := testenv.Redis(t), testenv.RedisCluster(t), testenv.RedisPair(t)
	sentinel := pair.Sentinel()
	for _, tt := range []struct {
		addr    string
		servers []*testenv.RedisServer
	}{
		{single.Addr, []*testenv.RedisServer{single}},
		{cluster.Addr, cluster.Nodes},
		{sentinel, []*testenv.RedisServer{pair.Watch}},
	} {
		for _, s := range tt.servers {
			s.Kill()
		}
		r := newRedis(t, RedisConfig{Addr: tt.addr})
		if err := r.Ping(t.Context()); err == nil {
			t.Errorf("%s: Ping = nil, want an error", tt.addr)
		}
		if err := r.Tail(t.Context(), Shard{}, []int64{0}, func(Batch) error { return nil }); err == nil {
			t.Errorf("%s: Tail = nil, want an error", tt.addr)
		}
		if _, err := r.Claim(t.Context(), Shard{}, 0, topicA, 0, 0); err == nil {
			t.Errorf("%s: Claim = nil, want an error", tt.addr)
		}
		for _, s := range tt.servers {
			s.Restart()
		}
		testenv.Eventually(t, 30*time.Second, func() error {
			_, err := r.Claim(t.Context(), Shard{}, 0, topicA, 0, 0)
			return err
		})
	}
}

// A client that is closed while it looks for its nodes ends at once.
func TestRedisCloses(t *testing.T) {
	cluster := testenv.RedisCluster(t)
	r, err := NewRedis(RedisConfig{Addr: cluster.Addr}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := r.Ping(t.Context()); err == nil {
		t.Error("Ping = nil after Close, want an error")
	}
	r.Close()
}
