package client

import (
	"context"
	"time"

	"eventstream/wire"
)

const (
	renewBefore = time.Minute // at most, before the token ends
	renewLeast  = time.Second // with less left, the next connection gets the next token
)

// renew sends the gateway the next token before the one in use ends, for as long
// as the connection is open. The gateway says when that is, and answers a new one
// by saying it again. A token that it refuses, or that is the same as before, is
// asked for again when four fifths of the rest have passed: a few times in all.
// If the clocks disagree too much for that, the gateway ends the connection, and
// the next one begins with the next token.
func (c *Client) renew(ctx context.Context, n *conn) {
	if c.cfg.Token == nil {
		return
	}
	var due <-chan time.Time
	var expires time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case expires = <-n.expires:
		case <-due:
			c.renewOnce(ctx, n, expires)
		}
		due = nil
		if left := time.Until(expires); left >= renewLeast {
			due = time.After(left - min(left/5, renewBefore))
		}
	}
}

// renewOnce sends the next token, if there is one.
func (c *Client) renewOnce(ctx context.Context, n *conn, expires time.Time) {
	ctx, cancel := context.WithDeadline(ctx, expires)
	defer cancel()
	token, err := c.cfg.Token(ctx)
	if err != nil && ctx.Err() == nil {
		c.log.Warn("no new token yet", "expires", expires, "err", err)
	}
	if err != nil || token == n.token {
		return
	}
	// If it can't be sent the reader fails too, and the next connection has it.
	if n.send(wire.Request{Type: wire.Token, Token: token}, probeTimeout) == nil {
		n.token = token
	}
}

// noteExpiry takes note of when the token ends.
func (n *conn) noteExpiry(at time.Time) {
	select {
	case <-n.expires: // an older word
	default:
	}
	n.expires <- at
}
