package gateway

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"eventstream/gateway/framing/framingtest"
	"eventstream/internal/ops"
)

// knock sends a request as if from an address, and returns the status.
func knock(t *testing.T, g *instance, from, request string) *http.Response {
	t.Helper()
	resp, _ := askRaw(t, g, strings.Replace(request, "\r\n\r\n", "\r\nX-Forwarded-For: "+from+"\r\n\r\n", 1))
	return resp
}

func localProxy(t *testing.T) ops.Proxies {
	t.Helper()
	p, err := ops.ParseProxies([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// limited returns how many handshakes the metric counts as too many.
func limited(g *instance, by string) float64 {
	return counted(g.metrics.limited.WithLabelValues(by))
}

func counted(c prometheus.Counter) float64 {
	var m dto.Metric
	c.Write(&m)
	return m.GetCounter().GetValue()
}

func wantStatus(t *testing.T, what string, resp *http.Response, want int) {
	t.Helper()
	if resp.StatusCode != want {
		t.Errorf("%s: status %d, want %d", what, resp.StatusCode, want)
	}
	if again := resp.Header.Get("Retry-After"); want == 429 && again != "1" {
		t.Errorf("%s: Retry-After %q, want 1", what, again)
	}
}

// Strangers, however many, take nothing of the rate that is for those who may come in.
func TestStrangersTakeNothingOfTheRate(t *testing.T) {
	w := newWorld(t, 1)
	g, token := guarded(t, w, Config{HandshakeRate: 1, HandshakeRateAddress: 5, Proxies: localProxy(t)})
	upgrade := withToken("token="+token("user_1", time.Hour), "")
	for _, stranger := range []struct {
		name, request string
		status        int
	}{
		{"no upgrade", "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426},
		{"another method", strings.Replace(upgrade, "GET", "POST", 1), 405},
		{"a preflight", "OPTIONS /sse HTTP/1.1\r\nHost: localhost\r\n\r\n", 204},
		{"another method of a stream", "PUT /sse HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
		{"another origin", withToken("token=abc", "Origin: https://evil.example"), 403},
		{"another origin of a stream", "GET /sse HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n", 403},
		{"a bad parameter", strings.Replace(upgrade, "/ws?", "/ws?durable=maybe&", 1), 400},
		{"a bad cursor", strings.Replace(upgrade, "/ws?", "/ws?cursor=abc&", 1), 400},
		{"two tokens", strings.Replace(upgrade, "/ws?", "/ws?token=abc&", 1), 400},
		{"no token", withToken("", ""), 401},
	} {
		for range 20 { // four times what an address may: that is not counted, either
			wantStatus(t, stranger.name, knock(t, g, "203.0.113.1", stranger.request), stranger.status)
		}
	}
	forged := withToken("token="+mint(t, strings.Repeat("x", 40), "events", "user_1", time.Hour), "")
	for address := range 4 {
		refused := 0
		for range 20 {
			switch resp := knock(t, g, fmt.Sprintf("2001:db8:0:%d::%d", address, refused), forged); resp.StatusCode {
			case 429:
				wantStatus(t, "forged", resp, 429)
				refused++
			case 401:
			default:
				t.Errorf("forged: status %d", resp.StatusCode)
			}
		}
		if refused == 0 {
			t.Error("20 forged tokens from one /64 pass a rate of 5 a second")
		}
	}
	wantStatus(t, "a good one", knock(t, g, "203.0.113.1", upgrade), 101)
	if n := limited(g, "address"); n == 0 {
		t.Error("nothing was counted in the metric")
	}
	if n := limited(g, "gateway"); n != 0 {
		t.Errorf("the gateway's rate refused %v", n)
	}
}

// Clients with good tokens can share an address.
func TestGoodTokensShareAnAddress(t *testing.T) {
	w := newWorld(t, 1)
	g, token := guarded(t, w, Config{HandshakeRateAddress: 1})
	for i := range 20 {
		resp, problem := askRaw(t, g, withToken("token="+token(fmt.Sprint("user_", i), time.Hour), ""))
		if resp.StatusCode != 101 {
			t.Fatalf("client %d: %d %v", i, resp.StatusCode, problem)
		}
	}
}

// Where no tokens are asked for, everybody is a stranger.
func TestAddressRateWithoutTokens(t *testing.T) {
	w := newWorld(t, 1)
	for _, tt := range []struct {
		name string
		cfg  Config
		from string
		want bool // refused
	}{
		{"an address", Config{HandshakeRateAddress: 2}, "203.0.113.1", true},
		{"loopback", Config{HandshakeRateAddress: 2}, "127.0.0.1", true},
		{"loopback is spared", Config{HandshakeRateAddress: 2, SpareLoopback: true}, "127.0.0.1", false},
		{"another while loopback is", Config{HandshakeRateAddress: 2, SpareLoopback: true}, "203.0.113.1", true},
		{"no limit", Config{}, "203.0.113.1", false},
	} {
		tt.cfg.Proxies = localProxy(t)
		g := w.gateway(tt.cfg)
		refused := 0
		for i := range 20 {
			resp := knock(t, g, tt.from, request(fmt.Sprint("user_", i), ""))
			if resp.StatusCode == 429 {
				refused++
			}
		}
		if (refused > 0) != tt.want {
			t.Errorf("%s: %d of 20 were refused; any should be: %t", tt.name, refused, tt.want)
		}
		wantStatus(t, tt.name+", then another", knock(t, g, "198.51.100.1", request("user_1", "")), 101)
	}
}

// A subscriber that comes too often is refused, and takes nothing of what others need.
func TestSubscriberRate(t *testing.T) {
	w := newWorld(t, 1)
	g, token := guarded(t, w, Config{HandshakeRateSubscriber: 1, HandshakeRate: 20})
	flapper := withToken("token="+token("flapper", time.Hour), "")
	let, refused := 0, 0
	for range 60 { // ten may come at once
		resp, problem := askRaw(t, g, flapper)
		switch resp.StatusCode {
		case 101:
			let++
		case 429:
			wantStatus(t, "flapper", resp, 429)
			if problem["type"] != "urn:eventstream:problem:too-many-handshakes" {
				t.Errorf("problem %v", problem)
			}
			refused++
		default:
			t.Errorf("status %d %v", resp.StatusCode, problem)
		}
	}
	if let < 10 || refused == 0 {
		t.Errorf("of 60 at once %d came in, %d were refused", let, refused)
	}
	if n := limited(g, "subscriber"); n != float64(refused) {
		t.Errorf("counted %v refusals of %d", n, refused)
	}
	resp, _ := askRaw(t, g, withToken("token="+token("user_1", time.Hour), ""))
	wantStatus(t, "another subscriber", resp, 101)

	// An EventSource would never come back after 429.
	c := rawConnect(t, g)
	c.sendBytes([]byte("GET /sse?token=" + token("flapper", time.Hour) + " HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"))
	stream, err := http.ReadResponse(c.r, nil)
	if err != nil || stream.StatusCode != 200 {
		t.Fatalf("stream: %v, %v", stream, err)
	}
	p := framingtest.Parser{R: bufio.NewReader(stream.Body)}
	if e, err := p.Next(); err != nil || !strings.Contains(e.Data, "too_many_handshakes") || p.Retry < 1000 {
		t.Errorf("stream: %+v, %v, retry %v", e, err, p.Retry)
	}
}

// What is past the gateway's rate is told to come back.
func TestHandshakeRate(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{HandshakeRate: 2})
	refused := 0
	for i := range 20 {
		resp, problem := askRaw(t, g, request(fmt.Sprint("user_", i), ""))
		switch {
		case resp.StatusCode == 503 && resp.Header.Get("Retry-After") != "":
			refused++
		case resp.StatusCode != 101:
			t.Errorf("%d %v", resp.StatusCode, problem)
		}
	}
	if refused == 0 {
		t.Error("20 handshakes at once pass a rate of 2 a second")
	}
}
