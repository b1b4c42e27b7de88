package cmd_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/wire"
)

// TestUsage runs the binary with wrong input: each has its own clear line and
// exit code.
func TestUsage(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct {
		args []string
		env  string
		code int
		says string
	}{
		{args: []string{"version"}, code: 0, says: "eventstream dev"},
		{args: []string{"gatway"}, code: 2, says: "did you mean gateway?"},
		{args: []string{"nonsense"}, code: 2, says: `unknown command "nonsense"`},
		{args: []string{"gateway", "--nonsense"}, code: 2, says: "unknown flag: --nonsense; see eventstream gateway --help"},
		{args: []string{"gateway", "--handshake-rate-address", "-2"}, code: 2, says: "--handshake-rate-address, too, or -1"},
		{args: []string{"gateway", "--handshake-rate-subscriber", "-1"}, code: 2, says: "--handshake-rate-subscriber"},
		{args: []string{"gateway", "surplus"}, code: 2, says: "takes no arguments"},
		{args: []string{"gateway", "--max-conns", "many"}, code: 2, says: "invalid argument"},
		{args: []string{"gateway", "--listen", ":8003"}, code: 2, says: "without authentication only loopback addresses are served"},
		{args: []string{"gateway", "--listen", "8003"}, code: 2, says: "want host:port"},
		{args: []string{"gateway", "--listen", taken.Addr().String()}, code: 1, says: "is in use by another process"},
		{args: []string{"dev", "--api-port", port(taken)}, code: 1, says: "choose another port with --api-port"},
		{args: []string{"dev", "--rate", "-1"}, code: 2, says: "want 0 or more"},
		{args: []string{"gateway", "--log-level", "loud"}, code: 2, says: "want debug, info, warn or error"},
		{args: []string{"gateway"}, env: "EVENTSTREAM_MAX_CONNS=x", code: 2, says: "environment"},
		{args: []string{"api", "--postgres", "nonsense://"}, code: 2, says: "PostgreSQL address"},
		{args: []string{"api", "--filter-url", "127.0.0.1:8002"}, code: 2, says: "want a URL such as http://127.0.0.1:8002"},
		{args: []string{"filter", "--kafka-sasl", "kerberos"}, code: 2, says: `--kafka-sasl "kerberos": want one of plain, scram-sha-256, scram-sha-512, oauthbearer, aws-msk-iam`},
		{args: []string{"filter", "--kafka-sasl", "plain", "--kafka-sasl-user", "u"}, code: 2, says: "needs --kafka-sasl-user, and EVENTSTREAM_KAFKA_SASL_PASSWORD"},
		{args: []string{"filter", "--kafka-isolation", "snapshot"}, code: 2, says: "want read_committed or read_uncommitted"},
		{args: []string{"filter", "--kafka-sasl-user", "u"}, code: 2, says: "need --kafka-sasl"},
		{args: []string{"filter", "--kafka-sasl-password", "x"}, code: 2, says: "unknown flag"},
		{args: []string{"filter", "--kafka-sasl", "scram-sha-512", "--kafka-sasl-user", "u", "--kafka-sasl-password-file", "/does/not/exist"}, code: 2, says: "no such file"},
		{args: []string{"producer", "--kafka-tls-ca", "ca.pem"}, code: 2, says: "need --kafka-tls"},
		{args: []string{"producer", "--kafka-tls", "--kafka-tls-ca", "/does/not/exist"}, code: 2, says: "no such file"},
		{args: []string{"producer", "--kafka-tls", "--kafka-tls-cert", "c.pem"}, code: 2, says: "want both or none"},
		{args: []string{"skip-lost", "--kafka-sasl", "oauthbearer"}, code: 2, says: "--kafka-sasl-token-file or --kafka-sasl-token-url, not both"},
		{args: []string{"skip-lost", "--kafka-sasl", "oauthbearer", "--kafka-sasl-token-url", "http://issuer.example/token"}, code: 2, says: "want https://host/path"},
		{args: []string{"skip-lost", "--kafka-sasl", "oauthbearer", "--kafka-sasl-token-url", "https://issuer.example/token"}, code: 2, says: "the client id"},
		{args: []string{"skip-lost", "--kafka-sasl", "oauthbearer", "--kafka-sasl-token-file", "t", "--kafka-sasl-extensions", "x"}, code: 2, says: "want name=value"},
		{args: []string{"filter", "--registry-user", "u"}, code: 2, says: "need --registry, its URL"},
		{args: []string{"filter", "--registry", "http://r", "--registry-user", "u"}, code: 2, says: "--registry-user needs EVENTSTREAM_REGISTRY_PASSWORD"},
		{args: []string{"filter", "--registry", "http://r", "--registry-tls-ca", "x"}, code: 2, says: "need an https:// URL"},
		{args: []string{"filter", "--registry", "https://r", "--registry-tls-cert", "x"}, code: 2, says: "--registry-tls-cert and --registry-tls-key: want both or none"},
		{args: []string{"filter", "--registry-password", "x"}, code: 2, says: "unknown flag"},
		{args: []string{"filter", "--config", configFile(t, "sources: [{format: avro}]")}, code: 2, says: "a source of format avro needs a Schema Registry"},
		{args: []string{"skip-lost", "--kafka-sasl", "aws-msk-iam"}, code: 2, says: "needs --kafka-tls"},
		{args: []string{"skip-lost", "--kafka-sasl-scopes", "x"}, code: 2, says: "need --kafka-sasl oauthbearer"},
		{args: []string{"lanes", "skop"}, code: 2, says: `unknown command "skop"`},
		{args: []string{"gateway", "--token-keys", "/does/not/exist"}, code: 2, says: "no such file"},
		{args: []string{"gateway", "--token-jwks", "http://issuer.example/keys"}, code: 2, says: "want https"},
		{args: []string{"gateway", "--token-audience", "events"}, code: 2, says: "no keys to check tokens with"},
		{args: []string{"gateway"}, env: "EVENTSTREAM_TOKEN_SECRET=short", code: 2, says: "a secret of 5 bytes: want at least 32"},
		{args: []string{"api", "--rate-limit", "-1"}, code: 2, says: "--rate-limit must be at least 0"},
		{args: []string{"api", "--hosts", "events.example.org:443"}, code: 2, says: "want a name without a port, such as events.example.org"},
		{args: []string{"gateway", "--hosts", "*"}, code: 2, says: "want a name without a port"},
		{args: []string{"gateway", "--hosts", "a b", "--processes", "2"}, code: 2, says: "--hosts: host"},
		{args: []string{"filter"}, env: "EVENTSTREAM_HOSTS=http://x", code: 2, says: "--hosts: host \"http://x\""},
		{args: []string{"dev", "--hosts", "*"}, code: 2, says: "--hosts: host"},
		{args: []string{"api", "--trusted-proxies", "proxy.example.org"}, code: 2, says: "want an address or a network"},
		{args: []string{"gateway", "--message-rate", "-1"}, code: 2, says: "must be at least 0, which is no limit"},
		{args: []string{"gateway", "--handshake-timeout", "1h"}, code: 2, says: "--handshake-timeout must be 100ms to 1m"},
		{args: []string{"gateway", "--max-header-bytes", "1"}, code: 2, says: "--max-header-bytes 8192 to 1048576"},
		{args: []string{"gateway", "--processes", "0"}, code: 2, says: "--processes 0: want 1 to 256"},
		{args: []string{"gateway", "--processes", "2", "--listen", "127.0.0.1:0"}, code: 2, says: "with --processes want a certain port"},
		{args: []string{"gateway", "--processes", "2", "--admin", "127.0.0.1:65535"}, code: 2, says: "--admin 127.0.0.1:65535: with --processes want a port that others follow"},
		{args: []string{"gateway", "--processes", "2", "--listen", taken.Addr().String()}, code: 1, says: "is in use by another process"},
		{args: []string{"gateway", "--drain-delay", "-1s"}, code: 2, says: "--drain-delay not negative"},
		{args: []string{"filter", "--listen", "127.0.0.1:0", "--tls-cert", "/does/not/exist", "--tls-key", "y.pem"}, code: 2, says: "no such file"},
		{args: []string{"filter", "--listen", "127.0.0.1:0", "--tls-cert", "x.pem"}, code: 2, says: "want both a certificate and a key"},
		{args: []string{"token", "user_1"}, code: 2, says: "no key to sign with"},
		{args: []string{"token"}, code: 2, says: "takes one subscriber"},
		{args: []string{"token", "--lifetime", "0s", "user_1"}, env: "EVENTSTREAM_TOKEN_SECRET=0123456789abcdef0123456789abcdef", code: 2, says: "lifetime 0s: want 1s"},
		{args: []string{"token", "user_1"}, env: "EVENTSTREAM_TOKEN_SECRET=0123456789abcdef0123456789abcdef", code: 0, says: "eyJ"},
		{args: []string{"filter", "--gc-percent", "0"}, code: 2, says: "--gc-percent must be at least 10"},
		{args: []string{"filter", "--replay-max-age", "1ms"}, code: 2, says: "--replay-max-age must be at least 1s"},
		{args: []string{"filter", "--replay-time-skew", "-1s"}, code: 2, says: "--replay-time-skew must be 0 to"},
		{args: []string{"filter", "--redis", "nonsense://x"}, code: 2, says: "redis address"},
		{args: []string{"filter", "--listen", ":8002"}, code: 2, says: "or share a secret with gateways and the API: EVENTSTREAM_REPLAY_SECRET"},
		{args: []string{"filter"}, env: "EVENTSTREAM_REPLAY_SECRET=short", code: 2, says: "EVENTSTREAM_REPLAY_SECRET: secret 1 has 5 characters; want at least 32"},
		{args: []string{"filter", "--shard", "8/8"}, code: 2, says: "indexes begin at 0"},
		{args: []string{"listen"}, code: 2, says: "want one subscriber id"},
		{args: []string{"listen", "--url", "ftp://x", "demo"}, code: 2, says: "ftp"},
		{args: []string{"listen", "--since", "1d", "demo"}, code: 2, says: "want a time such as 2026-01-02T03:04:05Z, or a duration"},
		{args: []string{"listen", "a b"}, code: 2, says: "subscriber id: ' ' is not allowed"},
		{args: []string{"producer", "--file", "/does/not/exist"}, code: 2, says: "no such file"},
		{args: []string{"producer", "--rate", "NaN"}, code: 2, says: "want 0 or more"},
		{args: []string{"seed", "--count", "0"}, code: 2, says: "want at least 1"},
		{args: []string{"check", "--seed", "7"}, code: 2, says: "`go build -o ./ . ./cmd/eventstream-check` builds it"},
		{args: []string{"healthcheck"}, code: 2, says: "want one URL"},
		{args: []string{"healthcheck", "http://" + taken.Addr().String() + "/x"}, code: 1, says: "deadline exceeded"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			c := exec.CommandContext(ctx, testenv.Binary(t), tt.args...)
			c.Env = append(os.Environ(), "EVENTSTREAM_LOG_FORMAT=text")
			if tt.env != "" {
				c.Env = append(c.Env, tt.env)
			}
			out, _ := c.CombinedOutput()
			if code := c.ProcessState.ExitCode(); code != tt.code || !strings.Contains(string(out), tt.says) {
				t.Errorf("exit code %d, printed %q; want %d and %q", code, out, tt.code, tt.says)
			}
		})
	}
}

func port(ln net.Listener) string {
	_, p, _ := net.SplitHostPort(ln.Addr().String())
	return p
}

// TestHelp checks that every subcommand shows an example.
func TestHelp(t *testing.T) {
	for _, name := range []string{"api", "filter", "gateway", "producer", "listen", "dev", "seed", "healthcheck", "migrate"} {
		out, err := exec.Command(testenv.Binary(t), name, "--help").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Examples:\n  ") {
			t.Errorf("%s --help: %v, printed %q; want an example", name, err, out)
		}
		if strings.Contains(string(out), "eventstream:eventstream@") {
			t.Errorf("%s --help shows a password", name)
		}
	}
}

// TestDev runs everything in one process and follows what it prints.
func TestDev(t *testing.T) {
	p := &pipeline{t: t, env: os.Environ()}
	data := t.TempDir()
	pr := p.start("dev", "--api-port", "0", "--filter-port", "0", "--gateway-port", "0", "--rate", "200", "--data", data)
	pr.says("Give demo another filter", 30*time.Second)
	text := pr.out.String()
	if found := regexp.MustCompile(`(?i)warn|error`).FindString(text); found != "" {
		t.Errorf("dev is not quiet:\n%s", text)
	}
	gateway := find(t, text, `ws://(127\.0\.0\.1:\d+)/ws\n`)
	pr.addr, p.api = gateway, find(t, text, `filter API +http://(\S+)`)
	l := p.listen(pr, "demo")
	l.wait(3, 20*time.Second)

	// The curl and the listen command as they stand there.
	curl := find(t, text, `(?m)^  (curl .*)$`)
	if out, err := exec.Command("bash", "-c", curl+" -sS -f").CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", curl, err, out)
	}
	pull := find(t, text, `(?m)^  (curl .*since.*)$`)
	if out, err := exec.Command("bash", "-c", pull+" -sS -f").CombinedOutput(); err != nil || strings.Count(string(out), `"event_type":"purchase"`) < 3 {
		t.Errorf("%s: %v\n%s", pull, err, out)
	}
	listen := strings.Fields(find(t, text, `(?m)^  eventstream (listen .*)$`))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := exec.CommandContext(ctx, testenv.Binary(t), listen...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for found := ""; found != "login"; { // what only the filter made by curl selects
		if !lines.Scan() {
			t.Fatal("listen ended before a login came")
		}
		found = find(t, lines.Text(), `"event_type":"(\w+)"`)
	}
	cancel()
	c.Wait()
	for _, url := range []string{
		"http://" + p.api + "/health",
		find(t, text, `filter +(http://\S+)/metrics`) + "/health",
		"http://" + gateway + "/health",
	} {
		if err := get(url); err != nil {
			t.Error(err)
		}
	}
	if code := pr.stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
}

func find(t *testing.T, text, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in:\n%s", pattern, text)
	}
	return m[1]
}

// TestProducerInput reads gzip from stdin, reports bad lines with their numbers,
// and sends the rest.
func TestProducerInput(t *testing.T) {
	p := newPipeline(t)
	var in bytes.Buffer
	z := gzip.NewWriter(&in)
	fmt.Fprint(z, "{\"event_type\":\"a\",\"event_id\":\"1\"}\nnonsense\n\n{\"no\":\"type\"}\r\n{\"event_type\":\"a\",\"event_id\":\"2\"}")
	z.Close()
	c := exec.Command(testenv.Binary(t), "producer", "--file", "-")
	c.Env, c.Stdin = p.env, &in
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"2 acknowledged, 0 failed, 2 bad lines", "line=2", "line=4", "event_type: a non-empty string is required"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("printed %s\nwant %q", out, want)
		}
	}
}

// TestSeed creates test subscribers, and none twice.
func TestSeed(t *testing.T) {
	p := newPipeline(t)
	api := p.service("api")
	for _, want := range []string{"20 filters created, 0 subscribers had one", "0 filters created, 20 subscribers had one"} {
		c := exec.Command(testenv.Binary(t), "seed", "--count", "20", "--api", "http://"+api.addr)
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("seed: %v, printed %s; want %q", err, out, want)
		}
	}
}

// TestBadRecords puts what is no event into the topic: it goes to the dead
// letter topic with the reason, and what follows is delivered.
func TestBadRecords(t *testing.T) {
	p := newPipeline(t)
	p.service("api")
	p.addFilter(filter.Spec{SubscriberID: "all", MatchAll: true})
	p.service("filter")
	l := p.listen(p.service("gateway"), "all")
	prod := p.producer()
	for _, bad := range []string{"", "nonsense", `{"event_type":7}`, `[]`, "{\"event_type\":\"a\"", "{\"event_type\":\"\xff\"}"} {
		p.send(prod, source{user: "u", data: []byte(bad)})
	}
	good := parseSource(t, []byte(`{"event_id":"good","event_type":"a","user_id":"u"}`))
	p.send(prod, good)
	l.wait(1, 20*time.Second)
	l.expect("all", []source{good})

	var reasons []string
	for _, r := range p.deadLetters(6) {
		for _, h := range r.Headers {
			if h.Key == "dlq.error" {
				reasons = append(reasons, string(h.Value))
			}
		}
	}
	want := "not valid JSON|not valid JSON|event_type: a non-empty string is required|not a JSON object|not valid JSON|not valid UTF-8"
	if got := strings.Join(reasons, "|"); got != want {
		t.Errorf("reasons %q, want %q", got, want)
	}
}

// deadLetters returns the first n dead letters.
func (p *pipeline) deadLetters(n int) (letters []*kgo.Record) {
	p.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.topic.Brokers...), kgo.ConsumeTopics(p.topic.DLQ()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		p.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	for len(letters) < n && ctx.Err() == nil {
		letters = append(letters, cl.PollFetches(ctx).Records()...)
	}
	if len(letters) < n {
		p.t.Fatalf("%d dead letters, want %d", len(letters), n)
	}
	return letters[:n]
}

// TestServersAway starts our services before their servers, and takes one away
// later: they wait, say so, and go on.
func TestServersAway(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.redis.Stop()
	start := func(name string) *process {
		addr := testenv.Addr(t)
		pr := p.start(name, "--listen", addr)
		pr.addr = addr
		return pr
	}
	services := []*process{start("api"), start("filter"), start("gateway")}
	p.api = services[0].addr
	for _, pr := range services {
		testenv.Eventually(t, 20*time.Second, func() error { return unready(pr.addr) })
	}
	p.redis.Restart()
	for _, pr := range services {
		pr.ready()
	}
	p.addFilter(filter.Spec{SubscriberID: "all", MatchAll: true})
	l := p.listen(services[2], "all")
	prod := p.producer()
	ev := func(n int) source {
		return parseSource(t, fmt.Appendf(nil, `{"event_id":"%d","event_type":"a","user_id":"u"}`, n))
	}
	p.send(prod, ev(1))
	l.wait(1, 20*time.Second)
	p.redis.Kill()
	p.send(prod, ev(2)) // waits in Kafka
	for _, pr := range services[1:] {
		testenv.Eventually(t, 20*time.Second, func() error { return unready(pr.addr) })
	}
	p.redis.Restart()
	l.wait(2, 30*time.Second)
	l.expect("all", []source{ev(1), ev(2)})
	for _, pr := range services {
		if code := pr.stop(); code != 0 {
			t.Errorf("%s: exit code %d after SIGTERM, want 0", pr.name, code)
		}
	}
}

// unready is nil when /readyz says 503 with a reason.
func unready(addr string) error {
	resp, err := http.Get("http://" + addr + "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("%s/readyz: %s, want 503", addr, resp.Status)
	}
	return nil
}

func metric(t *testing.T, addr, name string) string {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return value
		}
	}
	return ""
}

// TestBareClient sees events with a client that knows nothing of ours: no frame
// sent first, no acknowledgement.
func TestBareClient(t *testing.T) {
	p := newPipeline(t)
	p.service("api")
	p.addFilter(filter.Spec{SubscriberID: "bare", EventTypes: []string{"a"}})
	p.service("filter")
	g := p.service("gateway")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+g.addr+"/ws?subscriber_id=bare", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	read := func(want string) {
		t.Helper()
		_, b, err := ws.Read(ctx)
		if err != nil || !strings.Contains(string(b), want) {
			t.Fatalf("read %s, %v; want %s", b, err, want)
		}
	}
	read(`{"type":"hello","subscriber_id":"bare"`)
	p.send(p.producer(), source{user: "u", data: []byte(`{"event_type":"a"}`)})
	read(`"data":{"event_type":"a"}}]`)
}

// TestBareSlowClient gets a burst far larger than what may wait for it, with a
// client that reads slowly and can't resume: it gets all, once, over one
// connection.
func TestBareSlowClient(t *testing.T) {
	p := newPipeline(t)
	p.service("api")
	p.addFilter(filter.Spec{SubscriberID: "bare", MatchAll: true})
	p.service("filter")
	g := p.service("gateway")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+g.addr+"/ws?subscriber_id=bare", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(16 << 20)
	if _, _, err := ws.Read(ctx); err != nil { // hello
		t.Fatal(err)
	}
	const n = 30_000 // about 6 MB
	prod := p.start("producer", "--count", fmt.Sprint(n), "--seed", "1")
	if code := prod.wait(time.Minute); code != 0 {
		t.Fatalf("producer: exit code %d", code)
	}
	testenv.Eventually(t, 30*time.Second, func() error { // nothing is read until then
		if metric(t, g.addr, "eventstream_gateway_clients_fell_behind_total") == "0" {
			return errors.New("it has not fallen behind yet")
		}
		return nil
	})
	seen := make(map[string]bool, n)
	for len(seen) < n {
		_, b, err := ws.Read(ctx)
		if err != nil {
			t.Fatalf("after %d events: %v", len(seen), err)
		}
		var m wire.Message
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		for _, e := range m.Events {
			if seen[e.ID] {
				t.Fatalf("event %s came twice", e.ID)
			}
			seen[e.ID] = true
		}
	}
}
