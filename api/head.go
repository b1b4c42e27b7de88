package api

import (
	"github.com/valyala/fasthttp"
)

// spoken reports whether we support the request's HTTP version. fasthttp accepts any
// text that looks like one.
func spoken(h *fasthttp.RequestHeader) bool {
	version := string(h.Protocol())
	return version == "HTTP/1.1" || version == "HTTP/1.0"
}

// ignoreBody skips the body of methods that take none. Otherwise a client that
// announces a body and never sends it would block the request. If the body arrives
// after all, it can't be parsed as another request, since the connection is closed
// after the answer.
func ignoreBody(h *fasthttp.RequestHeader) (none fasthttp.RequestConfig) {
	if h.IsPost() || h.IsPut() || h.IsPatch() || h.ContentLength() == 0 || h.ContentLength() == -2 {
		return none
	}
	h.SetContentLength(0)
	h.Del("Expect")
	h.SetConnectionClose()
	return none
}

// expect decides on "Expect: 100-continue" before any of the body is read. After 417 the
// client repeats the request without Expect (RFC 9110, 10.1.1), and then gets the reason.
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	if !spoken(&ctx.Request.Header) || !s.guard.expects(ctx) {
		return fasthttp.StatusExpectationFailed
	}
	return fasthttp.StatusContinue
}

// expects reports whether to read the body: if the request has a valid key or, where no
// key is required, does not come from another site's page. It sets response headers
// only if it returns false.
func (g *guard) expects(ctx *fasthttp.RequestCtx) bool {
	asked, err := g.asked()
	if err != nil {
		return false
	}
	if !asked && g.checkPage(ctx) == nil {
		return true
	}
	if asked {
		if _, _, wrong := g.look(&ctx.Request.Header); wrong == "" {
			return true
		}
	}
	g.limits.take(ctx, "") // the result doesn't matter: the request is refused already
	return false
}
