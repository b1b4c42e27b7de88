package api

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"eventstream/auth"
	"eventstream/lane"
)

const (
	// revokedFor is how long a revocation is kept if its tokens' expiry is not known:
	// none of our tokens is valid for longer.
	revokedFor = auth.MaxLifetime + 24*time.Hour
	maxTokenID = 256 // bytes
)

// revokeSubscriber revokes all tokens issued to a subscriber so far.
func (s *Server) revokeSubscriber(ctx *fasthttp.RequestCtx) error {
	id, err := askedSubscriber(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	return s.revoke(ctx, auth.Revocation{Subscriber: id, At: now, Expires: now.Add(revokedFor)})
}

// revokeToken revokes one token.
func (s *Server) revokeToken(ctx *fasthttp.RequestCtx) error {
	r := auth.Revocation{At: time.Now()}
	r.Expires = r.At.Add(revokedFor)
	err := parseQuery(ctx.QueryArgs(), func(_, value string) (err error) {
		r.Expires, err = parseExpires(value)
		return err
	}, "expires")
	if err == nil {
		r.TokenID, err = pathTokenID(ctx)
	}
	if err != nil {
		return err
	}
	return s.revoke(ctx, r)
}

// unrevoked is the answer to a stored revocation of which the gateways could not be told.
type unrevoked struct {
	Applied bool   `json:"applied"`
	Detail  string `json:"detail"`
}

// revoke stores a revocation, and tells the gateways.
func (s *Server) revoke(ctx *fasthttp.RequestCtx, r auth.Revocation) error {
	c, cancel := s.storeContext()
	defer cancel()
	err := s.store.Revoke(c, r)
	s.health.writes.wrote(err)
	if err != nil {
		return err
	}
	o := lane.Order{Task: lane.TaskRevoke, Revocation: &r}
	if s.tell(func(c context.Context) error { return s.lanes.Tell(c, o) }) != nil {
		return writeJSON(ctx, fasthttp.StatusAccepted, unrevoked{Detail: "stored, but the gateways could not be told; they will find it within seconds"})
	}
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

// parseExpires parses a token's exp.
func parseExpires(value string) (time.Time, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 || n > 253402300799 {
		return time.Time{}, fmt.Errorf("%.60q: want the token's exp, Unix seconds", value)
	}
	return time.Unix(n, 0).UTC(), nil // UTC, since in another zone it may be year 10000, which JSON can't encode
}

// pathTokenID returns the token's jti in the path, which the router leaves
// percent-encoded.
func pathTokenID(ctx *fasthttp.RequestCtx) (string, error) {
	raw, _ := ctx.UserValue("id").(string)
	id, err := url.PathUnescape(raw)
	switch {
	case err != nil:
	case len(id) > maxTokenID:
		err = fmt.Errorf("%d bytes; at most %d are allowed", len(id), maxTokenID)
	case !utf8.ValidString(id):
		err = errors.New("not valid UTF-8")
	case strings.ContainsFunc(id, unicode.IsControl):
		err = errors.New("control characters are not allowed")
	}
	if err != nil {
		return "", &problem{kind: badTokenID, detail: fmt.Sprintf("%.60q in the path: %v", raw, err)}
	}
	return id, nil
}
