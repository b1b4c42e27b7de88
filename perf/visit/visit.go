// Package visit connects to a gateway by hand, for measurements: a library would
// cost more than what is measured.
package visit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"eventstream/wire"
)

// Client is one connection, a WebSocket or a stream of server-sent events.
type Client struct {
	SSE    bool
	Cursor string // the last one that came; the next connection resumes from it

	nc *net.TCPConn
	r  *bufio.Reader
}

// patience is how long a handshake, and everything read after it, may take.
const patience = time.Minute

// Refused reports a gateway that does not let the client in now. Status is 0 if it
// got nothing of the handshake in time: on a busy machine we are the slow ones.
type Refused struct {
	Status int
	After  time.Duration // as Retry-After says
	Text   string
}

func (e Refused) Error() string { return e.Text }

// busy reports whether it can be tried again.
func (e Refused) busy() bool { return e.Status == 0 || e.Status == http.StatusServiceUnavailable }

// Connect does the handshake, and reads hello. When the gateway asks for that it
// tries again, with the pauses of package client. It returns how often it had to.
func (c *Client) Connect(ctx context.Context, addr, subscriber string) (refused int, err error) {
	for began, most := time.Now(), 100*time.Millisecond; ; most = min(2*most, 10*time.Second) {
		err = c.Try(ctx, addr, subscriber)
		r, ok := errors.AsType[Refused](err)
		if !ok || !r.busy() || time.Since(began) > patience {
			return refused, err
		}
		refused++
		time.Sleep(r.After + rand.N(most))
	}
}

// Try does the handshake once, and reads hello.
func (c *Client) Try(ctx context.Context, addr, subscriber string) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	nc.SetDeadline(time.Now().Add(patience))
	c.nc, c.r = nc.(*net.TCPConn), bufio.NewReaderSize(nc, 4<<10)
	if err := c.greet(addr, subscriber); err != nil {
		c.Cut()
		return err
	}
	return nil
}

func (c *Client) greet(addr, subscriber string) error {
	q := url.Values{"subscriber_id": {subscriber}}
	if c.Cursor != "" {
		q.Set("cursor", c.Cursor)
	}
	status := http.StatusSwitchingProtocols
	if c.SSE {
		status = http.StatusOK
		fmt.Fprintf(c.nc, "GET /sse?%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", q.Encode(), addr)
	} else {
		fmt.Fprintf(c.nc, "GET /ws?%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c3Rvcm1zdG9ybXN0b3JtIQ==\r\n\r\n", q.Encode(), addr)
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return Refused{Text: err.Error()}
	}
	if resp.StatusCode != status {
		body, _ := io.ReadAll(resp.Body)
		after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return Refused{resp.StatusCode, time.Duration(after) * time.Second, fmt.Sprintf("%s: %s", resp.Status, body)}
	}
	resumes := c.Cursor != ""
	m, err := c.Read()
	switch {
	case err != nil:
		return err
	case c.SSE && m.Type == "error": // an EventSource comes back only after a 200
		return Refused{Status: http.StatusServiceUnavailable, Text: fmt.Sprintf("%+v", m)}
	case m.Type != wire.Hello || m.Resumed != resumes:
		return fmt.Errorf("said hello with %+v", m)
	}
	return nil
}

// Wait sets until when something has to come; never, if t is zero.
func (c *Client) Wait(t time.Time) { c.nc.SetDeadline(t) }

// Read returns the next message, and keeps its cursor.
func (c *Client) Read() (m wire.Message, err error) {
	next := c.message
	if c.SSE {
		next = c.line
	}
	text, err := next()
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, err
	}
	if m.Cursor != "" {
		c.Cursor = m.Cursor
	}
	return m, nil
}

// line returns what the next line with data holds: the events of measurements have
// no line ends.
func (c *Client) line() ([]byte, error) {
	for {
		line, err := c.r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			return data, nil
		}
	}
}

// message returns what the next text frame holds, and answers pings.
func (c *Client) message() ([]byte, error) {
	for {
		op, payload, err := c.frame()
		if err != nil {
			return nil, err
		}
		switch op {
		case 1:
			return payload, nil
		case 8:
			return nil, fmt.Errorf("closed: %s", bytes.TrimLeft(payload[min(2, len(payload)):], " "))
		case 9: // at most 125 bytes; masked with zeros, which leaves them as they are
			pong := append([]byte{0x8A, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
			if _, err := c.nc.Write(pong); err != nil {
				return nil, err
			}
		}
	}
}

func (c *Client) frame() (op byte, payload []byte, err error) {
	var head [10]byte
	if _, err := io.ReadFull(c.r, head[:2]); err != nil {
		return 0, nil, err
	}
	op = head[0] & 0xF
	n := uint64(head[1] & 0x7F)
	switch n {
	case 126:
		_, err = io.ReadFull(c.r, head[:2])
		n = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		_, err = io.ReadFull(c.r, head[:8])
		n = binary.BigEndian.Uint64(head[:8])
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.r, payload)
	return op, payload, err
}

// Cut ends the connection as a crash does.
func (c *Client) Cut() {
	if c.nc != nil {
		c.nc.SetLinger(0)
		c.nc.Close()
		c.nc, c.r = nil, nil
	}
}
