package cmd_test

import (
	"strings"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// TestShardsStart runs two halves, and then a filter service for everybody, which
// must not begin beside them, but does when they are gone.
func TestShardsStart(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	halves := []*process{p.service("filter", "--shard", "0/2"), p.service("filter", "--shard", "1/2")}
	for _, pr := range halves {
		pr.says("partitions assigned partitions=\"[0 1 2 3]\"", 30*time.Second)
	}
	addr := testenv.Addr(t)
	whole := p.start("filter", "--listen", addr)
	whole.addr = addr
	whole.says("number of shards: 2, and this process is for shard 0/1", 30*time.Second)
	if err := get("http://" + addr + "/readyz"); err == nil || !strings.Contains(err.Error(), "number of shards: 2") {
		t.Errorf("readyz of the whole beside halves: %v, want it to say why not", err)
	}
	for _, pr := range halves {
		if code := pr.stop(); code != 0 {
			t.Errorf("filter service exited with %d", code)
		}
	}
	whole.ready()
	whole.says("partitions assigned partitions=\"[0 1 2 3]\"", 30*time.Second)
}
