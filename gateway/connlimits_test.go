package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"eventstream/gateway/framing"
	"eventstream/gateway/framing/framingtest"
	"eventstream/internal/ops"
	"eventstream/internal/testenv"
	"eventstream/wire"
)

func TestCrowds(t *testing.T) {
	w := newWorld(t, 1)
	proxies, err := ops.ParseProxies([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	g := w.gateway(Config{MaxPerSubscriber: 2, MaxPerAddress: 3, Proxies: proxies})
	join := func(subscriber, from string, want int) *websocket.Conn {
		t.Helper()
		ws, resp, err := websocket.Dial(t.Context(), g.url(subscriber, ""), &websocket.DialOptions{
			HTTPClient: oneShot, HTTPHeader: http.Header{"X-Forwarded-For": {from}},
		})
		if resp == nil || resp.StatusCode != want {
			t.Fatalf("%s from %s: %v, %v, want %d", subscriber, from, resp, err, want)
		}
		if want == 429 {
			body, _ := io.ReadAll(resp.Body)
			if !strings.Contains(string(body), "too-many-connections") || resp.Header.Get("Retry-After") == "" {
				t.Errorf("%s from %s: %v %s", subscriber, from, resp.Header, body)
			}
		}
		return ws
	}
	first := join("user_1", "203.0.113.1", 101)
	join("user_1", "203.0.113.1", 101)
	join("user_1", "203.0.113.2", 429) // of the subscriber
	join("user_2", "203.0.113.1", 101)
	join("user_2", "203.0.113.1", 429) // from the address
	last := join("user_2", "203.0.113.2", 101)

	// Who leaves makes room.
	first.CloseNow()
	testenv.Eventually(t, 5*time.Second, func() error { return wantOpen(g, 3) })
	join("user_3", "203.0.113.1", 101)
	last.CloseNow()
	testenv.Eventually(t, 5*time.Second, func() error { return wantOpen(g, 3) })

	g.delivery.Dismiss(1, lastSeat, "bye")
	testenv.Eventually(t, 10*time.Second, func() error { return wantOpen(g, 0) })
	if n := g.gate.connections.Counted(); n != 0 {
		t.Errorf("nobody is there, but %d subscribers and addresses are counted", n)
	}
}

func TestMessageRate(t *testing.T) {
	for _, tt := range []struct {
		name string
		send func(c *rawConn)
	}{
		{"pings", func(c *rawConn) { c.nc.Write(framingtest.ClientFrame(framing.OpPing, true, nil, 1)) }},
		{"pongs", func(c *rawConn) { c.nc.Write(framingtest.ClientFrame(framing.OpPong, true, nil, 1)) }},
		{"requests", func(c *rawConn) {
			c.nc.Write(framingtest.ClientFrame(framing.OpText, true, []byte(`{"type":"ping"}`), 1))
		}},
		{"nonsense", func(c *rawConn) { c.nc.Write(framingtest.ClientFrame(framing.OpText, true, []byte(`x`), 1)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 1)
			g := w.gateway(Config{MessageRate: 10})
			c := rawDial(t, g, "user_1", "")
			for range 101 { // a hundred may come at once
				tt.send(c)
			}
			if code := c.closeCode(); code != wire.CloseTooMany {
				t.Errorf("closed with %d, want %d", code, wire.CloseTooMany)
			}
		})
	}
}

func wantOpen(g *instance, want int64) error {
	if n := g.gate.open.Load(); n != want {
		return fmt.Errorf("%d connections are counted as open, want %d", n, want)
	}
	return nil
}
