package gateway

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"eventstream/auth"
	"eventstream/wire"
)

// fullSocket takes bytes that never leave.
type fullSocket struct{ bytes, closes int }

func (f *fullSocket) Write(b []byte) (int, error) { f.bytes += len(b); return len(b), nil }
func (f *fullSocket) Close() error                { f.closes++; return nil }

// Answers have one bound, whoever writes them: a client that does not read is cut off there.
func TestUnreadAnswersOfTheWorker(t *testing.T) {
	cursor := strings.Repeat("c", 200)
	for _, tt := range []struct {
		name    string
		command func(*conn) command
	}{
		{"acked", func(c *conn) command { return answered{c, wire.AppendAcked(nil, cursor, "0-1")} }},
		{"token", func(c *conn) command {
			return &renewed{c, auth.Claims{Subject: "user_1", Expires: time.Unix(1<<31, 0)}}
		}},
		{"no token", func(c *conn) command { return answered{c, []byte(`{"type":"error","code":"bad_token"}`)} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Config{})
			c, _ := b.join(nil)
			sock := &fullSocket{}
			c.sock.Attach(sock)
			b.openConn(c)
			before := sock.bytes
			command := tt.command(c)
			for range 10_000 {
				command.apply(c.worker)
			}
			if got := sock.bytes - before; got > maxAnswers*5/4 || got < maxAnswers/2 {
				t.Errorf("%d bytes wait for a client that does not read, want about %d", got, maxAnswers)
			}
			if sock.closes == 0 {
				t.Error("it is not closed")
			}
			if n := counted(b.Gateway.metrics.unread); n != 1 {
				t.Errorf("counted %v such clients", n)
			}
		})
	}
}

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
