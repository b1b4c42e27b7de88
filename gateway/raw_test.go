package gateway

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/gateway/framing"
	"eventstream/gateway/framing/framingtest"
	"eventstream/wire"
)

// rawConn is a client that does exactly what the test says and nothing else.
type rawConn struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

const testKey = "dGhlIHNhbXBsZSBub25jZQ=="

// request returns a good handshake.
func request(subscriber, cursor string) string {
	q := url.Values{"subscriber_id": {subscriber}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return "GET /ws?" + q.Encode() + " HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n" +
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + testKey + "\r\n\r\n"
}

func rawConnect(t testing.TB, g *instance) *rawConn {
	t.Helper()
	nc, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	return &rawConn{t, nc, bufio.NewReader(nc)}
}

// rawDial connects and leaves hello to be read.
func rawDial(t testing.TB, g *instance, subscriber, cursor string) *rawConn {
	t.Helper()
	c := rawConnect(t, g)
	if _, err := io.WriteString(c.nc, request(subscriber, cursor)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatalf("answer to the handshake: %v", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("answer to the handshake: %d %v", resp.StatusCode, resp.Header)
	}
	return c
}

func (c *rawConn) sendFrame(op byte, payload []byte) {
	c.t.Helper()
	c.sendBytes(framingtest.ClientFrame(op, true, payload, 0x01020304))
}

func (c *rawConn) sendBytes(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// frame reads one frame.
func (c *rawConn) frame() (op byte, payload []byte, err error) {
	head := make([]byte, 2, 10)
	if _, err := io.ReadFull(c.r, head); err != nil {
		return 0, nil, err
	}
	more := map[byte]int{126: 2, 127: 8}[head[1]]
	head = head[:2+more]
	if _, err := io.ReadFull(c.r, head[2:]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	switch more {
	case 2:
		n = uint64(binary.BigEndian.Uint16(head[2:]))
	case 8:
		n = binary.BigEndian.Uint64(head[2:])
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.r, payload)
	return head[0] & 0xF, payload, err
}

// message reads the next text message.
func (c *rawConn) message() wire.Message {
	c.t.Helper()
	for {
		op, payload, err := c.frame()
		if err != nil {
			c.t.Fatalf("read: %v", err)
		}
		if op != framing.OpText {
			continue
		}
		var m wire.Message
		if err := json.Unmarshal(payload, &m); err != nil {
			c.t.Fatalf("message %.100q: %v", payload, err)
		}
		return m
	}
}

// closeCode reads up to the close frame and returns its code; 0 if there is
// none, 1005 if it has none.
func (c *rawConn) closeCode() int {
	for {
		op, payload, err := c.frame()
		if err != nil {
			return 0
		}
		if op == framing.OpClose && len(payload) < 2 {
			return framing.CloseNoStatus
		}
		if op == framing.OpClose {
			return int(binary.BigEndian.Uint16(payload))
		}
	}
}

// ended reads up to the end of the connection.
func (c *rawConn) ended() error {
	_, err := io.Copy(io.Discard, c.r)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		return err
	}
	return nil
}

// metric returns a metric's samples as text.
func metric(t testing.TB, g *instance, name string) string {
	t.Helper()
	families, err := g.registry.(prometheus.Gatherer).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			out = append(out, fmt.Sprintf("%s %g", name, m.GetCounter().GetValue()+m.GetGauge().GetValue()))
		}
	}
	return strings.Join(out, "\n")
}
