package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"eventstream/wire"
)

// HandshakeError is an HTTP answer that refuses the WebSocket.
type HandshakeError struct {
	Status     int
	Body       string        // the beginning of it
	RetryAfter time.Duration // zero if there is none
}

func (e *HandshakeError) Error() string {
	s := fmt.Sprintf("gateway answered %d %s", e.Status, http.StatusText(e.Status))
	if body := strings.TrimSpace(e.Body); body != "" {
		s += ": " + body
	}
	return s
}

// CloseError is a close frame from the gateway.
type CloseError struct {
	Code   int // one of wire's Close constants or of RFC 6455
	Reason string
}

func (e *CloseError) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("gateway closed with %d: %s", e.Code, e.Reason), ": ")
}

// handlerError is an error of the function that events are passed to.
type handlerError struct{ err error }

func (e *handlerError) Error() string { return e.err.Error() }

// permanent reports whether another attempt would fail the same way.
func permanent(err error) bool {
	if refused, ok := errors.AsType[*HandshakeError](err); ok {
		switch refused.Status {
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
			return true
		}
	}
	if closed, ok := errors.AsType[*CloseError](err); ok {
		switch closed.Code {
		case wire.CloseBadRequest, wire.CloseNotAllowed, wire.CloseExpired:
			return true
		}
	}
	return false
}

// pause returns how long to wait before the next attempt: a random time below
// MinBackoff * 2^attempt, so that clients that were disconnected together don't
// reconnect together; plus what the gateway asked for.
func (c *Client) pause(attempt int, err error) time.Duration {
	most := c.cfg.MinBackoff
	for range attempt {
		if most *= 2; most >= c.cfg.MaxBackoff {
			most = c.cfg.MaxBackoff
			break
		}
	}
	return rand.N(most+1) + min(asked(err), maxAsked)
}

// maxAsked bounds the delay that a gateway can ask for, or one wrong answer could stop
// a client for good.
const maxAsked = 5 * time.Minute

// asked returns the delay that the gateway asked for: by Retry-After, or, when it
// drains, by a close reason that ends in a duration ("draining, retry in 1.5s").
func asked(err error) time.Duration {
	if refused, ok := errors.AsType[*HandshakeError](err); ok {
		return refused.RetryAfter
	}
	closed, ok := errors.AsType[*CloseError](err)
	if !ok || closed.Code != wire.CloseDrain {
		return 0
	}
	d, err := time.ParseDuration(closed.Reason[strings.LastIndexByte(closed.Reason, ' ')+1:])
	if err != nil {
		return 0
	}
	return max(d, 0)
}

// retryAfter parses Retry-After: seconds or a date.
func retryAfter(h http.Header) time.Duration {
	s := h.Get("Retry-After")
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// closeError converts the error of a close frame to a *CloseError.
func closeError(err error) error {
	if closed, ok := errors.AsType[websocket.CloseError](err); ok {
		return &CloseError{int(closed.Code), closed.Reason}
	}
	return fmt.Errorf("read from gateway: %w", err)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
