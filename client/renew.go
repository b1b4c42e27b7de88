package client

import (
	"context"
	"time"

	"eventstream/wire"
)

const (
	renewBefore = time.Minute // at most, before the token expires
	renewLeast  = time.Second // with less time left, only the next connection uses a new token
)

// renew sends the gateway a new token before the current one expires, while the
// connection is open. The gateway sends the expiry of each token that it accepts. If it
// rejects a token, or Token returns the same one, renew tries again after four fifths
// of the remaining time: a few times in all. If the clocks differ too much for that,
// the gateway ends the connection, and the next one starts with a new token.
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

// renewOnce sends a new token, if there is one.
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
	// If sending fails the reader fails too, and the next connection uses it.
	if n.send(wire.Request{Type: wire.Token, Token: token}, probeTimeout) == nil {
		n.token = token
	}
}

// noteExpiry records when the token expires.
func (n *conn) noteExpiry(at time.Time) {
	select {
	case <-n.expires: // replace an older value
	default:
	}
	n.expires <- at
}
