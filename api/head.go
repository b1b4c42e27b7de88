package api

import (
	"github.com/valyala/fasthttp"
)

// spoken reports whether the request is of a version that we speak. fasthttp takes
// any that looks like one.
func spoken(h *fasthttp.RequestHeader) bool {
	version := string(h.Protocol())
	return version == "HTTP/1.1" || version == "HTTP/1.0"
}

// ignoreBody has no body be read where none is wanted: a client that announces one and
// does not send it would be waited for. What it sends after all is not taken for
// another request, since the connection is closed after the answer.
func ignoreBody(h *fasthttp.RequestHeader) (none fasthttp.RequestConfig) {
	if h.IsPost() || h.IsPut() || h.IsPatch() || h.ContentLength() == 0 || h.ContentLength() == -2 {
		return none
	}
	h.SetContentLength(0)
	h.Del("Expect")
	h.SetConnectionClose()
	return none
}

// expect answers a client that asks whether it may send a body, before any of it is
// read. 417 has it repeat the request without asking (RFC 9110, 10.1.1), and that
// is told what was wrong.
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	if !spoken(&ctx.Request.Header) || !s.guard.expects(ctx) {
		return fasthttp.StatusExpectationFailed
	}
	return fasthttp.StatusContinue
}

// expects reports whether a body is waited for: of those with a key, and where none
// is needed, of those that are no page of others. It changes the response only if
// not.
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
	g.limits.take(ctx, "") // it is refused already
	return false
}
