package lane

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

func TestRedisAddr(t *testing.T) {
	addr := testenv.Redis(t).Addr
	for _, a := range []string{addr, "redis://" + addr, "redis://" + addr + "/3"} {
		r := newRedis(t, RedisConfig{Addr: a})
		if err := r.Ping(t.Context()); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, a := range []string{
		"http://" + addr, "redis://" + addr + "/x", "redis://%",
		addr + ",", addr + ",redis://" + addr, "redis://" + addr + "/3," + addr,
	} {
		if _, err := NewRedis(RedisConfig{Addr: a}, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: want an error", a)
		}
	}
}

func TestRedisPassword(t *testing.T) {
	addr := testenv.Redis(t).Addr
	do(t, newRedis(t, RedisConfig{Addr: addr}), "CONFIG", "SET", "requirepass", "secret")
	for _, tt := range []struct {
		cfg RedisConfig
		ok  bool
	}{
		{RedisConfig{Addr: addr}, false},
		{RedisConfig{Addr: addr, Password: "wrong"}, false},
		{RedisConfig{Addr: addr, Password: "secret"}, true},
		{RedisConfig{Addr: "redis://:secret@" + addr}, true},
		{RedisConfig{Addr: "redis://:wrong@" + addr, Password: "secret"}, true},
	} {
		if err := newRedis(t, tt.cfg).Ping(t.Context()); (err == nil) != tt.ok {
			t.Errorf("%+v: Ping = %v", tt.cfg, err)
		}
	}
}

// Two prefixes in one Redis don't see each other.
func TestRedisPrefix(t *testing.T) {
	addr := testenv.Redis(t).Addr
	a, b := newRedis(t, RedisConfig{Addr: addr, Prefix: "a:"}), newRedis(t, RedisConfig{Addr: addr, Prefix: "b:"})
	must[int64](t)(a.Claim(t.Context(), Shard{}, 0, topicA, 5, 5))
	must[ControlID](t)(a.Announce(t.Context(), Announcement{Gateway: 1, Seq: 1, TTL: time.Minute, Joined: []Seated{{1, "x"}}}))
	check(t, "position", must[[]Position](t)(b.Positions(t.Context(), Shard{}, 1))[0].Next, -1)
	check(t, "control end", must[ControlID](t)(b.ControlEnd(t.Context())), ControlID{})
}

func TestRedisCheckConfig(t *testing.T) {
	r := newRedis(t, RedisConfig{Addr: testenv.Redis(t).Addr})
	for _, tt := range []struct {
		command []string
		want    error
	}{
		{[]string{"CONFIG", "SET", "maxmemory-policy", "noeviction"}, nil},
		{[]string{"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"}, ErrEviction},
		{[]string{"CONFIG", "SET", "maxmemory-policy", "volatile-ttl"}, ErrEviction},
		{[]string{"ACL", "SETUSER", "default", "-config"}, ErrEviction}, // as managed servers do
	} {
		do(t, r, tt.command...)
		in, err := r.CheckConfig(t.Context())
		if err != nil || !errors.Is(errors.Join(in.Troubles...), tt.want) || in.Ahead.Abs() > time.Millisecond {
			t.Errorf("after %s: CheckConfig = %+v, %v, want %v", tt.command, in, err, tt.want)
		}
	}
}

// All nodes of a cluster count.
func TestRedisClusterCheckConfig(t *testing.T) {
	c := testenv.RedisCluster(t)
	r := newRedis(t, RedisConfig{Addr: c.Addr})
	if in, err := r.CheckConfig(t.Context()); err != nil || len(in.Troubles) > 0 {
		t.Errorf("CheckConfig = %v, %v", in.Troubles, err)
	}
	for _, node := range c.Nodes {
		node.Do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
		if in, err := r.CheckConfig(t.Context()); err != nil || !errors.Is(errors.Join(in.Troubles...), ErrEviction) {
			t.Errorf("%s evicts: CheckConfig = %v, %v, want %v", node.Addr, in.Troubles, err, ErrEviction)
		}
		node.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	}
	c.Nodes[2].Kill()
	if _, err := r.CheckConfig(t.Context()); err == nil {
		t.Error("CheckConfig = nil though a node is down, want an error")
	}
}

// What the hashes don't hold must not be told on the control stream: a reader
// that starts after that entry would never learn of it.
func TestRedisAnnounceHashFirst(t *testing.T) {
	r := newRedis(t, RedisConfig{Addr: testenv.Redis(t).Addr})
	do(t, r, "SET", r.gatewaysKey(), "not a set")
	for _, all := range []bool{false, true} {
		a := Announcement{Gateway: 1, Seq: 1, All: all, TTL: time.Minute, Joined: []Seated{{1, "x"}}}
		if id, err := r.Announce(t.Context(), a); err == nil {
			t.Errorf("Announce = %s, want an error", id)
		}
	}
	check(t, "ControlEnd", must[ControlID](t)(r.ControlEnd(t.Context())), ControlID{})
}
