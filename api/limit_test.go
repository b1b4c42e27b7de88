package api_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"eventstream/api"
	"eventstream/auth"
	"eventstream/internal/ops"
	"eventstream/lane"
	"eventstream/limit"
	"eventstream/store"
)

var _ limit.Redis = (*lane.Redis)(nil)

// clock is a Redis for limits, in which time stands still.
type clock struct {
	mu    sync.Mutex
	err   error
	taken map[string]time.Duration
}

func (c *clock) TakeTime(_ context.Context, name string, interval, per time.Duration) (bool, time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false, 0, c.err
	}
	if c.taken == nil {
		c.taken = make(map[string]time.Duration)
	}
	if c.taken[name]+interval > per {
		return false, c.taken[name], nil
	}
	c.taken[name] += interval
	return true, c.taken[name], nil
}

func TestRateLimit(t *testing.T) {
	keys := &keyring{}
	one, two := keys.create(t, auth.ScopeRead), keys.create(t, auth.ScopeRead)
	redis := &clock{}
	cfg := api.Config{Limits: api.LimitConfig{PerKey: 3, PerAddress: 2, Redis: redis}}
	s, other := startGuarded(t, cfg, keys), startGuarded(t, cfg, keys) // two processes
	for i, tt := range []struct {
		at     *service
		key    string
		status int
		limit  string
	}{
		{s, one, 200, `"key";r=2;t=1`},
		{other, one, 200, `"key";r=1;t=1`},
		{s, one, 200, `"key";r=0;t=1`},
		{s, one, 429, `"key";r=0;t=1`},
		{other, one, 429, `"key";r=0;t=1`},
		{s, two, 200, `"key";r=2;t=1`},
		{s, "", 401, `"address";r=1;t=1`},
		{s, "es_made-up", 401, `"address";r=0;t=1`},
		{other, "es_made-up", 429, `"address";r=0;t=1`},
		{s, two, 200, `"key";r=1;t=1`},
	} {
		var header []string
		if tt.key != "" {
			header = []string{"Authorization", "Bearer " + tt.key}
		}
		a := tt.at.do("GET", "/filters", "", header...)
		if a.status != tt.status || a.header.Get("RateLimit") != tt.limit {
			t.Errorf("%d: %d, RateLimit %s, want %d, %s", i, a.status, a.header.Get("RateLimit"), tt.status, tt.limit)
		}
		if policy := a.header.Get("RateLimit-Policy"); !strings.HasSuffix(policy, ";w=1") {
			t.Errorf("%d: RateLimit-Policy %q", i, policy)
		}
		if a.status == 429 && (a.header.Get("Retry-After") != "1" || !strings.Contains(a.body, "too-many-requests")) {
			t.Errorf("%d: %v %s", i, a.header, a.body)
		}
	}
	want(t, "probes are not counted", s.do("GET", "/livez", "").status, 200)
	if m := s.do("GET", "/metrics", "", "Authorization", "Bearer "+two).body; !strings.Contains(m, `rate_limited_total{by="key"} 1`) || !strings.Contains(m, "rate_limit_local 0") {
		t.Errorf("metrics:\n%s", m)
	}
}

// Without Redis the API answers, and limits by itself.
func TestRateLimitWithoutRedis(t *testing.T) {
	s := start(t, api.Config{Limits: api.LimitConfig{PerAddress: 1, Redis: &clock{err: errors.New("down")}}}, &store.Memory{})
	want(t, "first", s.do("GET", "/metrics", "").status, 200)
	// The next one within a second is refused, however slow this machine is.
	refused := false
	for range 100 {
		refused = refused || s.do("GET", "/filters", "").status == 429
	}
	if !refused {
		t.Error("100 requests at once pass a limit of 1 a second")
	}
	unlimited := start(t, api.Config{}, &store.Memory{})
	a := unlimited.do("GET", "/filters", "")
	want(t, "RateLimit without a limit", a.header.Get("RateLimit"), "")
}

// Behind a proxy that is trusted each client has a limit of its own; without one
// nobody gets another by writing addresses.
func TestRateLimitBehindProxy(t *testing.T) {
	proxies, err := ops.ParseProxies([]string{"127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	behind := start(t, api.Config{Limits: api.LimitConfig{PerAddress: 1, Redis: &clock{}, Proxies: proxies}}, &store.Memory{})
	direct := start(t, api.Config{Limits: api.LimitConfig{PerAddress: 1, Redis: &clock{}}}, &store.Memory{})
	for i, tt := range []struct {
		at     *service
		from   string
		status int
	}{
		{behind, "203.0.113.1", 200},
		{behind, "203.0.113.2", 200},
		{behind, "203.0.113.1", 429},
		{behind, "198.51.100.9, 203.0.113.1", 429},
		{behind, "2001:db8::1", 200},
		{behind, "2001:db8::2", 429}, // the same household
		{direct, "203.0.113.1", 200},
		{direct, "203.0.113.2", 429},
	} {
		if a := tt.at.do("GET", "/filters", "", "X-Forwarded-For", tt.from); a.status != tt.status {
			t.Errorf("%d: from %s: %d, want %d", i, tt.from, a.status, tt.status)
		}
	}
}
