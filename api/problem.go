package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/valyala/fasthttp"

	"eventstream/filter"
	"eventstream/replay"
)

// kind is a kind of problem. Names and statuses must not change: clients rely on them.
type kind struct {
	status      int
	name, title string
}

var (
	badRequest    = kind{400, "bad-request", "This is not an HTTP request"}
	badHeader     = kind{400, "bad-header", "A header can't be understood"}
	badQuery      = kind{400, "bad-query", "The query parameters are wrong"}
	badSubscriber = kind{400, "bad-subscriber", "The subscriber's id is wrong"}
	badTokenID    = kind{400, "bad-token-id", "The token's id is wrong"}
	badJSON       = kind{400, "malformed-json", "The body is not a JSON object"}
	unauthorized  = kind{401, "unauthorized", "An API key is needed"}
	forbidden     = kind{403, "forbidden", "This is not allowed"}
	noRoute       = kind{404, "no-such-route", "Nothing has this path"}
	notFound      = kind{404, "filter-not-found", "There is no such filter"}
	noAck         = kind{404, "ack-not-found", "This subscriber has acknowledged nothing"}
	noConnection  = kind{404, "connection-not-found", "There is no such connection"}
	noMethod      = kind{405, "method-not-allowed", "This path doesn't have this method"}
	slowRequest   = kind{408, "request-timeout", "The request took too long to arrive"}
	subscriber    = kind{409, "other-subscriber", "The filter belongs to another subscriber"}
	changed       = kind{412, "revision-mismatch", "The filter has another revision"}
	tooLarge      = kind{413, "body-too-large", "The body is too large"}
	mediaType     = kind{415, "unsupported-media-type", "The body is of an unsupported type"}
	keyReused     = kind{422, "idempotency-key-reused", "The idempotency key was used for something else"}
	badImport     = kind{422, "invalid-import", "Nothing was imported"}
	badToken      = kind{422, "invalid-token-request", "Such a token can't be made"}
	badTest       = kind{422, "invalid-test", "The dry run can't be done"}
	invalid       = kind{422, "invalid-filter", "The filter is not valid"}
	badVersion    = kind{505, "http-version-not-supported", "This version of HTTP is not supported"}
	overQuota     = kind{422, "quota-exceeded", "The subscriber's filters would take up too much"}
	bigHeader     = kind{431, "headers-too-large", "The headers are too large"}
	tooMany       = kind{429, "too-many-requests", "Requests come too fast"}
	crowded       = kind{429, "too-many-at-once", "Too many of these are under way for one caller"}
	internal      = kind{500, "internal", "We made a mistake"}
	unavailable   = kind{503, "store-unavailable", "The filter store is unavailable"}
	busy          = kind{503, "busy", "Too many of these are under way"}
	contended     = kind{503, "filter-contended", "The filter is changed by others all the time"}
	noSigner      = kind{501, "no-signing-key", "Tokens can't be made here"}
	keysUnknown   = kind{503, "keys-unavailable", "API keys can't be checked now"}
	noGateways    = kind{503, "gateways-unreachable", "Gateways can't be asked now"}
	noReplay      = kind{503, "replay-unavailable", "Events can't be replayed now"}
	noLive        = kind{503, "live-unavailable", "No filter service tells what it has in memory"}
)

// retryAfter is the Retry-After header of a 503, in seconds.
const retryAfter = "2"

// problem is an error with its answer.
type problem struct {
	kind
	detail string
	errors []filter.Problem
	lines  []lineProblem // of an import, instead of errors
	routes []string
	cause  error // for the log

	retryAfter string // seconds, for a 503; retryAfter (the constant) if empty
}

func (p *problem) Error() string { return p.title + ": " + p.detail }

// problemOf returns the answer to an error.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if bad, ok := errors.AsType[*filter.Invalid](err); ok {
		return &problem{kind: invalid, detail: bad.Error(), errors: bad.Problems}
	}
	if over, ok := errors.AsType[*filter.QuotaError](err); ok {
		p := &problem{kind: overQuota, detail: over.Error() + "; nothing was stored"}
		for _, text := range over.Over {
			p.errors = append(p.errors, filter.Problem{Field: "/subscriber_id", Detail: text})
		}
		return p
	}
	switch {
	case errors.Is(err, replay.ErrUnavailable), errors.Is(err, context.Canceled): // we are stopping
		return unreplayed(err)
	case errors.Is(err, filter.ErrSyntax):
		return &problem{kind: badJSON, detail: err.Error()}
	case errors.Is(err, filter.ErrNotFound):
		return &problem{kind: notFound, detail: "it was deleted, or never existed"}
	case errors.Is(err, filter.ErrSubscriber):
		return &problem{
			kind: subscriber, detail: "a filter stays with its subscriber; delete it, and create another",
			errors: []filter.Problem{{Field: "/subscriber_id", Detail: "differs from that of the stored filter"}},
		}
	case errors.Is(err, filter.ErrKeyReused):
		return &problem{kind: keyReused, detail: "send another key with another request; a key is remembered for 24 hours"}
	case errors.Is(err, filter.ErrConflict):
		return &problem{kind: changed, detail: "it changed since you read it; read it again, and decide anew"}
	case errors.Is(err, filter.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return &problem{kind: unavailable, detail: "a write may have been stored or not; try again in " + retryAfter + " seconds"}
	}
	return &problem{kind: internal, cause: err}
}

// malformed returns the answer if a request can't be read.
func malformed(err error) *problem {
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case errors.As(err, new(*fasthttp.ErrSmallBuffer)):
		return &problem{kind: bigHeader, detail: "path and headers together are too large"}
	case ok && timeout.Timeout():
		return &problem{kind: slowRequest}
	}
	return &problem{kind: badRequest, detail: "it can't be parsed"}
}

// problemJSON is RFC 9457's form of a problem.
type problemJSON struct {
	Type     string   `json:"type"`
	Title    string   `json:"title"`
	Status   int      `json:"status"`
	Detail   string   `json:"detail,omitempty"`
	Instance string   `json:"instance"`
	Errors   any      `json:"errors,omitempty"` // list of filter.Problem or of lineProblem
	Routes   []string `json:"routes,omitempty"`
}

// tellProblem answers with p, and logs it if it is our fault.
func (s *Server) tellProblem(ctx *fasthttp.RequestCtx, p *problem) {
	if p.cause != nil {
		s.log.Error("request failed", "route", route(ctx), "request", string(ctx.Response.Header.Peek("X-Request-Id")), "err", p.cause)
	}
	writeProblem(ctx, p)
}

func writeProblem(ctx *fasthttp.RequestCtx, p *problem) {
	out := problemJSON{
		Type: "urn:eventstream:problem:" + p.name, Title: p.title, Status: p.status,
		Detail: p.detail, Routes: p.routes,
		Instance: fmt.Sprintf("%.200s", ctx.Request.URI().PathOriginal()),
	}
	switch {
	case len(p.lines) > 0:
		out.Errors = p.lines
	case len(p.errors) > 0:
		out.Errors = p.errors
	}
	err := writeJSON(ctx, p.status, out)
	if err != nil {
		panic(err) // strings and numbers can be encoded
	}
	ctx.Response.Header.SetContentType("application/problem+json")
	if p.status == fasthttp.StatusServiceUnavailable {
		ctx.Response.Header.Set("Retry-After", cmp.Or(p.retryAfter, retryAfter))
	}
}
