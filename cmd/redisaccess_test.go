package cmd_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// TestRedisAccess: services use a Redis that speaks TLS, wants a certificate, and gives its
// user the rights that the docs list, and no more.
func TestRedisAccess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := testenv.Certificate(t, dir, 1)
	redis := testenv.Redis(t, testenv.RedisOptions{TLS: dir})
	redis.Do(append([]string{"ACL", "SETUSER", "eventstream", "on", ">secret word"}, documentedRights(t)...)...)

	p := newPipelineOn(t, "rediss://"+redis.SecureAddr)
	p.redis = redis
	p.env = append(p.env, "EVENTSTREAM_REDIS_USER=eventstream", "EVENTSTREAM_REDIS_PASSWORD=secret word",
		"EVENTSTREAM_REDIS_TLS_CA="+cert, "EVENTSTREAM_REDIS_TLS_CERT="+cert, "EVENTSTREAM_REDIS_TLS_KEY="+key)
	filters := p.service("filter")
	p.service("api", "--filter-url", "http://"+filters.addr)
	gateway := p.service("gateway", "--filter-url", "http://"+filters.addr)
	p.addFilter(everything("ada"))
	l := p.listen(gateway, "ada")
	prod := p.producer()
	for _, name := range []string{"one", "two"} {
		p.send(prod, parseSource(t, []byte(`{"event_type":"purchase","event_id":"`+name+`","user_id":"u"}`)))
	}
	l.wait(2, 30*time.Second)
	testenv.Eventually(t, 30*time.Second, func() error { // which gateways are asked for by Redis
		resp, err := http.Get("http://" + p.api + "/connections?subscriber_id=ada")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if text, _ := io.ReadAll(resp.Body); !strings.Contains(string(text), `"id"`) {
			return fmt.Errorf("connections: %s, want ada's", text)
		}
		return nil
	})
	l.leave()
	if code := gateway.stop(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if denied := redis.Do("ACL", "LOG"); denied != "" {
		t.Errorf("Redis has denied something:\n%s", denied)
	}

	for says, env := range map[string]string{
		"certificate signed by unknown authority": "EVENTSTREAM_REDIS_TLS_CA=",
		"certificate required":                    "EVENTSTREAM_REDIS_TLS_CERT=",
		"WRONGPASS":                               "EVENTSTREAM_REDIS_PASSWORD=wrong",
	} {
		q := *p
		if q.env = append(q.env[:len(q.env):len(q.env)], env); strings.Contains(env, "CERT") {
			q.env = append(q.env, "EVENTSTREAM_REDIS_TLS_KEY=")
		}
		q.start("gateway", "--listen", testenv.Addr(t)).says(says, 30*time.Second)
	}
}

// documentedRights reads the rule in docs/redis.md.
func documentedRights(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	rule := regexp.MustCompile(`(?s)ACL SETUSER eventstream on '>[^']*'(.*?)\n` + "```").FindSubmatch(text)
	if rule == nil {
		t.Fatal("there is no ACL SETUSER in docs/redis.md")
	}
	return strings.Fields(strings.NewReplacer(`\`, "", "'", "").Replace(string(rule[1])))
}
