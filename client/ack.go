package client

import (
	"context"
	"encoding/json"
	"time"

	"github.com/coder/websocket"

	"eventstream/wire"
)

// Ack acknowledges every event whose handler has returned nil. It does not wait; Acked
// returns what has been saved. What could not be sent is sent on the next connection of
// this Run. It may be called at any time.
func (c *Client) Ack() {
	c.mu.Lock()
	c.toAck = c.positionLocked()
	if c.toAck.cursor == "" && len(c.fresh) > 0 {
		// A new durable client: it goes on from no hello's cursor, but its events came after that.
		c.toAck = c.sinceLocked(c.begun)
	}
	c.mu.Unlock()
	select {
	case c.ackIt <- struct{}{}:
	default: // already notified
	}
}

// Acked returns the last cursor that the gateway reported as saved: a Durable client
// that is started now starts there, or later. It may be called at any time.
func (c *Client) Acked() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked.cursor
}

func (c *Client) noteAcked(at position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked = at
}

// acknowledge sends acknowledgements while the connection is open, and then the rest.
func (c *Client) acknowledge(ctx context.Context, n *conn) {
	if !n.opened(ctx) {
		return
	}
	var tick <-chan time.Time
	if c.cfg.AckEvery > 0 {
		t := time.NewTicker(c.cfg.AckEvery)
		defer t.Stop()
		tick = t.C
	}
	c.mu.Lock()
	sent := c.acked
	c.mu.Unlock()
	for {
		// If sending fails the reader fails too, and the next connection sends it.
		if at := c.unsent(sent); at.cursor != "" && n.sendAck(at, probeTimeout) == nil {
			sent = at
		}
		select {
		case <-tick:
			c.Ack()
		case <-c.ackIt:
		case <-ctx.Done():
			c.acknowledgeLast(n, sent)
			return
		}
	}
}

// opened waits for the hello, and reports whether there was one before ctx ended.
func (n *conn) opened(ctx context.Context) bool {
	select {
	case <-n.open:
		return true
	case <-ctx.Done():
	}
	select {
	case <-n.open: // both were ready
		return true
	default:
		return false
	}
}

// acknowledgeLast acknowledges what was handled since the last time. It waits for a
// running handler, as Run does.
func (c *Client) acknowledgeLast(n *conn, sent position) {
	if c.cfg.AckEvery > 0 {
		n.handling <- struct{}{}
		c.Ack()
		<-n.handling
	}
	if at := c.unsent(sent); at.cursor != "" {
		n.sendAck(at, closeTimeout)
	}
}

// unsent returns the position to acknowledge, unless it was sent already.
func (c *Client) unsent(sent position) position {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.toAck == sent {
		return position{}
	}
	return c.toAck
}

func (n *conn) sendAck(at position, timeout time.Duration) error {
	return n.send(wire.Request{Type: wire.Ack, Cursor: at.cursor, Seen: at.seen}, timeout)
}

func (n *conn) send(r wire.Request, timeout time.Duration) error {
	message, err := json.Marshal(r)
	if err != nil {
		return err
	}
	// Not the connection's context: its end would cut the frame short.
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return n.ws.Write(ctx, websocket.MessageText, message)
}
