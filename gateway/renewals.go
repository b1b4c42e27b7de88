package gateway

import (
	"context"
	"errors"

	"eventstream/auth"
	"eventstream/wire"
)

// renewals checks the tokens that clients send instead of those they came with.
// One worker does: a check costs some CPU, and may wait for an issuer's keys,
// which the pollers must not.
type renewals struct {
	gw    *Gateway
	queue chan renewal
}

type renewal struct {
	conn  *conn
	token string
}

// maxRenewals bounds the tokens that wait. Past that clients are asked to try
// again; the tokens they have still count.
const maxRenewals = 1024

func newRenewals(gw *Gateway) *renewals {
	return &renewals{gw: gw, queue: make(chan renewal, maxRenewals)}
}

// take notes a client's new token. It does not block.
func (r *renewals) take(c *conn, token string) error {
	if r.gw.cfg.Tokens == nil {
		return errors.New("this gateway asks for no tokens")
	}
	select {
	case r.queue <- renewal{c, token}:
		return nil
	default:
		return errors.New("too many tokens wait to be checked; try again in a few seconds")
	}
}

// run checks until ctx ends.
func (r *renewals) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-r.queue:
			n.conn.worker.tell(r.renew(ctx, n))
		}
	}
}

// renew returns what becomes of a new token.
func (r *renewals) renew(ctx context.Context, n renewal) command {
	claims, err := r.gw.cfg.Tokens.Verify(ctx, n.token)
	if err == nil && claims.Subject != n.conn.subscriber {
		err = errors.New("it is another subscriber's")
	}
	if err == nil && r.gw.revoked.Has(claims.Subject, claims.Pass()) {
		err = auth.ErrRevoked
	}
	if err != nil {
		text := wire.AppendError(nil, "bad_token", "the token does not count, and the one before still does: "+err.Error())
		return answered{n.conn, text}
	}
	return &renewed{n.conn, claims}
}
