package gateway

import (
	"fmt"
	"math"
	"net/http"
	"time"

	"eventstream/limit"
)

// rates counts handshakes. What is refused for what it is, without much work, is
// counted nowhere. Then strangers are counted by their address, known subscribers
// by who they are, and what is left is counted for the whole gateway. So nobody
// takes up what others share who could not have come in.
//
// Each counts at most 100,000 names at a time; newcomers past that are counted as
// one, which takes that many of them within a second.
type rates struct {
	addresses, subscribers, all limit.Local
}

// subscriberWindow is over what time a subscriber's handshakes are counted: all
// of its connections may come back at once.
const subscriberWindow = 10 * time.Second

func (g *Gateway) addressRate() limit.Rate {
	return limit.Rate{N: g.cfg.HandshakeRateAddress, Per: time.Second}
}

// checkAddress counts a handshake of somebody who has yet to show who he is.
func (g *Gateway) checkAddress(from source) *refusal {
	if from.rate == "" {
		return nil
	}
	d := g.rates.addresses.Take(from.rate, g.addressRate(), time.Now())
	if d.OK {
		return nil
	}
	return g.tooOften("address", g.cfg.HandshakeRateAddress, d)
}

// uncountAddress takes the count of a handshake back, since its token is good: so
// many clients can share an address.
func (g *Gateway) uncountAddress(from source) {
	if from.rate != "" {
		g.rates.addresses.Undo(from.rate, g.addressRate(), time.Now())
	}
}

// checkSubscriber counts a subscriber's handshake.
func (g *Gateway) checkSubscriber(id string) *refusal {
	n := g.cfg.HandshakeRateSubscriber
	if n == 0 {
		return nil
	}
	window := int(subscriberWindow / time.Second)
	d := g.rates.subscribers.Take(id, limit.Rate{N: n * window, Per: subscriberWindow}, time.Now())
	if d.OK {
		return nil
	}
	return g.tooOften("subscriber", n, d)
}

// checkRate refuses handshakes that come faster than the gateway is to take them.
func (g *Gateway) checkRate() *refusal {
	if g.cfg.HandshakeRate == 0 {
		return nil
	}
	d := g.rates.all.Take("", limit.Rate{N: g.cfg.HandshakeRate, Per: time.Second}, time.Now())
	if d.OK {
		return nil
	}
	g.metrics.limited.WithLabelValues("gateway").Inc()
	return unavailable("more clients come than this gateway takes at once; try again")
}

func (g *Gateway) tooOften(what string, most int, d limit.Decision) *refusal {
	g.metrics.limited.WithLabelValues(what).Inc()
	return &refusal{
		status: http.StatusTooManyRequests, code: "too_many_handshakes", retryAfter: int(math.Ceil(d.Retry.Seconds())),
		detail: fmt.Sprintf("this %s has its limit of %d handshakes a second at this gateway", what, most),
	}
}
