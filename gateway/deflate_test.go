package gateway

import (
	"strings"
	"testing"

	"github.com/coder/websocket"

	"eventstream/wire"
)

// It is used only where the operator and the client want it.
func TestDeflateNegotiated(t *testing.T) {
	w := newWorld(t, 1)
	on, off := w.gateway(Config{Compress: true}), w.gateway(Config{})
	asks := strings.Replace(request("user_1", ""), "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n", 1)
	for _, tt := range []struct {
		name, request, want string
		gateway             *instance
	}{
		{"both", asks, "permessage-deflate; server_no_context_takeover; client_no_context_takeover", on},
		{"operator alone", request("user_1", ""), "", on},
		{"client alone", asks, "", off},
	} {
		resp, _ := askRaw(t, tt.gateway, tt.request)
		if got := resp.Header.Get("Sec-WebSocket-Extensions"); resp.StatusCode != 101 || got != tt.want {
			t.Errorf("%s: got %d, %q; want %q", tt.name, resp.StatusCode, got, tt.want)
		}
	}
}

// A client with another implementation of the RFC gets all events, large and
// small, and is understood.
func TestDeflate(t *testing.T) {
	w := newWorld(t, 2)
	g := w.gateway(Config{Compress: true})
	ws, _, err := websocket.Dial(t.Context(), g.url("user_1", ""), &websocket.DialOptions{
		HTTPClient: oneShot, CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(1 << 20)
	c := &wsClient{t: t, ws: ws, seen: make(map[string]int)}
	c.untilType(wire.Hello)
	var want []string
	for i := range 60 {
		want = append(want, w.publishSized(i%2, i*i*20, "user_1"))
	}
	for _, id := range want {
		c.untilEvent(id)
	}
	c.check()
	wantIDs(t, c, want...)
	for range 3 {
		c.send(`{"type":"ping"}`)
		c.untilType(wire.Pong)
	}
	c.send(`{"type":"` + strings.Repeat("é", 1500) + `"}`)
	if m := c.untilType(wire.Error); !strings.Contains(m.Text, "allowed are") {
		t.Errorf("got %+v", m)
	}
}
