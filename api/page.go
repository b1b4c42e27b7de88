package api

import (
	"github.com/valyala/fasthttp"

	"eventstream/origin"
)

// checkPage refuses requests of web pages while no key is required: of pages from other
// origins, and of pages whose domain name was pointed at this machine (DNS rebinding).
func (g *guard) checkPage(ctx *fasthttp.RequestCtx) error {
	return refusePage(g.pages().Check(ofPage(ctx)))
}

// checkHost refuses host names that are not ours. Links from other sites are allowed.
func (g *guard) checkHost(ctx *fasthttp.RequestCtx) error {
	return refusePage(g.pages().CheckHost(ofPage(ctx)))
}

func (g *guard) pages() origin.Rules { return origin.Rules{Open: true, Hosts: g.hosts} }

func ofPage(ctx *fasthttp.RequestCtx) origin.Request {
	lines := func(name string) (all []string) {
		for _, line := range ctx.Request.Header.PeekAll(name) {
			all = append(all, string(line))
		}
		return all
	}
	return origin.Request{Host: string(ctx.Host()), Origins: lines("Origin"), Sites: lines("Sec-Fetch-Site")}
}

func refusePage(err error) error {
	if err == nil {
		return nil
	}
	return &problem{kind: forbidden, detail: err.Error()}
}
