package api

import (
	"slices"
	"strings"

	"github.com/fasthttp/router"
	"github.com/valyala/fasthttp"
)

// handler answers a request, or returns an error that problemOf turns into an answer.
type handler func(*fasthttp.RequestCtx) error

// endpoint is a path with its methods: one, or GET and HEAD.
type endpoint struct {
	methods, path string
	handle        handler
}

// endpoints lists the whole API. A test compares it with openapi.json.
func (s *Server) endpoints(metrics handler) []endpoint {
	return []endpoint{
		{"POST", "/filters", s.createFilter},
		{"GET HEAD", "/filters", s.listFilters},
		{"DELETE", "/filters", s.deleteFilters},
		{"GET HEAD", "/filters/{id}", s.readFilter},
		{"PUT", "/filters/{id}", s.replaceFilter},
		{"PATCH", "/filters/{id}", s.patchFilter},
		{"DELETE", "/filters/{id}", s.deleteFilter},
		{"POST", "/filters:import", s.importFilters},
		{"GET", "/filters:export", s.exportFilters},
		{"POST", "/filters:test", s.testFilters},
		{"GET HEAD", "/subscribers", s.listSubscribers},
		{"DELETE", "/subscribers", s.forgetSubscribers},
		{"GET HEAD", "/subscribers/{id}/explain", s.explainEvent},
		{"GET HEAD", "/subscribers/{id}/ack", s.readAck},
		{"DELETE", "/subscribers/{id}/ack", s.forgetAck},
		{"GET", "/subscribers/{id}/events", s.streamEvents},
		{"POST", tokensPath, s.mintToken},
		{"DELETE", tokensPath, s.revokeSubscriber},
		{"DELETE", "/tokens/{id}", s.revokeToken},
		{"GET HEAD", "/connections", s.listConnections},
		{"DELETE", "/connections", s.closeConnections},
		{"DELETE", "/connections/{id}", s.closeConnection},
		{"GET HEAD", "/openapi.json", s.tellOpenAPI},
		{"GET HEAD", "/docs", s.tellDocs},
		{"GET HEAD", "/health", s.tellHealth},
		{"GET HEAD", "/livez", s.tellLive},
		{"GET HEAD", "/readyz", s.tellHealth},
		{"GET HEAD", "/metrics", metrics},
	}
}

func (s *Server) routes(metrics fasthttp.RequestHandler) *router.Router {
	r := router.New()
	r.SaveMatchedRoutePath = true
	r.RedirectTrailingSlash = false
	r.RedirectFixedPath = false
	var exist []string
	for _, e := range s.endpoints(func(ctx *fasthttp.RequestCtx) error { metrics(ctx); return nil }) {
		for method := range strings.FieldsSeq(e.methods) {
			r.Handle(method, e.path, s.answer(e.handle))
		}
		first, _, _ := strings.Cut(e.methods, " ")
		exist = append(exist, first+" "+e.path)
	}
	slices.Sort(exist)
	r.NotFound = s.answer(func(*fasthttp.RequestCtx) error {
		return &problem{kind: noRoute, detail: "this exists: " + strings.Join(exist, ", "), routes: exist}
	})
	r.MethodNotAllowed = s.answer(func(ctx *fasthttp.RequestCtx) error { // Allow is set
		return &problem{kind: noMethod, detail: "allowed are " + string(ctx.Response.Header.Peek("Allow"))}
	})
	r.GlobalOPTIONS = func(ctx *fasthttp.RequestCtx) { ctx.SetStatusCode(fasthttp.StatusNoContent) }
	return r
}
