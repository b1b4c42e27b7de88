package testenv

import (
	"fmt"
	"net"
	"testing"
	"time"
)

// A failover keeps the address, cuts what is open, and loses what the replica had
// not got.
func TestRedisPair(t *testing.T) {
	p := RedisPair(t)
	for round := range 2 {
		p.Primary.Do("SET", "k", "old")
		Eventually(t, 10*time.Second, func() error {
			if got := p.Replica.Do("GET", "k"); got != "old" {
				return fmt.Errorf("the replica has %q", got)
			}
			return nil
		})
		p.StopReplication()
		p.Primary.Do("SET", "k", "new")
		open, err := net.Dial("tcp", p.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()
		if got := ask(t, p.Addr, "GET k"); got != "$3" {
			t.Fatalf("round %d: GET = %q before", round, got)
		}
		p.Failover()
		if got := p.Primary.Do("GET", "k"); got != "old" {
			t.Errorf("round %d: GET = %q after, want old", round, got)
		}
		if got := ask(t, p.Addr, "ROLE"); got != "*3" { // a replica's has 5 parts
			t.Errorf("round %d: ROLE = %q, want a primary's", round, got)
		}
		open.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := open.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("round %d: an open connection lives on", round)
		}
	}
}

func TestRedisCluster(t *testing.T) {
	c := RedisCluster(t)
	first := c.Owner(t, 0)
	first.Do("SET", "{06S}k", "v") // slot 0
	first.Kill()
	first.Restart()
	c.Wait(t)
	if got := first.Do("GET", "{06S}k"); got != "v" {
		t.Errorf("GET = %q after a restart, want v", got)
	}
	to := c.Owner(t, clusterSlots-1)
	c.Move(t, 0, to)
	if got := c.Owner(t, 0); got != to {
		t.Errorf("owner of slot 0 is %s, want %s", got.Addr, to.Addr)
	}
	if got := to.Do("GET", "{06S}k"); got != "v" {
		t.Errorf("GET = %q after the slot moved, want v", got)
	}
}
