package gateway

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"eventstream/gateway/socket"
	"eventstream/internal/testenv"
	"eventstream/wire"
)

// What a client sees is the same with each engine.
func TestEngines(t *testing.T) {
	for _, tt := range []struct {
		name string
		tls  bool
		open func(*Gateway) socket.Engine // of what is not TLS
	}{
		{"pollers", false, func(*Gateway) socket.Engine { return socket.NewPollers() }},
		{"threads", false, func(*Gateway) socket.Engine { return socket.NewThreads() }},
		{"TLS", true, func(*Gateway) socket.Engine { return socket.NewPollers() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2)
			g := started(launchWith(t, Config{}, w.store, nil, nil, func(g *Gateway) { g.pollers = tt.open(g) }))
			front := httptest.NewUnstartedServer(g.server.Handler)
			front.Listener.Close()
			ln, err := socket.Listen(t.Context(), "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			front.Listener = ln
			if tt.tls {
				front.StartTLS()
			} else {
				front.Start()
			}
			t.Cleanup(front.Close)
			t.Run("slow client", func(t *testing.T) { slowClient(t, w, front) })
			t.Run("goodbye", func(t *testing.T) { saysGoodbye(t, g, front) })
			t.Run("reset", func(t *testing.T) { reset(t, g, front) })
			t.Run("unread answers", func(t *testing.T) { unreadAnswers(t, g, front) })
			t.Run("drain", func(t *testing.T) { drained(t, g, front) })
		})
	}
}

func frontClient(t *testing.T, front *httptest.Server) *wsClient {
	t.Helper()
	return dialFront(t, front, front.Client())
}

// smallClient has a small buffer to receive in.
func smallClient(t *testing.T, front *httptest.Server) *wsClient {
	t.Helper()
	transport := front.Client().Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			nc.(*net.TCPConn).SetReadBuffer(8 << 10)
		}
		return nc, err
	}
	return dialFront(t, front, &http.Client{Transport: transport})
}

func dialFront(t *testing.T, front *httptest.Server, by *http.Client) *wsClient {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), front.URL+"/ws?subscriber_id=user_1", &websocket.DialOptions{HTTPClient: by})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(16 << 20)
	t.Cleanup(func() { ws.CloseNow() })
	c := &wsClient{t: t, ws: ws, seen: make(map[string]int)}
	c.untilType("hello")
	return c
}

// slowClient reads nothing until far more has come than may wait for it.
func slowClient(t *testing.T, w *world, front *httptest.Server) {
	c := frontClient(t, front)
	var ids []string
	for i := range 300 {
		ids = append(ids, w.publishSized(i%2, 20_000, "user_1"))
	}
	c.until("all", func(wire.Message) bool { return len(c.seen) == len(ids) })
	c.check()
	for _, id := range ids {
		if c.seen[id] != 1 {
			t.Errorf("event %s came %d times", id, c.seen[id])
		}
	}
	c.ws.CloseNow()
}

// saysGoodbye is answered.
func saysGoodbye(t *testing.T, g *instance, front *httptest.Server) {
	c := frontClient(t, front)
	if err := c.ws.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Errorf("close: %v", err)
	}
	noneOpen(t, g)
}

// reset is the end of a connection without a word.
func reset(t *testing.T, g *instance, front *httptest.Server) {
	c := frontClient(t, front)
	c.ws.CloseNow()
	noneOpen(t, g)
}

// unreadAnswers are a reason to end the connection.
func unreadAnswers(t *testing.T, g *instance, front *httptest.Server) {
	c := smallClient(t, front)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var err error
	for err == nil {
		err = c.ws.Write(ctx, websocket.MessageText, []byte(`{"type":"`+strings.Repeat("x", 2000)+`"}`))
	}
	if ctx.Err() != nil {
		t.Error("the gateway goes on answering")
	}
	noneOpen(t, g)
}

func drained(t *testing.T, g *instance, front *httptest.Server) {
	c := frontClient(t, front)
	stopped := make(chan error, 1)
	go func() { stopped <- g.stop() }()
	if code := c.untilClose(5 * time.Second); code != websocket.StatusGoingAway {
		t.Errorf("close code %d", code)
	}
	testenv.Eventually(t, 5*time.Second, func() error {
		select {
		case err := <-stopped:
			return err
		default:
			return context.DeadlineExceeded
		}
	})
}
