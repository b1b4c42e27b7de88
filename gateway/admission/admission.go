// Package admission decides who may connect to a gateway, and reads what a client asks for
// from its handshake. It returns decisions, and knows no connection.
//
// What costs little to refuse is refused first. What is wrong by itself counts for
// nothing; then the address is counted, then the subscriber, then the whole gateway: see
// rates.
package admission

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/auth"
	"eventstream/gateway/framing"
	"eventstream/internal/ops"
	"eventstream/origin"
)

// Tokens verifies tokens. It returns what a token says, or an error of package auth.
type Tokens interface {
	Verify(ctx context.Context, token string) (auth.Claims, error)
}

// Config is what an Admission needs. There is no limit where it is zero.
type Config struct {
	Tokens  Tokens                                       // nil: a client's word for its subscriber is taken
	Revoked func(subscriber string, pass auth.Pass) bool // reports whether a token was revoked; not called if Tokens is nil
	Origins origin.Origins                               // web origins allowed beside the gateway's own
	Hosts   origin.Hosts                                 // our names beside localhost and addresses, while Tokens is nil
	Proxies ops.Proxies                                  // that are trusted to name a client's address

	Compress bool // what is sent to clients that ask for permessage-deflate
	Durable  bool // whether acknowledgements can be kept
	Replays  bool // whether Kafka can be asked for events

	CountAddress            bool // of open connections: Ask.Address is needed
	HandshakeRate           int  // handshakes a second of clients that may come in
	HandshakeRateAddress    int  // handshakes a second without a good token, from one address
	HandshakeRateSubscriber int  // handshakes a second of one subscriber
	SpareLoopback           bool // loopback has no HandshakeRateAddress

	Limited *prometheus.CounterVec // handshakes that came too often, by what the limit is of
}

// Admission checks handshakes. Its methods may be called concurrently.
type Admission struct {
	cfg   Config
	rates rates
}

// New returns an Admission that has counted nothing yet.
func New(cfg Config) *Admission { return &Admission{cfg: cfg} }

// WebSocket checks a request for a WebSocket, and returns what the client asks for.
func (a *Admission) WebSocket(r *http.Request) (Ask, *Refusal) {
	key, refused := checkUpgrade(r)
	if refused != nil {
		return Ask{}, refused
	}
	if refused := a.checkOrigin(r); refused != nil {
		return Ask{}, refused
	}
	how, extensions := framing.WebSocket, ""
	if a.cfg.Compress {
		if extensions = framing.AcceptDeflate(r.Header); extensions != "" {
			how = framing.Deflated
		}
	}
	q, refused := parseQuery(r, params)
	if refused != nil {
		return Ask{}, refused
	}
	ask, protocol, refused := a.check(r, q)
	if refused != nil {
		return Ask{}, refused
	}
	ask.Framing, ask.Answer = how, switching(key, protocol, extensions)
	return ask, nil
}

// check finds out who a client is, what it asks for, and whether it may. It returns the
// subprotocol to answer with, too, which may be empty.
func (a *Admission) check(r *http.Request, q url.Values) (ask Ask, protocol string, refused *Refusal) {
	protocol, token, refused := a.shown(r)
	if refused == nil {
		ask, refused = a.parseAsk(q)
	}
	if refused == nil {
		from := a.source(r)
		ask.Address = from.connections
		refused = a.identify(r.Context(), q, token, from, &ask)
	}
	return ask, protocol, refused
}

func (a *Admission) rules() origin.Rules {
	return origin.Rules{Open: a.cfg.Tokens == nil, Hosts: a.cfg.Hosts, Origins: a.cfg.Origins}
}

// checkOrigin keeps web pages of other sites from using a visitor's access, or a gateway
// that asks for no tokens.
func (a *Admission) checkOrigin(r *http.Request) *Refusal {
	err := a.rules().Check(origin.Of(r))
	if err == nil {
		return nil
	}
	refused := &Refusal{Status: http.StatusForbidden, Code: "origin_not_allowed", Detail: err.Error()}
	if errors.Is(err, origin.ErrHost) {
		refused.Code = "host_not_allowed"
	}
	return refused
}
