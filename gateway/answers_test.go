package gateway

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// So it is with bad tokens over a socket.
func TestUnreadTokenAnswers(t *testing.T) {
	w := newWorld(t, 1)
	g, token := guarded(t, w, Config{})
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			nc.(*net.TCPConn).SetReadBuffer(8 << 10)
		}
		return nc, err
	}}
	t.Cleanup(transport.CloseIdleConnections)
	ws, _, err := websocket.Dial(t.Context(), "http://"+g.addr+"/ws?token="+token("user_1", time.Hour), &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for err == nil {
		err = ws.Write(ctx, websocket.MessageText, []byte(`{"type":"token","token":"abc"}`))
	}
	if ctx.Err() != nil {
		t.Error("the gateway goes on answering")
	}
	noneOpen(t, g)
}
