package gateway

import (
	"errors"
	"net/http"

	"eventstream/origin"
)

func (g *Gateway) origins() origin.Rules {
	return origin.Rules{Open: g.cfg.Tokens == nil, Hosts: g.cfg.Hosts, Origins: g.cfg.Origins}
}

// checkOrigin keeps web pages of other sites from using a visitor's access, or a
// gateway that asks for no tokens.
func (g *Gateway) checkOrigin(r *http.Request) *refusal {
	err := g.origins().Check(origin.Of(r))
	if err == nil {
		return nil
	}
	refused := &refusal{status: http.StatusForbidden, code: "origin_not_allowed", detail: err.Error()}
	if errors.Is(err, origin.ErrHost) {
		refused.code = "host_not_allowed"
	}
	return refused
}
