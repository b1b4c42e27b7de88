package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"eventstream/gateway/framing"
	"eventstream/gateway/framing/framingtest"
	"eventstream/internal/testenv"
	"eventstream/origin"
)

// askRaw sends a request as it stands and returns the answer and its problem.
func askRaw(t *testing.T, g *instance, text string) (*http.Response, map[string]any) {
	t.Helper()
	c := rawConnect(t, g)
	defer c.nc.Close()
	if _, err := io.WriteString(c.nc, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatalf("answer: %v", err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, nil
	}
	body, _ := io.ReadAll(resp.Body)
	var problem map[string]any
	if err := json.Unmarshal(body, &problem); err != nil && resp.Header.Get("Content-Type") == "application/problem+json" {
		t.Errorf("body %q: %v", body, err)
	}
	return resp, problem
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{Origins: origins(t, "https://app.example.org"), Hosts: origin.Hosts{"gateway.test"}})
	good := request("user_1", "")
	with := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the request", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	header := func(line string) string { return with("\r\n\r\n", "\r\n"+line+"\r\n\r\n") }
	at := func(host string, lines ...string) string {
		return with("Host: 127.0.0.1", strings.Join(append([]string{"Host: " + host}, lines...), "\r\n"))
	}
	for _, tt := range []struct {
		name, request string
		status        int
		code, header  string
	}{
		{"good", good, 101, "", ""},
		{"keep-alive, Upgrade", with("Connection: Upgrade", "Connection: keep-alive, upgrade"), 101, "", ""},
		{"odd case", with("Upgrade: websocket", "upgrade: WebSocket"), 101, "", ""},
		{"more parameters", with("subscriber_id", "durable=false&subscriber_id"), 101, "", ""},
		{"unicode subscriber", with("user_1", url.QueryEscape("Zoë")), 101, "", ""},
		{"own origin", at("localhost:8003", "Origin: http://localhost:8003", "Sec-Fetch-Site: same-origin"), 101, "", ""},
		{"own address", header("Origin: http://127.0.0.1"), 101, "", ""},
		{"own name", at("gateway.test", "Origin: http://gateway.test", "Sec-Fetch-Site: same-origin"), 101, "", ""},
		{"a name that was pointed at us", at("evil.example", "Origin: http://evil.example", "Sec-Fetch-Site: same-origin"), 403, "host-not-allowed", ""},
		{"the same without Origin", at("evil.example"), 403, "host-not-allowed", ""},
		{"the same with an allowed origin", at("evil.example", "Origin: https://app.example.org"), 403, "host-not-allowed", ""},
		{"allowed origin, as browsers send it", header("Origin: https://app.example.org\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: websocket\r\nSec-Fetch-Dest: websocket"), 101, "", ""},
		{"two origins", header("Origin: https://app.example.org\r\nOrigin: https://evil.example"), 403, "origin-not-allowed", ""},
		{"another site without Origin", header("Sec-Fetch-Site: cross-site"), 403, "origin-not-allowed", ""},
		{"allowed origin", header("Origin: https://app.example.org"), 101, "", ""},
		{"extensions are not taken up", header("Sec-WebSocket-Extensions: permessage-deflate"), 101, "", ""},

		{"no Upgrade", with("Upgrade: websocket\r\n", ""), 426, "upgrade-required", "Upgrade: websocket"},
		{"other Upgrade", with("websocket", "h2c"), 426, "upgrade-required", "Upgrade: websocket"},
		{"no Connection", with("Connection: Upgrade\r\n", ""), 426, "upgrade-required", "Upgrade: websocket"},
		{"plain GET", "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426, "upgrade-required", "Upgrade: websocket"},
		{"old version", with("Version: 13", "Version: 8"), 426, "bad-version", "Sec-WebSocket-Version: 13"},
		{"no version", with("Sec-WebSocket-Version: 13\r\n", ""), 426, "bad-version", "Sec-WebSocket-Version: 13"},
		{"no key", with("Sec-WebSocket-Key: "+testKey+"\r\n", ""), 400, "bad-handshake", ""},
		{"short key", with(testKey, "c2hvcnQ="), 400, "bad-handshake", ""},
		{"key is no base64", with(testKey, "!!!!!!!!!!!!!!!!!!!!!!=="), 400, "bad-handshake", ""},
		{"POST", with("GET", "POST"), 405, "method-not-allowed", "Allow: GET"},
		{"HTTP/1.0", with("HTTP/1.1", "HTTP/1.0"), 400, "bad-handshake", ""},
		{"body", header("Content-Length: 2") + "hi", 400, "bad-handshake", ""},
		{"chunked body", header("Transfer-Encoding: chunked") + "0\r\n\r\n", 400, "bad-handshake", ""},

		{"no subscriber", with("subscriber_id=user_1", "durable=false"), 400, "bad-subscriber", ""},
		{"empty subscriber", with("user_1", ""), 400, "bad-subscriber", ""},
		{"long subscriber", with("user_1", strings.Repeat("x", 1000)), 400, "bad-subscriber", ""},
		{"space in subscriber", with("user_1", "user+1"), 400, "bad-subscriber", ""},
		{"control character in subscriber", with("user_1", "user%001"), 400, "bad-subscriber", ""},
		{"subscriber is not UTF-8", with("user_1", "%ff"), 400, "bad-subscriber", ""},
		{"bad escape", with("user_1", "%zz"), 400, "bad-query", ""},
		{"malformed cursor", with("user_1", "user_1&cursor=abc"), 400, "bad-cursor", ""},
		{"cursor is no base64url", with("user_1", "user_1&cursor=%22%3E"), 400, "bad-cursor", ""},

		{"foreign origin", header("Origin: https://evil.example"), 403, "origin-not-allowed", ""},
		{"null origin", header("Origin: null"), 403, "origin-not-allowed", ""},
		{"origin with our name in it", header("Origin: https://gateway.test.evil.example"), 403, "origin-not-allowed", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, problem := askRaw(t, g, tt.request)
			if resp.StatusCode != tt.status {
				t.Fatalf("status: got %d %v, want %d", resp.StatusCode, problem, tt.status)
			}
			if tt.header != "" {
				name, value, _ := strings.Cut(tt.header, ": ")
				if got := resp.Header.Get(name); got != value {
					t.Errorf("header %s: got %q, want %q", name, got, value)
				}
			}
			if tt.status == 101 {
				if ext := resp.Header.Get("Sec-WebSocket-Extensions"); ext != "" {
					t.Errorf("extensions %q", ext)
				}
				return
			}
			if got, want := problem["type"], "urn:eventstream:problem:"+tt.code; got != want || problem["status"] != float64(tt.status) || problem["detail"] == "" {
				t.Errorf("problem: got %v, want type %s", problem, want)
			}
			if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("content type: got %q", ct)
			}
		})
	}
	noneOpen(t, g)
}

func FuzzHandshake(f *testing.F) {
	w := newWorld(f, 1)
	g := w.gateway(Config{})
	for _, r := range []string{request("user_1", ""), request("user_1", "abc"), "GET /ws HTTP/1.1\r\n\r\n", "POST /ws HTTP/1.0\r\nHost:\r\n\r\n"} {
		f.Add(r)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4<<10 {
			return
		}
		c := rawConnect(t, g)
		defer c.nc.Close()
		io.WriteString(c.nc, text+"\r\n\r\n")
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			return // net/http did not take it for a request, or waits for more
		}
		if resp.StatusCode == 500 || resp.StatusCode == 200 {
			t.Errorf("%q: answered %d", text, resp.StatusCode)
		}
	})
}

// A client that sends frames before its handshake is answered is refused.
func TestEarlyFrames(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := rawConnect(t, g)
	c.sendBytes(append([]byte(request("user_1", "")), framingtest.ClientFrame(framing.OpText, true, []byte(`{"type":"ping"}`), 1)...))
	if resp, err := http.ReadResponse(c.r, nil); err == nil {
		t.Errorf("answered: %d", resp.StatusCode)
	}
	noneOpen(t, g)
}

func TestMaxConns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{MaxConns: 3})
	var mu sync.Mutex
	var open []*rawConn
	refused := 0
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			c := rawConnect(t, g)
			io.WriteString(c.nc, request("user_1", ""))
			resp, err := http.ReadResponse(c.r, nil)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Error(err)
			case resp.StatusCode == 101:
				open = append(open, c)
			case resp.StatusCode == 503 && resp.Header.Get("Retry-After") != "":
				refused++
			default:
				t.Errorf("status %d %v", resp.StatusCode, resp.Header)
			}
		})
	}
	wg.Wait()
	if len(open) != 3 || refused != 17 {
		t.Errorf("%d connections were taken and %d refused, want 3 and 17", len(open), refused)
	}
	for _, c := range open {
		c.nc.Close()
	}
	noneOpen(t, g)
	connect(t, g, "user_1", "")
}

// A client that reconnects without end takes one seat, which it is given again: with
// a cursor, and without one.
func TestFlappingClientKeepsItsSeat(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	g := w.gateway(Config{})
	victim := connect(t, g, "victim", "")
	cursor := ""
	for i := range 100 {
		missed := ""
		if cursor != "" {
			missed = w.publish(i%2, "user_1")
		}
		c := connect(t, g, "user_1", cursor)
		if missed != "" {
			c.untilEvent(missed)
		}
		c.untilEvent(w.publish(i%2, "user_1"))
		c.check()
		cursor = c.cursor
		if i%3 == 0 {
			cursor = ""
		}
		c.ws.CloseNow()
		testenv.Eventually(t, 10*time.Second, func() error {
			if n := g.gate.open.Load(); n != 1 {
				return fmt.Errorf("%d connections are open, want the victim's", n)
			}
			return nil
		})
		victim.untilEvent(w.publish(i%2, "victim"))
	}
	if n := g.presence.Seats(); n != 2 {
		t.Errorf("%d seats, want the flapping client's and the victim's", n)
	}
}

// Clients vanish at every stage, while the store has its moods. In the end
// nothing is left of them.
func TestStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	l := &flaky{Memory: w.store}
	g := startGateway(t, Config{MaxPending: 32 << 10, Heartbeat: time.Second, ResumeWindow: time.Second}, l)
	first := connect(t, g, "user_1", "")
	cursor := first.cursor
	first.ws.CloseNow()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				l.announce.Store(works)
				return
			default:
			}
			l.announce.Store(works)
			if i%40 == 7 {
				l.announce.Store(fails)
			}
			w.publishSized(i%2, 2<<10, "user_1")
			w.beat()
		}
	})
	for worker := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 1))
			for range 25 {
				vanish(t, g, rng, cursor)
			}
		})
	}
	done := make(chan struct{})
	time.AfterFunc(3*time.Second, func() { close(stop) })
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(25 * time.Second):
		t.Fatal("the storm does not end")
	}
	noneOpen(t, g)
	if got := metric(t, g, "connections"); !strings.HasSuffix(got, " 0") {
		t.Errorf("gauge: %s", got)
	}
	if n := g.topics.laneReaders()[0].Followed(); n != 0 {
		t.Errorf("old seats of %d gateways are followed for nobody", n)
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		if n := g.presence.Seats(); n > 0 {
			return fmt.Errorf("%d seats are left", n)
		}
		return nil
	})
	c := connect(t, g, "user_1", "")
	c.untilEvent(w.publish(0, "user_1"))
}

// vanish connects and goes away at some stage.
func vanish(t *testing.T, g *instance, rng *rand.Rand, cursor string) {
	c := rawConnect(t, g)
	defer c.nc.Close()
	if rng.IntN(3) > 0 {
		cursor = ""
	}
	text := []byte(request("user_1", cursor))
	switch rng.IntN(6) {
	case 0: // in the middle of the request
		c.nc.Write(text[:rng.IntN(len(text))])
	case 1: // right after it
		c.nc.Write(text)
	case 2: // with early frames
		c.nc.Write(slices.Concat(text, framingtest.ClientFrame(framing.OpText, true, nil, 1)))
	case 3: // after some of the answer
		c.nc.Write(text)
		io.CopyN(io.Discard, c.r, int64(rng.IntN(400)))
	case 4: // after reading a while
		c.nc.Write(text)
		c.nc.SetReadDeadline(time.Now().Add(time.Duration(rng.IntN(100)) * time.Millisecond))
		io.Copy(io.Discard, c.r)
	case 5: // with a close frame
		c.nc.Write(text)
		if _, err := http.ReadResponse(c.r, nil); err == nil {
			c.nc.Write(framingtest.ClientFrame(framing.OpClose, true, []byte{3, 232}, 1))
			c.ended()
		}
	}
}
