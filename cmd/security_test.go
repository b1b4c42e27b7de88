package cmd_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"eventstream/client"
	"eventstream/internal/testenv"
	"eventstream/wire"
)

const (
	secret       = "a-secret-of-at-least-32-characters"
	replaySecret = "another-secret-of-at-least-32-characters"
)

// fortress is the services as strangers meet them, on the real servers.
type fortress struct {
	*pipeline
	filter, gateway, pages, api string // host:port
	read, admin                 string // API keys
}

func newFortress(t *testing.T) *fortress {
	f := &fortress{pipeline: newPipeline(t)}
	f.env = append(f.env, "EVENTSTREAM_TOKEN_SECRET="+secret, "EVENTSTREAM_TOKEN_AUDIENCE=events", "EVENTSTREAM_REPLAY_SECRET="+replaySecret)
	f.pages = testenv.Addr(t)
	f.filter = f.service("filter").addr
	replays := []string{"--filter-url", "http://" + f.filter}
	f.gateway = f.service("gateway", append(replays, "--pages", f.pages)...).addr
	f.api = f.service("api", append(replays, "--rate-limit-address", "0")...).addr
	key := func(scope string) string {
		text, _ := f.output(0, "apikey", "create", "--scope", scope, "--name", scope)
		return strings.TrimSpace(text)
	}
	f.read, f.admin = key("read"), key("admin")
	// Before it has read the first key, the API lets everybody in.
	testenv.Eventually(t, 30*time.Second, func() error { return asks(f.api, "", 401) })
	testenv.Eventually(t, 30*time.Second, func() error { return asks(f.api, f.admin, 200) })
	return f
}

// token is one made by another library, with claims changed.
func token(t *testing.T, method jwt.SigningMethod, key any, changes jwt.MapClaims) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": "user_1", "aud": "events", "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	text, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// raw sends bytes as they stand and returns the first answer; status 0 if the
// connection was closed without one.
func raw(t *testing.T, addr, text string) (status int, header http.Header, body string) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(15 * time.Second))
	io.WriteString(nc, text) // the other side may have had enough before the end
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		return 0, nil, ""
	}
	if resp.StatusCode != http.StatusSwitchingProtocols && resp.Header.Get("Content-Type") != "text/event-stream" { // which have no end
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		body = string(b)
	}
	return resp.StatusCode, resp.Header, body
}

// upgrade is a WebSocket handshake.
func upgrade(target string, lines ...string) string {
	head := "GET " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, line := range lines {
		head += line + "\r\n"
	}
	return head + "\r\n"
}

func request(method, target, body string, lines ...string) string {
	head := method + " " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
	for _, line := range lines {
		head += line + "\r\n"
	}
	if body != "" {
		head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	return head + "\r\n" + body
}

// leaks are words that no stranger may read: of our servers, code and secrets.
func (f *fortress) leaks() []string {
	return []string{
		secret, replaySecret, f.read, f.admin, "goroutine", "panic", ".go:", "pgx", "postgres", "redis", "kafka", "rueidis", "fasthttp",
		"net/http", "go-jose", "square", "sql", "dial tcp", "127.0.0.1:", "stack",
	}
}

// TestWaysIn tries every way in that we know of. Each is refused, with the right
// status, and nothing about internals is told.
func TestWaysIn(t *testing.T) {
	t.Parallel()
	f := newFortress(t)
	hs := jwt.SigningMethodHS256
	good := token(t, hs, []byte(secret), nil)
	part := strings.Split(good, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	bearer := func(text string) string { return "Authorization: Bearer " + text }
	with := func(changes jwt.MapClaims) string {
		return upgrade("/ws", bearer(token(t, hs, []byte(secret), changes)))
	}
	admin := bearer(f.admin)
	const (
		filterBody = `{"subscriber_id":"user_1","event_types":["purchase"]}`
		replayBody = `{"subscriber":"user_1","since":"2026-01-02T03:04:05Z"}`
	)
	replayed := func(lines ...string) string {
		return request("POST", "/replay", replayBody, lines...)
	}

	for _, tt := range []struct {
		name, addr, send string
		status           []int // any of them; 0 for a connection that is closed
	}{
		// The good ones, so that the rest is refused for its own reason.
		{"gateway: good", f.gateway, upgrade("/ws", bearer(good)), []int{101}},
		{"gateway: good, with subscriber_id", f.gateway, upgrade("/ws?subscriber_id=user_1", bearer(good)), []int{101}},
		{"gateway: good stream", f.gateway, request("GET", "/sse", "", bearer(good)), []int{200}},
		{"gateway: good, from Kafka", f.gateway, upgrade("/ws?since=1h", bearer(good)), []int{101}},
		{"filter: good", f.filter, replayed(bearer(replaySecret)), []int{200}},
		{"api: good, from Kafka", f.api, request("GET", "/subscribers/user_1/events?since=1h", "", bearer(f.read)), []int{200}},
		{"api: good", f.api, request("GET", "/filters", "", bearer(f.read)), []int{200}},
		{"api: good token", f.api, request("POST", "/subscribers/user_1/tokens", "", admin), []int{201}},

		{"filter: no secret", f.filter, replayed(), []int{401}},
		{"filter: wrong secret", f.filter, replayed(bearer(strings.Repeat("x", len(replaySecret)))), []int{401}},
		{"filter: less of the secret", f.filter, replayed(bearer(replaySecret[:32])), []int{401}},
		{"filter: an API key is no secret", f.filter, replayed(admin), []int{401}},
		{"filter: the secret without its scheme", f.filter, replayed("Authorization: " + replaySecret), []int{401}},
		{"filter: the secret in the query", f.filter, request("POST", "/replay?token="+replaySecret, replayBody), []int{401}},

		{"gateway: no token", f.gateway, upgrade("/ws?subscriber_id=user_1"), []int{401}},
		{"gateway: stream without a token", f.gateway, request("GET", "/sse?subscriber_id=user_1", ""), []int{401}},
		{"gateway: stream of an old token", f.gateway, request("GET", "/sse?token="+token(t, hs, []byte(secret), jwt.MapClaims{"exp": time.Now().Add(-time.Second).Unix()}), ""), []int{401}},
		{"gateway: another's stream", f.gateway, request("GET", "/sse?subscriber_id=user_2", "", bearer(good)), []int{403}},
		{"gateway: wrong signature", f.gateway, upgrade("/ws", bearer(token(t, hs, []byte(strings.Repeat("x", 40)), nil))), []int{401}},
		{"gateway: signature cut off", f.gateway, upgrade("/ws", bearer(part[0]+"."+part[1]+".")), []int{401}},
		{"gateway: other claims under the signature", f.gateway, upgrade("/ws", bearer(part[0]+"."+b64([]byte(`{"sub":"user_2","aud":"events","exp":9999999999}`))+"."+part[2])), []int{401}},
		{"gateway: alg none", f.gateway, upgrade("/ws", bearer(token(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil))), []int{401}},
		{"gateway: alg none with a signature", f.gateway, upgrade("/ws", bearer(b64([]byte(`{"alg":"none"}`))+"."+part[1]+"."+part[2])), []int{401}},
		{"gateway: alg HS512", f.gateway, upgrade("/ws", bearer(token(t, jwt.SigningMethodHS512, []byte(secret), nil))), []int{401}},
		{"gateway: key confusion", f.gateway, upgrade("/ws", bearer(b64([]byte(`{"alg":"RS256"}`))+"."+part[1]+"."+part[2])), []int{401}},
		{"gateway: kid of a file", f.gateway, upgrade("/ws", bearer(b64([]byte(`{"alg":"HS256","kid":"../../../dev/null"}`))+"."+part[1]+"."+part[2])), []int{401}},
		{"gateway: expired", f.gateway, with(jwt.MapClaims{"exp": time.Now().Add(-time.Second).Unix()}), []int{401}},
		{"gateway: never expires", f.gateway, with(jwt.MapClaims{"exp": nil}), []int{401}},
		{"gateway: not yet", f.gateway, with(jwt.MapClaims{"nbf": time.Now().Add(time.Hour).Unix()}), []int{401}},
		{"gateway: wrong audience", f.gateway, with(jwt.MapClaims{"aud": "other"}), []int{401}},
		{"gateway: no audience", f.gateway, with(jwt.MapClaims{"aud": nil}), []int{401}},
		{"gateway: from the future, so that it can't be revoked", f.gateway, with(jwt.MapClaims{"iat": time.Now().Add(time.Hour).Unix()}), []int{401}},
		{"gateway: no subject", f.gateway, with(jwt.MapClaims{"sub": nil}), []int{401}},
		{"gateway: a subject that is no id", f.gateway, with(jwt.MapClaims{"sub": "a b"}), []int{403}},
		{"gateway: other subscriber", f.gateway, upgrade("/ws?subscriber_id=user_2", bearer(good)), []int{403}},
		{"gateway: other subscriber, twice", f.gateway, upgrade("/ws?subscriber_id=user_1&subscriber_id=user_2", bearer(good)), []int{400}},
		{"gateway: an API key is no token", f.gateway, upgrade("/ws", admin), []int{401}},
		{"gateway: two tokens", f.gateway, upgrade("/ws?token="+good, bearer(good)), []int{400}},
		{"gateway: other origin", f.gateway, upgrade("/ws", bearer(good), "Origin: https://evil.example"), []int{403}},
		{"gateway: null origin", f.gateway, upgrade("/ws", bearer(good), "Origin: null"), []int{403}},
		{"gateway: forged cursor", f.gateway, upgrade("/ws?cursor=AAAA", bearer(good)), []int{400}},
		{"gateway: path trick", f.gateway, upgrade("/ws/../metrics"), []int{301, 307, 400, 404}},
		{"gateway: metrics", f.gateway, request("GET", "/metrics", ""), []int{404}},
		{"gateway: profiles", f.gateway, request("GET", "/debug/pprof/", ""), []int{404}},
		{"gateway: large token", f.gateway, upgrade("/ws", bearer(strings.Repeat("a", 40_000))), []int{401}},
		{"gateway: large headers", f.gateway, upgrade("/ws", "X-Large: "+strings.Repeat("a", 200_000)), []int{431}},
		{"gateway: two lengths", f.gateway, request("GET", "/ws", "", "Content-Length: 5", "Content-Length: 0"), []int{400}},
		{"gateway: length and chunks", f.gateway, request("POST", "/ws", "", "Content-Length: 5", "Transfer-Encoding: chunked"), []int{400, 405}},
		{"gateway: space before the colon", f.gateway, upgrade("/ws", "Authorization : Bearer "+good), []int{400}},
		{"gateway: no HTTP", f.gateway, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}},

		{"api: no key", f.api, request("GET", "/filters", ""), []int{401}},
		{"api: made-up key", f.api, request("GET", "/filters", "", bearer("es_0123456789ab_"+strings.Repeat("A", 43))), []int{401}},
		{"api: a key's id with another secret", f.api, request("GET", "/filters", "", bearer(f.admin[:16]+strings.Repeat("A", 43))), []int{401}},
		{"api: a subscriber's token is no key", f.api, request("GET", "/filters", "", bearer(good)), []int{401}},
		{"api: key in the query", f.api, request("GET", "/filters?key="+f.admin, ""), []int{401}},
		{"api: two keys", f.api, request("GET", "/filters", "", bearer(f.read), admin), []int{401}},
		{"api: read writes", f.api, request("POST", "/filters", filterBody, bearer(f.read)), []int{403}},
		{"api: read makes tokens", f.api, request("POST", "/subscribers/user_1/tokens", "", bearer(f.read)), []int{403}},
		{"api: read revokes a subscriber", f.api, request("DELETE", "/subscribers/user_1/tokens", "", bearer(f.read)), []int{403}},
		{"api: read revokes a token", f.api, request("DELETE", "/tokens/t1", "", bearer(f.read)), []int{403}},
		{"api: read sees who is connected", f.api, request("GET", "/connections?subscriber_id=user_1", "", bearer(f.read)), []int{403}},
		{"api: read disconnects", f.api, request("DELETE", "/connections?subscriber_id=user_1", "", bearer(f.read)), []int{403}},
		{"api: no key disconnects", f.api, request("DELETE", "/connections/0000000000000001-1", ""), []int{401}},
		{"api: a subscriber's token revokes another's", f.api, request("DELETE", "/subscribers/user_2/tokens", "", bearer(good)), []int{401}},
		{"api: method override", f.api, request("GET", "/filters/x", "", bearer(f.read), "X-HTTP-Method-Override: DELETE"), []int{404}},
		{"api: metrics", f.api, request("GET", "/metrics", ""), []int{401}},
		{"api: dots in the path", f.api, request("GET", "/livez/../filters", ""), []int{401}},
		{"api: escaped dots", f.api, request("GET", "/livez/%2e%2e/filters", ""), []int{401}},
		{"api: two slashes", f.api, request("GET", "//filters", ""), []int{401}},
		{"api: escaped slash", f.api, request("GET", "/livez%2f..%2ffilters", ""), []int{401}},
		{"api: null byte", f.api, request("GET", "/filters%00/livez", ""), []int{401}},
		{"api: absolute target", f.api, request("GET", "http://127.0.0.1/filters", ""), []int{401}},
		{"api: another path in a header", f.api, request("GET", "/filters", "", "X-Original-URL: /livez", "X-Rewrite-URL: /livez"), []int{401}},
		{"api: from loopback, so it says", f.api, request("GET", "/filters", "", "X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1"), []int{401}},
		{"api: length and chunks", f.api, "POST /filters HTTP/1.1\r\nHost: x\r\n" + admin + "\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{400, 422}},
		{"api: two lengths", f.api, "POST /filters HTTP/1.1\r\nHost: x\r\n" + admin + "\r\nContent-Length: 0\r\nContent-Length: 60\r\n\r\n" + filterBody, []int{400}},
		{"api: a body is announced without a key", f.api, request("POST", "/filters", "", "Content-Length: 100", "Expect: 100-continue"), []int{417}},
		{"api: a body is announced with a made-up key", f.api, request("POST", "/filters", "", "Content-Length: 100", "Expect: 100-continue", bearer("es_0123456789ab_"+strings.Repeat("A", 43))), []int{417}},
		{"api: a body is announced with a good key", f.api, request("POST", "/filters", "", "Content-Length: 100", "Expect: 100-continue", admin), []int{100}},
		{"api: HTTP/2.0", f.api, strings.Replace(request("GET", "/filters", "", admin), "HTTP/1.1", "HTTP/2.0", 1), []int{505}},
		{"api: HTTP/1.9", f.api, strings.Replace(request("GET", "/filters", "", admin), "HTTP/1.1", "HTTP/1.9", 1), []int{505}},
		{"api: large body", f.api, request("POST", "/filters", `{"subscriber_id":"`+strings.Repeat("a", 600<<10)+`"}`, admin), []int{413}},
		{"api: huge body", f.api, "POST /filters HTTP/1.1\r\nHost: x\r\n" + admin + "\r\nContent-Length: 99999999999\r\n\r\n{}", []int{0, 408, 413}}, // what it announced never comes
		{"api: large headers", f.api, request("GET", "/filters", "", "X-Large: "+strings.Repeat("a", 100_000)), []int{0, 431}},
		{"api: SQL in an id", f.api, request("GET", "/filters/1'%20or%20'1'='1", "", bearer(f.read)), []int{404}},
		{"api: SQL in a query", f.api, request("GET", "/filters?subscriber_id=x'%3B--", "", bearer(f.read)), []int{200, 400}},
		{"api: no HTTP", f.api, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, header, body := raw(t, tt.addr, tt.send)
			if !oneOf(status, tt.status) {
				t.Errorf("status %d %.300s, want one of %v", status, body, tt.status)
			}
			if status == 401 && !strings.HasPrefix(header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("WWW-Authenticate %q", header.Get("WWW-Authenticate"))
			}
			if server := header.Get("Server"); server != "" {
				t.Errorf("Server %q", server)
			}
			if status < 400 {
				return
			}
			for _, word := range f.leaks() {
				if strings.Contains(strings.ToLower(body), strings.ToLower(word)) {
					t.Errorf("the answer tells of %q: %.500s", word, body)
				}
			}
		})
	}

	// What operators need is there, for them.
	if err := get("http://" + f.pages + "/metrics"); err != nil {
		t.Errorf("the pages: %v", err)
	}
}

// admit asks the API with the admin's key, and reads the answer.
func (f *fortress) admit(method, target string, want int, answer any) {
	f.t.Helper()
	status, _, body := raw(f.t, f.api, request(method, target, "", "Authorization: Bearer "+f.admin))
	if status != want {
		f.t.Fatalf("%s %s: %d %s, want %d", method, target, status, body, want)
	}
	if answer != nil {
		if err := json.Unmarshal([]byte(body), answer); err != nil {
			f.t.Fatalf("%s %s: %s: %v", method, target, body, err)
		}
	}
}

// minted is a token that the API made.
type minted struct {
	Token string `json:"token"`
	JTI   string `json:"jti"`
}

// visitor is a client that is connected, until done says why not any more.
type visitor struct {
	minted
	done chan error
}

func (f *fortress) visit(gateway, subscriber string) *visitor {
	f.t.Helper()
	v := &visitor{done: make(chan error, 1)}
	f.admit("POST", "/subscribers/"+subscriber+"/tokens", 201, &v.minted)
	c, err := client.New(client.Config{URL: gateway, Token: func(context.Context) (string, error) { return v.Token, nil }}, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	go func() { v.done <- c.Run(f.t.Context(), func(client.Event) error { return nil }) }()
	select {
	case <-c.Ready():
	case err := <-v.done:
		f.t.Fatalf("%s can't connect: %v", subscriber, err)
	}
	return v
}

// expelled waits until the client gave up, and checks that it was told to.
func (v *visitor) expelled(t *testing.T, what string) {
	t.Helper()
	select {
	case err := <-v.done:
		if closed, ok := errors.AsType[*client.CloseError](err); !ok || closed.Code != wire.CloseNotAllowed {
			t.Errorf("%s: %v, want a close with %d", what, err, wire.CloseNotAllowed)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: it is still connected", what)
	}
}

// Who is revoked or disconnected is out, at every gateway, also one that starts
// later, after Redis lost everything; and others are not.
func TestRevoked(t *testing.T) {
	t.Parallel()
	f := newFortress(t)
	second := f.service("gateway").addr
	a, b, c := f.visit(f.gateway, "user_1"), f.visit(second, "user_1"), f.visit(second, "user_1")
	other := f.visit(second, "user_2")

	type connections struct {
		Connections []struct{ ID, Gateway string }
		Total       int
		Silent      []string `json:"silent_gateways"`
	}
	var list connections
	f.admit("GET", "/connections?subscriber_id=user_1", 200, &list)
	if list.Total != 3 || len(list.Connections) != 3 || len(list.Silent) > 0 {
		t.Fatalf("connected are %+v", list)
	}
	f.admit("DELETE", "/tokens/"+a.JTI, 204, nil)
	a.expelled(t, "its token was revoked")
	f.admit("GET", "/connections?subscriber_id=user_1", 200, &list)
	if list.Total != 2 || list.Connections[0].Gateway != list.Connections[1].Gateway {
		t.Fatalf("connected are %+v, want two, at one gateway", list)
	}
	f.admit("DELETE", "/connections/"+list.Connections[0].ID, 204, nil)
	f.admit("DELETE", "/connections/"+list.Connections[0].ID, 404, nil)
	select { // which of the two is not said
	case err := <-b.done:
		b.done <- err
		b, c = c, b
	case err := <-c.done:
		c.done <- err
	}
	c.expelled(t, "it was disconnected")
	f.admit("DELETE", "/subscribers/user_1/tokens", 204, nil)
	b.expelled(t, "its subscriber was revoked")

	f.flushRedis()
	third := f.service("gateway").addr
	fresh := f.visit(third, "user_1")
	mine := token(t, jwt.SigningMethodHS256, []byte(secret), nil) // without iat: it may be from before
	for _, gateway := range []string{f.gateway, second, third} {
		for what, text := range map[string]string{"a": a.Token, "b": b.Token, "c": c.Token, "one without iat": mine} {
			testenv.Eventually(t, 20*time.Second, func() error { // after the FLUSHALL, gateways announce themselves anew
				if status, _, body := raw(t, gateway, upgrade("/ws", "Authorization: Bearer "+text)); status != 401 {
					return fmt.Errorf("%s at %s: %d %s", what, gateway, status, body)
				}
				return nil
			})
		}
	}
	for _, v := range []*visitor{other, fresh} {
		select {
		case err := <-v.done:
			t.Errorf("one that is not concerned: %v", err)
		default:
		}
	}
}

func oneOf(status int, want []int) bool {
	for _, w := range want {
		if status == w {
			return true
		}
	}
	return false
}

// Nobody holds a connection by sending a handshake slowly, nor by sending a large
// one: an operator says what is too much.
func TestHandshakeLimits(t *testing.T) {
	t.Parallel()
	p := newPipelineOn(t, "127.0.0.1:1")
	addr := testenv.Addr(t)
	p.start("gateway", "--listen", addr, "--handshake-timeout", "300ms", "--max-header-bytes", "8192")
	testenv.Eventually(t, 20*time.Second, func() error { return get("http://" + addr + "/livez") })
	if status, _, body := raw(t, addr, "GET /ws HTTP/1.1\r\nHost: x\r\nX-Slow: "); status != 0 {
		t.Errorf("a slow handshake is answered %d %s", status, body)
	}
	for size, want := range map[int]int{7000: 503, 9000: 431} { // there is no Redis
		if status, _, body := raw(t, addr, upgrade("/ws?subscriber_id=user_1", "X-Large: "+strings.Repeat("a", size))); status != want {
			t.Errorf("a header of %d bytes: %d %.200s, want %d", size, status, body, want)
		}
	}
}
