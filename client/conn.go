package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"eventstream/wire"
)

const (
	maxMessage   = 16 << 20        // bytes of one message
	keepBuffer   = 1 << 20         // a larger read buffer is freed
	heartGrace   = 3 * time.Second // on top of 2.5 heartbeats, before the gateway is probed
	noHeartbeat  = time.Minute     // silence before a probe, if the gateway announces no heartbeat
	probeTimeout = 4 * time.Second // for the answer to a probe; websocket itself closes after 5s
	closeTimeout = time.Second     // for the answer to our close frame
)

// Why a connection was closed by us.
var (
	errNoHello = errors.New("no hello from the gateway in time")
	errDead    = errors.New("connection is dead: silence, and no answer to a ping")
)

// conn is one connection to the gateway. One goroutine reads and calls back, another
// detects that the connection is dead.
type conn struct {
	ws  *websocket.Conn
	raw net.Conn // below ws; nil if a custom http.RoundTripper hides it

	buf     bytes.Buffer
	began   time.Time
	heard   atomic.Int64 // when something was last read, as time since began
	greeted chan time.Duration
	hello   bool
	open    chan struct{} // closed by the hello

	token   string         // in use; only renew changes it after the handshake
	expires chan time.Time // when it expires; the latest value replaces older ones

	handling chan struct{} // full while a callback runs and nothing is read
}

// connect connects once and serves the connection until it ends. It reports whether
// there was a hello, and why it ended.
func (c *Client) connect(ctx context.Context, on func(Event) error) (greeted bool, err error) {
	n, err := c.dial(ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	watched, acking, renewing := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(acking)
		c.acknowledge(ctx, n)
	}()
	go func() {
		defer close(renewing)
		c.renew(ctx, n)
	}()
	go func() {
		defer close(watched)
		n.watch(ctx, cancel, c.cfg.Timeout)
		n.close(ctx, acking)
	}()
	err = n.read(func(m *wire.Message) error { return c.handle(ctx, n, m, on) })
	cancel(err) // no effect if the watcher was first
	<-watched
	<-renewing
	if _, ok := errors.AsType[*handlerError](err); ok {
		return n.hello, err
	}
	return n.hello, context.Cause(ctx)
}

func (c *Client) dial(ctx context.Context) (*conn, error) {
	u := c.url
	q := u.Query()
	if at := c.position(); at.cursor != "" {
		q.Set("cursor", at.cursor)
		if at.seen != "" {
			q.Set("seen", at.seen)
		}
	} else if since := c.since.text(time.Now()); since != "" {
		q.Set("since", since)
	}
	u.RawQuery = q.Encode()
	token, header, err := c.header(ctx)
	if err != nil {
		return nil, err
	}
	n := &conn{
		began: time.Now(), greeted: make(chan time.Duration, 1), open: make(chan struct{}), handling: make(chan struct{}, 1),
		token: token, expires: make(chan time.Time, 1),
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { n.raw = info.Conn },
	})
	ws, resp, err := websocket.Dial(ctx, u.String(), &websocket.DialOptions{
		HTTPClient:     c.cfg.HTTPClient,
		HTTPHeader:     header,
		OnPingReceived: func(context.Context, []byte) bool { n.touch(); return true },
		OnPongReceived: func(context.Context, []byte) { n.touch() },
	})
	if err != nil && resp != nil {
		body, _ := io.ReadAll(resp.Body) // already in memory
		return nil, &HandshakeError{resp.StatusCode, string(body), retryAfter(resp.Header)}
	}
	if err != nil {
		// A *url.Error would put the URL, with the token and the cursor, into logs.
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, fmt.Errorf("connect to %s: %w", u.Host, err)
	}
	ws.SetReadLimit(maxMessage)
	n.ws = ws
	n.touch()
	return n, nil
}

// header returns the headers of a handshake, with a token if there is a source.
func (c *Client) header(ctx context.Context) (token string, h http.Header, err error) {
	if c.cfg.Token == nil {
		return "", c.cfg.Header, nil
	}
	token, err = c.cfg.Token(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("token: %w", err)
	}
	h = c.cfg.Header.Clone()
	if h == nil {
		h = make(http.Header)
	}
	h.Set("Authorization", "Bearer "+token)
	return token, h, nil
}

// read passes each message to handle until the connection ends or handle fails.
func (n *conn) read(handle func(*wire.Message) error) error {
	for {
		// No context: it would cost two timers per message. The watcher closes instead.
		_, r, err := n.ws.Reader(context.Background())
		if err != nil {
			return closeError(err)
		}
		n.buf.Reset()
		if _, err := n.buf.ReadFrom(heardReader{n, r}); err != nil {
			return closeError(err)
		}
		var m wire.Message // a new one each time: the receiver keeps its events
		if err := json.Unmarshal(n.buf.Bytes(), &m); err != nil {
			return fmt.Errorf("decode message of gateway: %w", err)
		}
		if n.buf.Cap() > keepBuffer {
			n.buf = bytes.Buffer{}
		}
		if err := n.serve(&m, handle); err != nil {
			return err
		}
	}
}

func (n *conn) serve(m *wire.Message, handle func(*wire.Message) error) error {
	if m.Type == wire.Hello && !n.hello {
		n.hello = true
		n.greeted <- patience(m.HeartbeatS)
		close(n.open)
	}
	n.handling <- struct{}{}
	defer func() {
		n.touch()
		<-n.handling
	}()
	return handle(m)
}

// patience returns how long the gateway may be silent before it is probed.
func patience(heartbeatS int) time.Duration {
	if heartbeatS <= 0 {
		return noHeartbeat
	}
	return time.Duration(heartbeatS)*time.Second*5/2 + heartGrace
}

// watch returns when ctx ends, when there is no hello in time, or when the connection
// is dead. In the last two cases it calls cancel with the reason.
func (n *conn) watch(ctx context.Context, cancel context.CancelCauseFunc, timeout time.Duration) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var quiet time.Duration // allowed silence; zero before the hello
	for {
		select {
		case <-ctx.Done():
			return
		case quiet = <-n.greeted:
			timer.Reset(quiet)
			continue
		case <-timer.C:
		}
		if quiet == 0 {
			cancel(errNoHello)
			return
		}
		left := quiet - n.silence()
		if left <= 0 {
			n.probe(ctx, cancel)
			left = quiet
		}
		timer.Reset(left)
	}
}

// probe pings and, if nothing is heard after that, calls cancel.
func (n *conn) probe(ctx context.Context, cancel context.CancelCauseFunc) {
	before := n.heard.Load()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// Not a deadline of ctx: at a deadline, Ping may close the connection before
	// cancel has the reason.
	timer := time.AfterFunc(probeTimeout, func() {
		// While a callback runs the pong can't be read, so its absence proves nothing.
		if !n.busy() && n.heard.Load() == before {
			cancel(errDead)
		}
		stop()
	})
	defer timer.Stop()
	n.ws.Ping(ctx) // the reader sees relevant failures too
}

func (n *conn) busy() bool { return len(n.handling) > 0 }

func (n *conn) touch() { n.heard.Store(int64(time.Since(n.began))) }

// silence returns how long nothing has been read; zero while a callback
// keeps us from reading.
func (n *conn) silence() time.Duration {
	if n.busy() {
		return 0
	}
	return time.Since(n.began) - time.Duration(n.heard.Load())
}

// close sends a close frame, unless the connection is dead, and closes. The last
// acknowledgement is sent before it.
func (n *conn) close(ctx context.Context, acking <-chan struct{}) {
	if context.Cause(ctx) == errDead {
		n.kill()
	}
	<-acking
	stop := time.AfterFunc(closeTimeout, n.kill)
	defer stop.Stop()
	n.ws.Close(websocket.StatusNormalClosure, "")
}

// kill closes without a close frame.
func (n *conn) kill() {
	if n.raw != nil {
		n.raw.Close()
	}
}

// heardReader records reads, so that a large message on a slow link is
// not taken for silence.
type heardReader struct {
	n *conn
	r io.Reader
}

func (h heardReader) Read(p []byte) (int, error) {
	k, err := h.r.Read(p)
	if k > 0 {
		h.n.touch()
	}
	return k, err
}
