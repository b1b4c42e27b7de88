package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"eventstream/auth"
	"eventstream/filter"
	"eventstream/wire"
)

// Tokens tells what a token says, or an error of package auth.
type Tokens interface {
	Verify(ctx context.Context, token string) (auth.Claims, error)
}

// door is what a client showed at the handshake.
type door struct {
	protocol   string // the WebSocket subprotocol to answer with; may be empty
	token      string // not checked yet; empty if nobody is asked
	subscriber string // as it says, or as its token does if it is asked for one
	expires    int64  // Unix seconds
	pass       auth.Pass
}

const (
	protocolName   = "eventstream.v1"
	protocolBearer = "bearer." // and the token: a browser can set no header but this one
)

// shown returns what a client shows, without a look at what it is worth.
func (g *Gateway) shown(r *http.Request) (door, *refusal) {
	protocol, tokens, refused := protocols(r.Header)
	d := door{protocol: protocol}
	if refused != nil || g.cfg.Tokens == nil {
		return d, refused
	}
	var other string // a browser sends what a proxy asked it for, such as Basic, by itself
	for _, line := range r.Header.Values("Authorization") {
		if token, ok := bearer(line); ok {
			tokens = append(tokens, token)
		} else {
			other = line
		}
	}
	tokens = append(tokens, r.URL.Query()["token"]...)
	switch {
	case len(tokens) == 0 && other != "":
		return d, unauthorized("", "header Authorization: want Bearer and a token")
	case len(tokens) == 0:
		return d, unauthorized("", "a token is needed: in the header Authorization: Bearer <token>, as the query parameter token, or in a browser as the subprotocols "+protocolName+" and "+protocolBearer+"<token>")
	case len(tokens) > 1:
		return d, badRequest("bad_token", "there are %d tokens; send one, in one place", len(tokens))
	}
	d.token = tokens[0]
	return d, nil
}

// identify finds out who a client is, and refuses those who come too often.
func (g *Gateway) identify(ctx context.Context, q url.Values, d *door, from source) *refusal {
	if g.cfg.Tokens == nil {
		d.subscriber = q.Get("subscriber_id")
		if err := filter.CheckSubscriberID(d.subscriber); err != nil {
			return badRequest("bad_subscriber", "query parameter subscriber_id: %v; pass ?subscriber_id=<id>", err)
		}
	}
	if refused := g.checkAddress(from); refused != nil {
		return refused
	}
	if g.cfg.Tokens != nil {
		if refused := g.verify(ctx, d); refused != nil {
			return refused
		}
		g.uncountAddress(from)
	}
	if refused := g.checkSubscriber(d.subscriber); refused != nil {
		return refused
	}
	if refused := g.checkOwn(q, d); refused != nil {
		return refused
	}
	return g.checkRate()
}

// verify finds out whose token it is.
func (g *Gateway) verify(ctx context.Context, d *door) *refusal {
	claims, err := g.cfg.Tokens.Verify(ctx, d.token)
	if errors.Is(err, auth.ErrNoKeysYet) {
		return unavailable("tokens can't be checked yet; try again")
	}
	if err != nil {
		return unauthorized("invalid_token", "the token does not count: "+err.Error())
	}
	d.subscriber, d.expires, d.pass = claims.Subject, claims.Expires.Unix(), claims.Pass()
	if g.revoked.Has(d.subscriber, d.pass) {
		return unauthorized("invalid_token", "the token does not count: "+auth.ErrRevoked.Error())
	}
	return nil
}

// unauthorized refuses a token, with RFC 6750's word for what is wrong with it.
func unauthorized(code, detail string) *refusal {
	challenge := "Bearer"
	if code != "" {
		challenge += ` error="` + code + `"`
	}
	return &refusal{status: http.StatusUnauthorized, code: "unauthorized", detail: detail, header: "WWW-Authenticate", value: challenge}
}

// bearer returns the token of an Authorization header.
func bearer(line string) (token string, ok bool) {
	scheme, token, ok := strings.Cut(line, " ")
	token = strings.TrimSpace(token)
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}

// protocols returns the subprotocol to answer with, and the tokens that are
// offered as one. A browser fails if it offers some and none is chosen.
func protocols(h http.Header) (chosen string, tokens []string, refused *refusal) {
	for _, line := range h.Values(headerProtocol) {
		for p := range strings.SplitSeq(line, ",") {
			p = strings.TrimSpace(p)
			if token, ok := strings.CutPrefix(p, protocolBearer); ok {
				tokens = append(tokens, token)
			}
			if p == protocolName {
				chosen = p
			}
		}
	}
	if len(tokens) > 0 && chosen == "" {
		return "", nil, badRequest("bad_protocol", "Sec-WebSocket-Protocol: offer %s beside the token", protocolName)
	}
	return chosen, tokens, nil
}

// checkOwn refuses a client that asks for another subscriber than its token's.
func (g *Gateway) checkOwn(q url.Values, d *door) *refusal {
	if g.cfg.Tokens == nil {
		return nil
	}
	for _, id := range q["subscriber_id"] {
		if id != d.subscriber {
			return &refusal{status: http.StatusForbidden, code: "other_subscriber", detail: "query parameter subscriber_id: the token is another subscriber's; leave it out, or pass the token's sub"}
		}
	}
	if filter.CheckSubscriberID(d.subscriber) != nil {
		return &refusal{status: http.StatusForbidden, code: "bad_subscriber", detail: "the token's sub can't be a subscriber's id"}
	}
	return nil
}

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

// expired reports whether the client's token has ended.
func (c *conn) expired(now int64) bool {
	at := c.expires.Load()
	return at != 0 && now >= at
}
