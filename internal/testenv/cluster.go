package testenv

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// RedisNodes is a private Redis Cluster of primaries without replicas: a node that
// is killed is missed until it is started again.
type RedisNodes struct {
	Addr  string // of all, separated by commas
	Nodes []*RedisServer
}

// clusterSlots is how many slots the keys of a cluster fall into.
const clusterSlots = 16384

// RedisCluster starts three primaries for this test, each with a third of the
// slots. Data survives Kill and Restart of a node.
func RedisCluster(t testing.TB) *RedisNodes {
	t.Helper()
	const n = 3
	c := &RedisNodes{}
	var addrs []string
	for i := range n {
		s := Redis(t, RedisOptions{AppendOnly: true, cluster: true})
		s.Do("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		s.Do("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*clusterSlots/n), strconv.Itoa((i+1)*clusterSlots/n-1))
		c.Nodes, addrs = append(c.Nodes, s), append(addrs, s.Addr)
	}
	c.Addr = strings.Join(addrs, ",")
	for _, s := range c.Nodes[1:] {
		host, port, _ := net.SplitHostPort(s.Addr)
		_, bus, _ := net.SplitHostPort(s.bus)
		c.Nodes[0].Do("CLUSTER", "MEET", host, port, bus)
	}
	c.Wait(t)
	return c
}

// Wait waits until every node finds that all are there.
func (c *RedisNodes) Wait(t testing.TB) {
	t.Helper()
	for _, s := range c.Nodes {
		Eventually(t, 30*time.Second, func() error {
			info, err := s.Ask("CLUSTER", "INFO")
			if err == nil && !(strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:"+strconv.Itoa(clusterSlots))) {
				err = fmt.Errorf("%s: %s", s.Addr, info)
			}
			return err
		})
	}
}

// Slot returns the slot that a key falls to.
func (c *RedisNodes) Slot(t testing.TB, key string) int {
	t.Helper()
	slot, err := strconv.Atoi(c.Nodes[0].Do("CLUSTER", "KEYSLOT", key))
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// Move makes the node to the owner of a slot, with the keys in it.
func (c *RedisNodes) Move(t testing.TB, slot int, to *RedisServer) {
	t.Helper()
	owner := c.Owner(t, slot)
	if owner == to {
		return
	}
	id := func(s *RedisServer) string { return s.Do("CLUSTER", "MYID") }
	number := strconv.Itoa(slot)
	to.Do("CLUSTER", "SETSLOT", number, "IMPORTING", id(owner))
	owner.Do("CLUSTER", "SETSLOT", number, "MIGRATING", id(to))
	host, port, _ := net.SplitHostPort(to.Addr)
	for {
		keys := owner.Do("CLUSTER", "GETKEYSINSLOT", number, "100")
		if keys == "" {
			break
		}
		owner.Do(append([]string{"MIGRATE", host, port, "", "0", "5000", "KEYS"}, strings.Split(keys, "\n")...)...)
	}
	for _, s := range append([]*RedisServer{to, owner}, c.Nodes...) {
		s.Do("CLUSTER", "SETSLOT", number, "NODE", id(to))
	}
}

// Owner returns the node that a slot belongs to.
func (c *RedisNodes) Owner(t testing.TB, slot int) *RedisServer {
	t.Helper()
	for _, s := range c.Nodes {
		for line := range strings.Lines(s.Do("CLUSTER", "NODES")) {
			fields := strings.Fields(line)
			if strings.Contains(fields[2], "myself") && holdsSlot(fields[8:], slot) {
				return s
			}
		}
	}
	t.Fatalf("no node has slot %d", slot)
	return nil
}

// holdsSlot reports whether one of the ranges, as "0-5460" or "77", holds a slot.
func holdsSlot(ranges []string, slot int) bool {
	for _, r := range ranges {
		first, last, several := strings.Cut(r, "-")
		from, err := strconv.Atoi(first)
		to := from
		if several {
			to, _ = strconv.Atoi(last)
		}
		if err == nil && from <= slot && slot <= to {
			return true
		}
	}
	return false
}
