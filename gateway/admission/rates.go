package admission

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"time"

	"eventstream/internal/ops"
	"eventstream/limit"
)

// rates counts handshakes. A handshake that is refused for what it is, without much work,
// is counted nowhere. Then clients that have not shown who they are, are counted by their
// address, known subscribers by who they are, and the rest for the whole gateway. So a
// client that could not come in takes nothing of what the others share.
//
// Each counts at most 100,000 names at a time. Newcomers past that are counted as one,
// which takes that many of them within a second.
type rates struct {
	addresses, subscribers, all limit.Local
}

// subscriberWindow is over what time a subscriber's handshakes are counted: all
// of its connections may come back at once.
const subscriberWindow = 10 * time.Second

func (a *Admission) addressRate() limit.Rate {
	return limit.Rate{N: a.cfg.HandshakeRateAddress, Per: time.Second}
}

// checkAddress counts a handshake of a client that has not shown yet who it is.
func (a *Admission) checkAddress(from source) *Refusal {
	if from.handshakes == "" {
		return nil
	}
	d := a.rates.addresses.Take(from.handshakes, a.addressRate(), time.Now())
	if d.OK {
		return nil
	}
	return a.tooOften("address", a.cfg.HandshakeRateAddress, d)
}

// uncountAddress takes the count of a handshake back, because its token is good: so many
// clients can share an address.
func (a *Admission) uncountAddress(from source) {
	if from.handshakes != "" {
		a.rates.addresses.Undo(from.handshakes, a.addressRate(), time.Now())
	}
}

// checkSubscriber counts a subscriber's handshake.
func (a *Admission) checkSubscriber(id string) *Refusal {
	n := a.cfg.HandshakeRateSubscriber
	if n == 0 {
		return nil
	}
	window := int(subscriberWindow / time.Second)
	d := a.rates.subscribers.Take(id, limit.Rate{N: n * window, Per: subscriberWindow}, time.Now())
	if d.OK {
		return nil
	}
	return a.tooOften("subscriber", n, d)
}

// checkRate refuses handshakes that come faster than the gateway is to take them.
func (a *Admission) checkRate() *Refusal {
	if a.cfg.HandshakeRate == 0 {
		return nil
	}
	d := a.rates.all.Take("", limit.Rate{N: a.cfg.HandshakeRate, Per: time.Second}, time.Now())
	if d.OK {
		return nil
	}
	a.cfg.Limited.WithLabelValues("gateway").Inc()
	return Unavailable("more clients come than this gateway takes at once; try again")
}

func (a *Admission) tooOften(what string, most int, d limit.Decision) *Refusal {
	a.cfg.Limited.WithLabelValues(what).Inc()
	return &Refusal{
		Status: http.StatusTooManyRequests, Code: "too_many_handshakes", RetryAfter: int(math.Ceil(d.Retry.Seconds())),
		Detail: fmt.Sprintf("this %s has its limit of %d handshakes a second at this gateway", what, most),
	}
}

// source is where a client comes from, as it is counted: for its connections, and for its
// handshakes. Each is empty if it is not counted there.
type source struct{ connections, handshakes string }

// source returns where a client comes from.
func (a *Admission) source(r *http.Request) (from source) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !a.cfg.CountAddress && a.cfg.HandshakeRateAddress == 0 {
		return from
	}
	client := a.cfg.Proxies.Client(peer.Addr(), r.Header.Values("X-Forwarded-For"))
	household := ops.Household(client)
	if a.cfg.CountAddress {
		from.connections = household
	}
	if a.cfg.HandshakeRateAddress > 0 && !(a.cfg.SpareLoopback && client.IsLoopback()) {
		from.handshakes = household
	}
	return from
}
