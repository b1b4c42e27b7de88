package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/valyala/fasthttp"
)

// tokensPath makes tokens, and takes them back. It needs a key even where nothing
// else does: gateways elsewhere may believe its tokens.
const tokensPath = "/subscribers/{id}/tokens"

const (
	defaultLifetime = time.Hour
	maxLifetime     = 24 * time.Hour
)

// tokenJSON is a token for a subscriber, with its end in Unix seconds.
type tokenJSON struct {
	Token        string `json:"token"`
	ID           string `json:"jti"`
	SubscriberID string `json:"subscriber_id"`
	Expires      int64  `json:"expires"`
}

// mintToken makes a token with which the subscriber can connect to a gateway.
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

// parseLifetime reads {"expires_in": seconds}. No body, or none in it, is an hour.
func parseLifetime(body []byte) (time.Duration, error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return defaultLifetime, nil
	}
	const want = `want {"expires_in": seconds}, or no body`
	var asked struct {
		ExpiresIn *int64 `json:"expires_in"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(&asked)
	if err == nil {
		_, err = d.Token()
	}
	if err != io.EOF || body[0] == 'n' {
		return 0, &problem{kind: badJSON, detail: want}
	}
	if asked.ExpiresIn == nil {
		return defaultLifetime, nil
	}
	most := int64(maxLifetime / time.Second)
	if n := *asked.ExpiresIn; n < 1 || n > most {
		return 0, &problem{kind: badJSON, detail: fmt.Sprintf("expires_in: %d; allowed are 1 to %d seconds", n, most)}
	}
	return time.Duration(*asked.ExpiresIn) * time.Second, nil
}
