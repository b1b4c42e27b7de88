package admission

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"eventstream/auth"
	"eventstream/filter"
)

const (
	protocolName   = "eventstream.v1"
	protocolBearer = "bearer." // and the token: a browser can set no header but this one
)

// shown returns the token that a client shows, which is not checked yet, and the
// subprotocol to answer with. Each may be empty.
func (a *Admission) shown(r *http.Request) (protocol, token string, refused *Refusal) {
	protocol, tokens, refused := protocols(r.Header)
	if refused != nil || a.cfg.Tokens == nil {
		return protocol, "", refused
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
		return "", "", unauthorized("", "header Authorization: want Bearer and a token")
	case len(tokens) == 0:
		return "", "", unauthorized("", "a token is needed: in the header Authorization: Bearer <token>, as the query parameter token, or in a browser as the subprotocols "+protocolName+" and "+protocolBearer+"<token>")
	case len(tokens) > 1:
		return "", "", BadRequest("bad_token", "there are %d tokens; send one, in one place", len(tokens))
	}
	return protocol, tokens[0], nil
}

// identify finds out who a client is, and refuses those who come too often.
func (a *Admission) identify(ctx context.Context, q url.Values, token string, from source, ask *Ask) *Refusal {
	if a.cfg.Tokens == nil {
		ask.Subscriber = q.Get("subscriber_id")
		if err := filter.CheckSubscriberID(ask.Subscriber); err != nil {
			return BadRequest("bad_subscriber", "query parameter subscriber_id: %v; pass ?subscriber_id=<id>", err)
		}
	}
	if refused := a.checkAddress(from); refused != nil {
		return refused
	}
	if a.cfg.Tokens != nil {
		if refused := a.verify(ctx, token, ask); refused != nil {
			return refused
		}
		a.uncountAddress(from)
	}
	if refused := a.checkSubscriber(ask.Subscriber); refused != nil {
		return refused
	}
	if refused := a.checkOwn(q, ask.Subscriber); refused != nil {
		return refused
	}
	return a.checkRate()
}

// verify finds out whose token it is.
func (a *Admission) verify(ctx context.Context, token string, ask *Ask) *Refusal {
	claims, err := a.cfg.Tokens.Verify(ctx, token)
	if errors.Is(err, auth.ErrNoKeysYet) {
		return Unavailable("tokens can't be checked yet; try again")
	}
	if err != nil {
		return unauthorized("invalid_token", "the token is rejected: "+err.Error())
	}
	ask.Subscriber, ask.Expires, ask.Pass = claims.Subject, claims.Expires.Unix(), claims.Pass()
	if a.cfg.Revoked(ask.Subscriber, ask.Pass) {
		return unauthorized("invalid_token", "the token is rejected: "+auth.ErrRevoked.Error())
	}
	return nil
}

// unauthorized refuses a token, with RFC 6750's word for what is wrong with it.
func unauthorized(code, detail string) *Refusal {
	challenge := "Bearer"
	if code != "" {
		challenge += ` error="` + code + `"`
	}
	return &Refusal{Status: http.StatusUnauthorized, Code: "unauthorized", Detail: detail, Header: "WWW-Authenticate", Value: challenge}
}

// bearer returns the token of an Authorization header.
func bearer(line string) (token string, ok bool) {
	scheme, token, ok := strings.Cut(line, " ")
	token = strings.TrimSpace(token)
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}

// protocols returns the subprotocol to answer with, and the tokens that are
// offered as one. A browser fails if it offers some and none is chosen.
func protocols(h http.Header) (chosen string, tokens []string, refused *Refusal) {
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
		return "", nil, BadRequest("bad_protocol", "Sec-WebSocket-Protocol: offer %s beside the token", protocolName)
	}
	return chosen, tokens, nil
}

// checkOwn refuses a client that asks for another subscriber than its token's.
func (a *Admission) checkOwn(q url.Values, subscriber string) *Refusal {
	if a.cfg.Tokens == nil {
		return nil
	}
	for _, id := range q["subscriber_id"] {
		if id != subscriber {
			return &Refusal{Status: http.StatusForbidden, Code: "other_subscriber", Detail: "query parameter subscriber_id: the token is another subscriber's; leave it out, or pass the token's sub"}
		}
	}
	if filter.CheckSubscriberID(subscriber) != nil {
		return &Refusal{Status: http.StatusForbidden, Code: "bad_subscriber", Detail: "the token's sub can't be a subscriber's id"}
	}
	return nil
}
