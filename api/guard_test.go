package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"eventstream/api"
	"eventstream/auth"
	"eventstream/internal/testenv"
	"eventstream/origin"
	"eventstream/store"
)

var _ api.Keys = (*store.Postgres)(nil)

// keyring is API keys in memory.
type keyring struct {
	mu    sync.Mutex
	err   error
	keys  []auth.APIKey
	reads int
}

func (k *keyring) APIKeys(context.Context) ([]auth.APIKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reads++
	return append([]auth.APIKey(nil), k.keys...), k.err
}

func (k *keyring) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

func (k *keyring) create(t *testing.T, s auth.Scope) (text string) {
	t.Helper()
	key, text, err := auth.NewAPIKey("test", s)
	if err != nil {
		t.Fatal(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = append(k.keys, key)
	return text
}

// readAnew waits until the API has read the keys as they are now, and taken them up:
// it does so before it reads them once more.
func (k *keyring) readAnew(t *testing.T) {
	t.Helper()
	read := func() int {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.reads
	}
	before := read()
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := read() - before; n < 2 {
			return fmt.Errorf("the keys were read %d times", n)
		}
		return nil
	})
}

func (k *keyring) revokeAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.keys {
		k.keys[i].Revoked = time.Now()
	}
}

// startGuarded starts an API with keys, and waits until it has read them.
func startGuarded(t *testing.T, cfg api.Config, keys *keyring) *service {
	t.Helper()
	cfg.Keys = keys
	s := start(t, cfg, &store.Memory{})
	testenv.Eventually(t, 5*time.Second, func() error { return status(s.do("GET", "/readyz", ""), 200) })
	return s
}

// from returns the first line of the answer to a request from an address.
func (s *service) from(address, request string) string {
	s.t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go s.server.ServeConn(&elsewhere{theirs, net.TCPAddr{IP: net.ParseIP(address), Port: 1}})
	io.WriteString(ours, request+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
	line, err := bufio.NewReader(ours).ReadString('\n')
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// elsewhere is a connection from a place.
type elsewhere struct {
	net.Conn
	place net.TCPAddr
}

func (e *elsewhere) RemoteAddr() net.Addr { return &e.place }

func (e *elsewhere) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func status(a answer, want int) error {
	if a.status != want {
		return fmt.Errorf("status %d %s, want %d", a.status, a.body, want)
	}
	return nil
}

func TestScopesOfRoutes(t *testing.T) {
	keys := &keyring{}
	text := map[string]string{"none": ""}
	for _, s := range []auth.Scope{auth.ScopeRead, auth.ScopeWrite, auth.ScopeAdmin} {
		text[string(s)] = keys.create(t, s)
	}
	signing, _ := auth.ParseSecrets("a-secret-of-at-least-32-characters")
	signer, err := auth.NewSigner(signing, auth.Terms{})
	if err != nil {
		t.Fatal(err)
	}
	s := startGuarded(t, api.Config{Signer: signer}, keys)
	const missing = "/filters/01a2092d-00d2-7c8d-adb7-41d088fd9c80"
	for _, tt := range []struct {
		method, path, body       string
		none, read, write, admin int
	}{
		{"GET", "/livez", "", 200, 200, 200, 200},
		{"GET", "/readyz", "", 200, 200, 200, 200},
		{"GET", "/health", "", 200, 200, 200, 200},
		{"GET", "/metrics", "", 401, 200, 200, 200},
		{"GET", "/filters", "", 401, 200, 200, 200},
		{"HEAD", "/filters", "", 401, 200, 200, 200},
		{"GET", missing, "", 401, 404, 404, 404},
		{"POST", "/filters", adas, 401, 403, 201, 201},
		{"PUT", missing, adas, 401, 403, 404, 404},
		{"DELETE", missing, "", 401, 403, 404, 404},
		{"GET", "/subscribers?durable=true", "", 401, 200, 200, 200},
		{"DELETE", "/subscribers/ada/ack", "", 401, 403, 404, 404},
		{"DELETE", "/subscribers?acked_before=1h", "", 401, 403, 200, 200},
		{"POST", "/subscribers/ada/tokens", "", 401, 403, 403, 201},
		{"DELETE", "/subscribers/ada/tokens", "", 401, 403, 403, 204},
		{"DELETE", "/tokens/t1", "", 401, 403, 403, 204},
		{"GET", "/connections?subscriber_id=ada", "", 401, 403, 403, 200},
		{"DELETE", "/connections?subscriber_id=ada", "", 401, 403, 403, 200},
		{"DELETE", "/connections/0000000000000001-3", "", 401, 403, 403, 404},
		{"GET", "/nothing", "", 401, 404, 404, 404},
		{"PATCH", "/subscribers/ada/ack", "", 401, 403, 405, 405},
		{"GET", "/%66ilters", "", 401, 404, 404, 404},
		{"GET", "//filters", "", 401, 404, 404, 404},
		{"GET", "/health/../filters", "", 401, 404, 404, 404},
		{"GET", "/health/%2e%2e/filters", "", 401, 404, 404, 404},
		{"GET", "/filters;/health", "", 401, 404, 404, 404},
	} {
		for name, want := range map[string]int{"none": tt.none, "read": tt.read, "write": tt.write, "admin": tt.admin} {
			var header []string
			if text[name] != "" {
				header = []string{"Authorization", "Bearer " + text[name]}
			}
			a := s.do(tt.method, tt.path, tt.body, header...)
			if a.status != want {
				t.Errorf("%s %s with scope %s: %d %s, want %d", tt.method, tt.path, name, a.status, a.body, want)
			}
			challenge := a.header.Get("WWW-Authenticate")
			if refused := want == 401 || want == 403; refused != strings.HasPrefix(challenge, "Bearer") {
				t.Errorf("%s %s with scope %s: WWW-Authenticate %q", tt.method, tt.path, name, challenge)
			}
		}
	}
}

func TestWrongKeys(t *testing.T) {
	keys := &keyring{}
	good := keys.create(t, auth.ScopeAdmin)
	_, other, _ := auth.NewAPIKey("other", auth.ScopeAdmin)
	s := startGuarded(t, api.Config{}, keys)
	for _, header := range [][]string{
		{"Authorization", "Bearer " + other},
		{"Authorization", "Bearer " + good[:len(good)-1] + "x"},
		{"Authorization", "Bearer " + strings.ToUpper(good)},
		{"Authorization", "Bearer " + good + good},
		{"Authorization", "Bearer"},
		{"Authorization", "Bearer "},
		{"Authorization", "Basic " + good},
		{"Authorization", good},
		{"Authorization", "Bearer " + good, "Authorization", "Bearer " + good},
		{"Authorization", "Bearer " + strings.Repeat("x", 8000)},
		{"X-Api-Key", good},
		{"Cookie", "key=" + good},
	} {
		a := s.do("GET", "/filters?key="+good, "", header...)
		if a.status != 401 || !strings.Contains(a.body, "urn:eventstream:problem:unauthorized") || strings.Contains(a.body, good) {
			t.Errorf("%.60q: %d %s, want 401", header, a.status, a.body)
		}
	}
	want(t, "status of the good one", s.do("GET", "/filters", "", "Authorization", "bearer "+good).status, 200)
	if log := s.log.String(); strings.Contains(log, good[20:]) {
		t.Errorf("a key is in the log:\n%s", log)
	}
}

// Keys come and go while the API runs, and it never opens up again.
func TestKeysChange(t *testing.T) {
	keys := &keyring{}
	s := startGuarded(t, api.Config{}, keys)
	want(t, "status before there is a key", s.do("GET", "/filters", "").status, 200)
	text := keys.create(t, auth.ScopeRead)
	became := func(want int, header ...string) {
		t.Helper()
		keys.readAnew(t)
		if err := status(s.do("GET", "/filters", "", header...), want); err != nil {
			t.Error(err)
		}
	}
	became(401)
	became(200, "Authorization", "Bearer "+text)
	keys.revokeAll()
	became(401, "Authorization", "Bearer "+text)
	want(t, "status without a key when all are revoked", s.do("GET", "/filters", "").status, 401)
}

func TestKeysUnknown(t *testing.T) {
	keys := &keyring{err: errors.New("postgres at 10.0.0.7 is down")}
	text := keys.create(t, auth.ScopeRead)
	s := start(t, api.Config{Keys: keys}, &store.Memory{})
	for _, header := range [][]string{nil, {"Authorization", "Bearer " + text}} {
		a := s.do("GET", "/filters", "", header...)
		if a.status != 503 || a.header.Get("Retry-After") == "" || strings.Contains(a.body, "10.0.0.7") {
			t.Errorf("%d %v %s, want 503 with Retry-After, and no word of the database", a.status, a.header, a.body)
		}
	}
	want(t, "readiness", s.do("GET", "/readyz", "").status, 503)
	keys.fail(nil)
	testenv.Eventually(t, 5*time.Second, func() error { return status(s.do("GET", "/filters", "", "Authorization", "Bearer "+text), 200) })
	// It goes down again: what was read last counts for now.
	keys.fail(errors.New("down"))
	want(t, "status when the database is down", s.do("GET", "/filters", "", "Authorization", "Bearer "+text).status, 200)
}

// On an address that strangers reach a key is needed even when there is none.
func TestKeyRequired(t *testing.T) {
	s := startGuarded(t, api.Config{RequireKey: true}, &keyring{})
	want(t, "status", s.do("GET", "/filters", "").status, 401)
}

func TestMintToken(t *testing.T) {
	keys := &keyring{}
	admin := []string{"Authorization", "Bearer " + keys.create(t, auth.ScopeAdmin)}
	signing, _ := auth.ParseSecrets("k:a-secret-of-at-least-32-characters")
	signer, err := auth.NewSigner(signing, auth.Terms{Audience: []string{"events"}})
	if err != nil {
		t.Fatal(err)
	}
	verifier, _ := auth.NewVerifier(auth.Config{Keys: signing, Terms: auth.Terms{Audience: []string{"events"}}})
	s := startGuarded(t, api.Config{Signer: signer}, keys)
	for _, tt := range []struct {
		path, body string
		status     int
		life       time.Duration
	}{
		{"ada", "", 201, time.Hour},
		{"ada", "{}", 201, time.Hour},
		{"Zo%C3%AB", `{"expires_in":60}`, 201, time.Minute},
		{"ada", `{"expires_in":86400}`, 201, 24 * time.Hour},
		{"ada", `{"expires_in":60.0}`, 201, time.Minute},
		{"ada", `{"expires_in":null}`, 422, 0},
		{"ada", `{"expires_in":86401}`, 422, 0},
		{"ada", `{"expires_in":0}`, 422, 0},
		{"ada", `{"expires_in":1.5}`, 422, 0},
		{"ada", `{"expires_in":"60"}`, 422, 0},
		{"ada", `{"expires":60}`, 422, 0},
		{"ada", `null`, 400, 0},
		{"ada", `[]`, 400, 0},
		{"ada", `{}{}`, 400, 0},
		{"a%20b", "", 400, 0},
		{"a%2Fb", "", 201, time.Hour},
		{"ada", "", 201, time.Hour},
	} {
		a := s.do("POST", "/subscribers/"+tt.path+"/tokens", tt.body, admin...)
		if a.status != tt.status {
			t.Errorf("%s %s: %d %s, want %d", tt.path, tt.body, a.status, a.body, tt.status)
			continue
		}
		if tt.status != 201 {
			continue
		}
		var got struct {
			Token, SubscriberID string
			Expires             int64
		}
		if err := json.Unmarshal([]byte(strings.Replace(a.body, "subscriber_id", "SubscriberID", 1)), &got); err != nil {
			t.Fatal(err)
		}
		c, err := verifier.Verify(t.Context(), got.Token)
		if err != nil || c.Subject != got.SubscriberID || c.Expires.Unix() != got.Expires {
			t.Errorf("%s: %+v, %v", a.body, c, err)
		}
		if left := time.Until(c.Expires); left > tt.life || left < tt.life-10*time.Second {
			t.Errorf("%s: it ends in %v, want %v", tt.body, left, tt.life)
		}
		want(t, "Cache-Control", a.header.Get("Cache-Control"), "no-store")
	}

	// Where nobody is asked for keys, those on this machine get tokens, too, and may take
	// them back. Strangers need a key for that.
	open := startGuarded(t, api.Config{Signer: signer}, &keyring{})
	for path, status := range map[string]int{"POST /subscribers/ada/tokens": 201, "DELETE /subscribers/ada/tokens": 204, "DELETE /tokens/t1": 204} {
		method, path, _ := strings.Cut(path, " ")
		want(t, method+" "+path+" without a key", open.do(method, path, "").status, status)
	}
	want(t, "a stranger's token", open.from("203.0.113.7", "POST /subscribers/ada/tokens"), "HTTP/1.1 401 Unauthorized")
	want(t, "a stranger's revocation", open.from("203.0.113.7", "DELETE /subscribers/ada/tokens"), "HTTP/1.1 204 No Content")
	none := startGuarded(t, api.Config{}, keys)
	want(t, "without a signing key", none.do("POST", "/subscribers/ada/tokens", "", admin...).status, 501)
}

// An API that asks nobody who he is must not be used by pages that happen to be
// open on the machine.
func TestPagesOfOthers(t *testing.T) {
	s := start(t, api.Config{Hosts: origin.Hosts{"api.example.org"}}, &store.Memory{})
	for _, tt := range []struct {
		host         string
		origin, site string // several with a comma
		method       string
		path         string
		status       int
	}{
		{"", "", "", "GET", "/filters", 200},
		{"", "http://" + s.addr, "same-origin", "GET", "/filters", 200},
		{"localhost:8001", "http://localhost:8001", "", "GET", "/filters", 200},
		{"api.example.org", "https://api.example.org", "", "GET", "/filters", 200},
		{"api.example.org:8001", "", "", "GET", "/metrics", 200},
		{"", "https://evil.example", "", "GET", "/filters", 403},
		{"", "null", "", "GET", "/filters", 403},
		{"", "http://" + s.addr + ".evil.example", "", "GET", "/filters", 403},
		{"", "http://" + s.addr + ",https://evil.example", "", "GET", "/filters", 403},
		{"evil.example", "http://evil.example", "", "GET", "/filters", 403}, // its name was pointed at us
		{"evil.example", "", "", "GET", "/filters", 403},
		{"evil.example", "", "", "GET", "/metrics", 403},
		{"evil.example", "", "", "GET", "/docs", 403},
		{"evil.example", "", "", "GET", "/readyz", 403},
		{"evil.example", "", "", "GET", "/nothing", 403},
		{"", "", "cross-site", "DELETE", "/filters?subscriber_id=x", 403},
		{"", "", "same-site", "DELETE", "/filters?subscriber_id=x", 403},
		{"", "", "cross-site", "GET", "/subscribers/x/events?since=1h", 403}, // <img src>
		{"", "", "cross-site", "GET", "/docs", 200},                          // a link
		{"", "", "none", "DELETE", "/filters?subscriber_id=x", 200},
		{"", "http://" + s.addr, "same-origin", "DELETE", "/filters?subscriber_id=x", 200},
	} {
		a := s.doPage(tt.host, tt.method, tt.path, tt.origin, tt.site)
		if a.status != tt.status {
			t.Errorf("%+v: %d %s", tt, a.status, a.body)
		}
	}
	if a := s.doPage("evil.example", "GET", "/filters", "", ""); !strings.Contains(a.body, "--hosts") {
		t.Errorf("%s does not say what is allowed", a.body)
	}
}

// Where a key is needed no page can do anything without one, and any name will do.
func TestPagesOfOthersWithKeys(t *testing.T) {
	keys := &keyring{}
	keys.create(t, auth.ScopeRead)
	s := startGuarded(t, api.Config{}, keys)
	for path, want := range map[string]int{"/filters": 401, "/metrics": 401, "/readyz": 200, "/livez": 200, "/docs": 200} {
		if a := s.doPage("evil.example", "GET", path, "", "cross-site"); a.status != want {
			t.Errorf("%s: %d %s, want %d", path, a.status, a.body, want)
		}
	}
}

// doPage is do as a page's browser does it.
func (s *service) doPage(host, method, path, origins, sites string) answer {
	s.t.Helper()
	req, err := http.NewRequest(method, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if host != "" {
		req.Host = host
	}
	for name, lines := range map[string]string{"Origin": origins, "Sec-Fetch-Site": sites} {
		if lines != "" {
			req.Header[name] = strings.Split(lines, ",")
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return read(s.t, resp)
}
