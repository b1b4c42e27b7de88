package gateway

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/internal/ops"
	"eventstream/internal/testenv"
	"eventstream/lane"
)

// A partition that nobody works on is told, as degraded while others flow: every
// gateway finds the same. If none flows, the gateway is red.
func TestStuckPartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	g := w.gateway(Config{})
	g.cfg.stuck = 1200 * time.Millisecond // positions are read every second
	stop := make(chan struct{})
	quiet := sync.OnceFunc(func() { close(stop) })
	defer quiet()
	go func() {
		for { // partition 0 only
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				w.publish(0, "nobody")
			}
		}
	}()
	testenv.Eventually(t, 10*time.Second, func() error {
		err := g.Ready(context.Background())
		if !ops.IsDegraded(err) || !strings.Contains(err.Error(), "partition 1 has not moved") {
			return fmt.Errorf("Ready: got %w, want partition 1 to be named", err)
		}
		return nil
	})
	w.beat()
	testenv.Eventually(t, 10*time.Second, func() error { return g.Ready(context.Background()) })
	quiet()
	testenv.Eventually(t, 10*time.Second, func() error {
		if err := g.Ready(context.Background()); err == nil || ops.IsDegraded(err) {
			return fmt.Errorf("Ready: got %v, want that nothing moves", err)
		}
		return nil
	})
}

// tails notes whose lanes are read.
type tails struct {
	*lane.Memory
	mu     sync.Mutex
	shards map[lane.Shard]bool
}

func (s *tails) Tail(ctx context.Context, sh lane.Shard, from []int64, sink func(lane.Batch) error) error {
	s.mu.Lock()
	s.shards[sh] = true
	s.mu.Unlock()
	return s.Memory.Tail(ctx, sh, from, sink)
}

// Only the lanes of the shards that have subscribers here are read, and a client
// gets what goes through its own.
func TestShards(t *testing.T) {
	t.Parallel()
	const shards = 4
	ctx := context.Background()
	store := &tails{Memory: lane.NewMemory(), shards: make(map[lane.Shard]bool)}
	store.SetTopic(ctx, lane.Topic{ID: testTopic, Partitions: 1, Shards: shards})
	g := startGateway(t, Config{}, store)
	if _, resp, err := dial(g, "user_1", ""); err == nil || resp.StatusCode != 503 {
		t.Fatalf("joined a shard that no filter service serves: %v", err)
	}
	missing := "shard " + lane.Shard{Index: lane.ShardOf("user_1", shards), Of: shards}.String()
	if err := g.Ready(ctx); !ops.IsDegraded(err) || !strings.Contains(err.Error(), missing) {
		t.Errorf("Ready: got %v, want %s to be named", err, missing)
	}
	for i := range int32(shards) {
		if _, err := store.Claim(ctx, lane.Shard{Index: i, Of: shards}, 0, testTopic, int64(10*i), int64(10*i)); err != nil {
			t.Fatal(err)
		}
	}
	var packer lane.Packer
	for _, subscriber := range []string{"user_1", "user_2", "user_1"} {
		c := connect(t, g, subscriber, "")
		cur, err := event.ParseCursor(c.cursor)
		if err != nil {
			t.Fatal(err)
		}
		sh := lane.Shard{Index: lane.ShardOf(subscriber, shards), Of: shards}
		at := cur.Next[0]
		packer.Reset()
		packer.Add(at, 1, []byte(`{}`), []lane.Group{{Gateway: g.id, Runs: lane.RunsOf(cur.Addr.Seat)}})
		next, err := store.Append(ctx, lane.Append{
			Shard: sh, Topic: testTopic, Expect: at, Next: at + 1, Last: at, Entry: packer.Bytes(),
		})
		if err != nil || next != at+1 {
			t.Fatalf("append to shard %s at %d: %d, %v", sh, at, next, err)
		}
		c.untilEvent(event.ID{Offset: at}.String())
		if err := g.Ready(ctx); err != nil {
			t.Errorf("Ready: %v", err)
		}
		c.ws.CloseNow()
		r := connect(t, g, subscriber, c.hello.Cursor)
		r.untilEvent(event.ID{Offset: at}.String())
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	want := map[int32]bool{lane.ShardOf("user_1", shards): true, lane.ShardOf("user_2", shards): true}
	if len(store.shards) != len(want) {
		t.Errorf("lanes of %v are read, want those of %v", store.shards, want)
	}
}
