package main

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

// client is one WebSocket, by hand: a library would cost more than what is
// measured.
type client struct {
	nc     *net.TCPConn
	r      *bufio.Reader
	cursor string
}

const patience = time.Minute

// errBusy reports a gateway that asks to come again, or that got nothing of the
// handshake in time: on a busy machine we are the slow ones.
type errBusy struct {
	after time.Duration
	text  string
}

func (e errBusy) Error() string { return e.text }

// connect does the handshake, and reads hello. When the gateway asks for that it
// tries again, with the pauses of package client. It returns how often it had to.
func (c *client) connect(ctx context.Context, addr, subscriber string) (refused int, err error) {
	for began, most := time.Now(), 100*time.Millisecond; ; most = min(2*most, 10*time.Second) {
		err = c.try(ctx, addr, subscriber)
		busy, ok := errors.AsType[errBusy](err)
		if !ok || time.Since(began) > patience {
			return refused, err
		}
		refused++
		time.Sleep(busy.after + rand.N(most))
	}
}

func (c *client) try(ctx context.Context, addr, subscriber string) (err error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	nc.SetDeadline(time.Now().Add(patience))
	c.nc, c.r = nc.(*net.TCPConn), bufio.NewReaderSize(nc, 4<<10)
	q := url.Values{"subscriber_id": {subscriber}}
	if c.cursor != "" {
		q.Set("cursor", c.cursor)
	}
	fmt.Fprintf(nc, "GET /ws?%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c3Rvcm1zdG9ybXN0b3JtIQ==\r\n\r\n", q.Encode(), addr)
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		nc.Close()
		return errBusy{0, err.Error()}
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(resp.Body)
		nc.Close()
		text := fmt.Sprintf("%s: %s", resp.Status, body)
		if after, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && resp.StatusCode == http.StatusServiceUnavailable {
			return errBusy{time.Duration(after) * time.Second, text}
		}
		return errors.New(text)
	}
	resumes := c.cursor != ""
	m, err := c.read()
	if err != nil {
		return err
	}
	if m.Type != wire.Hello || m.Resumed != resumes {
		return fmt.Errorf("said hello with %+v", m)
	}
	return nil
}

// read returns the next message, and keeps its cursor.
func (c *client) read() (m wire.Message, err error) {
	for {
		op, payload, err := c.frame()
		if err != nil {
			return m, err
		}
		switch op {
		case 1:
			if err := json.Unmarshal(payload, &m); err != nil {
				return m, err
			}
			if m.Cursor != "" {
				c.cursor = m.Cursor
			}
			return m, nil
		case 8:
			return m, fmt.Errorf("closed: %s", bytes.TrimLeft(payload[min(2, len(payload)):], " "))
		}
	}
}

func (c *client) frame() (op byte, payload []byte, err error) {
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

// cut ends the connection as a crash does.
func (c *client) cut() {
	if c.nc != nil {
		c.nc.SetLinger(0)
		c.nc.Close()
		c.nc, c.r = nil, nil
	}
}
