package testenv

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// RedisPairServers is a private Redis with a replica, behind an address that leads
// to the primary. Its methods are for the one goroutine of its test.
type RedisPairServers struct {
	Addr             string // of the primary, whichever that is
	Primary, Replica *RedisServer
	Watch            *RedisServer // the Sentinel, once there is one

	t  testing.TB
	in *forwarder
}

// RedisPair starts a primary and a replica that follows it.
func RedisPair(t testing.TB) *RedisPairServers {
	t.Helper()
	opt := RedisOptions{AppendOnly: true}
	p := &RedisPairServers{Primary: Redis(t, opt), Replica: Redis(t, opt), t: t}
	p.in = forward(t, p.Primary.Addr)
	p.Addr = p.in.addr
	p.follow()
	return p
}

// follow has the replica follow the primary, and waits until it does.
func (p *RedisPairServers) follow() {
	p.t.Helper()
	host, port, _ := net.SplitHostPort(p.Primary.Addr)
	p.Replica.Do("REPLICAOF", host, port)
	Eventually(p.t, 30*time.Second, func() error {
		info, err := p.Replica.Ask("INFO", "replication")
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = errors.New("the replica is not linked")
		}
		return err
	})
}

// StopReplication keeps what is written from now on from the replica, as a lag
// does. Only Failover follows it.
func (p *RedisPairServers) StopReplication() {
	p.t.Helper()
	p.Replica.Do("REPLICAOF", "NO", "ONE")
}

// Failover kills the primary and puts the replica in its place, without what it
// was lacking. The other one comes back as its replica.
func (p *RedisPairServers) Failover() {
	p.t.Helper()
	p.Primary.Kill()
	p.Replica.Do("REPLICAOF", "NO", "ONE")
	p.in.point(p.Replica.Addr)
	p.Primary, p.Replica = p.Replica, p.Primary
	p.Replica.Restart()
	p.follow()
}

// Sentinel starts a Sentinel that watches the pair, and returns a URL for it.
// With that, who dies is replaced in seconds.
//
// A Sentinel that was not run for 2 s does nothing for 30 s (TILT mode). A replica
// whose master was away for ten times down-after-milliseconds longer than the
// Sentinel has seen is never chosen, so that must be more than 3 s.
func (p *RedisPairServers) Sentinel() string {
	p.t.Helper()
	host, port, _ := net.SplitHostPort(p.Primary.Addr)
	config := filepath.Join(p.t.TempDir(), "sentinel.conf")
	text := strings.Join([]string{
		"sentinel monitor pair " + host + " " + port + " 1",
		"sentinel down-after-milliseconds pair 4000",
		"sentinel failover-timeout pair 5000",
	}, "\n")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	s := Redis(p.t, RedisOptions{sentinel: config})
	p.Watch = s
	Eventually(p.t, 30*time.Second, func() error {
		state, err := s.Ask("SENTINEL", "MASTER", "pair")
		if err == nil && !strings.Contains(state, "num-slaves\n1") {
			err = errors.New("it doesn't know the replica")
		}
		return err
	})
	return "redis://" + s.Addr + "?master_set=pair"
}
