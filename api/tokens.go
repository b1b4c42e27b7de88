package api

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"eventstream/filter"
)

// tokensPath issues tokens (POST) and revokes them (DELETE).
const tokensPath = "/subscribers/{id}/tokens"

const (
	defaultLifetime = time.Hour
	maxLifetime     = 24 * time.Hour
)

// tokenJSON is a token for a subscriber. Expires is in Unix seconds.
type tokenJSON struct {
	Token        string `json:"token"`
	ID           string `json:"jti"`
	SubscriberID string `json:"subscriber_id"`
	Expires      int64  `json:"expires"`
}

// mintToken issues a token with which the subscriber can connect to a gateway.
func (s *Server) mintToken(ctx *fasthttp.RequestCtx) error {
	if s.cfg.Signer == nil {
		return &problem{kind: noSigner, detail: "the API has no key to sign with; the operator can give it one"}
	}
	id, err := askedSubscriber(ctx)
	if err != nil {
		return err
	}
	body, err := s.readBody(ctx, plainJSON)
	if err != nil {
		return err
	}
	lifetime, err := parseLifetime(body)
	if err != nil {
		return err
	}
	token, claims, err := s.cfg.Signer.Sign(id, lifetime)
	if err != nil {
		return err
	}
	ctx.Response.Header.Set("Cache-Control", "no-store")
	return writeJSON(ctx, fasthttp.StatusCreated, tokenJSON{token, claims.ID, id, claims.Expires.Unix()})
}

// parseLifetime parses {"expires_in": seconds}. Without a body or the field it is an hour.
func parseLifetime(body []byte) (time.Duration, error) {
	lifetime := defaultLifetime
	if len(bytes.TrimSpace(body)) == 0 {
		return lifetime, nil
	}
	fields, err := filter.Fields(body)
	if err != nil {
		return 0, err
	}
	bad := &problem{kind: badToken}
	seen := false
	for _, f := range fields {
		seconds, err := strconv.ParseFloat(string(f.Value), 64) // in JSON, 60.0 is an integer, too
		switch {
		case f.Name != "expires_in":
			bad.complain(fmt.Sprintf("/%.60s", f.Name), "unknown field; allowed is expires_in")
		case seen:
			bad.complain("/expires_in", "given twice")
		case err != nil || seconds != math.Trunc(seconds) || seconds < 1 || seconds > maxLifetime.Seconds():
			bad.complain("/expires_in", fmt.Sprintf("want a number of seconds from 1 to %d, got %.60s", maxLifetime/time.Second, f.Value))
		default:
			lifetime, seen = time.Duration(seconds)*time.Second, true
		}
	}
	if len(bad.errors) > 0 {
		return 0, bad
	}
	return lifetime, nil
}
