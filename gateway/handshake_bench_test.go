package gateway

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// BenchmarkRefused is the gateway's work for handshakes that it refuses.
func BenchmarkRefused(b *testing.B) {
	w := newWorld(b, 1)
	g, token := guarded(b, w, Config{HandshakeRate: 1, HandshakeRateAddress: 1, HandshakeRateSubscriber: 1})
	read := func(text string) *http.Request {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			b.Fatal(err)
		}
		return r
	}
	for i, bm := range []struct {
		name, request string
		status        int // when it comes too often
	}{
		{"not an upgrade", "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426},
		{"no token", withToken("", ""), 401},
		{"forged token", withToken("token="+mint(b, strings.Repeat("x", 40), "events", "u", time.Hour), ""), 429},
		{"good token of a flapper", withToken("token="+token("user 1", time.Hour), ""), 429}, // which could not come in
	} {
		b.Run(bm.name, func(b *testing.B) {
			r := read(bm.request)
			r.RemoteAddr = fmt.Sprintf("203.0.113.%d:1234", i)
			b.ReportAllocs()
			last := 0
			for b.Loop() {
				rec := httptest.NewRecorder()
				g.serveWS(rec, r)
				last = rec.Code
			}
			if b.N > 1000 && last != bm.status {
				b.Errorf("status %d, want %d", last, bm.status)
			}
		})
	}
}

// BenchmarkHandshake connects, reads the answer and goes, over real sockets.
func BenchmarkHandshake(b *testing.B) {
	for _, tokens := range []bool{false, true} {
		b.Run(fmt.Sprintf("tokens=%t", tokens), func(b *testing.B) {
			w := newWorld(b, 1)
			g, token := guarded(b, w, Config{HandshakeRate: 1e6, HandshakeRateAddress: 1e6, HandshakeRateSubscriber: 1e5})
			text := withToken("token="+token("user_1", time.Hour), "")
			if !tokens {
				g, text = w.gateway(Config{HandshakeRate: 1e6, HandshakeRateAddress: 1e6, HandshakeRateSubscriber: 1e5}), request("user_1", "")
			}
			for b.Loop() {
				c := rawConnect(b, g)
				c.sendBytes([]byte(text))
				if resp, err := http.ReadResponse(c.r, nil); err != nil || resp.StatusCode != 101 {
					b.Fatal(resp, err)
				}
				c.nc.Close()
			}
		})
	}
}
