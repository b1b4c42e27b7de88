package cluster

import (
	"context"
	"os/exec"
	"strings"
	"testing"
)

// TestRedisCluster: the nodes tell the addresses of their proxies, and one that was away is
// a part of the cluster again. A node can be made to refuse writes.
func TestRedisCluster(t *testing.T) {
	exe, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip(err)
	}
	c := &Cluster{cfg: Config{Redis: exe, Dir: t.TempDir(), RedisCluster: true}}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.startRedis(ctx))
	const slot = 12182 // of the key "foo", which is the last node's
	first, last := c.redis[0], c.redis[redisNodes-1]
	moved := first.ask("GET foo", "")
	if want := "-MOVED 12182 " + c.fronts[redisNodes-1].Addr(); moved == nil || moved.Error() != want {
		t.Errorf("asked for slot %d a node answers %v, want %s", slot, moved, want)
	}
	last.Kill()
	must(last.Start(ctx))
	for _, r := range c.redis {
		must(r.await(ctx, r.complete))
	}
	must(last.Demote())
	if err := last.ask("SET foo bar", "+OK"); err == nil || !strings.Contains(err.Error(), "NOREPLICAS") {
		t.Errorf("a node that is to refuse writes: got %v", err)
	}
	must(last.Writable())
	must(last.await(ctx, func() error { return last.ask("SET foo bar", "+OK") }))
}
