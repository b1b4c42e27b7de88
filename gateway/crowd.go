package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"eventstream/internal/ops"
	"eventstream/limit"
)

// crowds counts the open connections of each subscriber and address, if they are
// limited. admitMu guards them.
type crowds struct {
	bySubscriber, byAddress map[string]int
}

// enterLocked counts a connection in, or refuses it.
func (c *crowds) enterLocked(a ask, cfg Config) *refusal {
	if most := cfg.MaxPerSubscriber; most > 0 && c.bySubscriber[a.subscriber] >= most {
		return crowded("subscriber", most)
	}
	if most := cfg.MaxPerAddress; most > 0 && c.byAddress[a.address] >= most {
		return crowded("address", most)
	}
	if c.bySubscriber == nil {
		c.bySubscriber, c.byAddress = make(map[string]int), make(map[string]int)
	}
	if cfg.MaxPerSubscriber > 0 {
		c.bySubscriber[a.subscriber]++
	}
	if cfg.MaxPerAddress > 0 {
		c.byAddress[a.address]++
	}
	return nil
}

func crowded(what string, most int) *refusal {
	return &refusal{
		status: http.StatusTooManyRequests, code: "too_many_connections", retryAfter: 10,
		detail: fmt.Sprintf("this %s has its limit of %d connections at this gateway", what, most),
	}
}

// leaveLocked counts a connection out.
func (c *crowds) leaveLocked(subscriber, address string) {
	for _, of := range []struct {
		counts map[string]int
		name   string
	}{{c.bySubscriber, subscriber}, {c.byAddress, address}} {
		if n, ok := of.counts[of.name]; ok && n > 1 {
			of.counts[of.name] = n - 1
		} else if ok {
			delete(of.counts, of.name)
		}
	}
}

// countOut undoes what admit counted.
func (g *Gateway) countOut(c *conn) {
	if g.cfg.MaxPerSubscriber > 0 || g.cfg.MaxPerAddress > 0 {
		g.admitMu.Lock()
		g.crowds.leaveLocked(c.subscriber, c.address)
		g.admitMu.Unlock()
	}
	g.open.Add(-1)
}

// address returns what a client's address is counted by; "" if it is not.
func (g *Gateway) address(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if g.cfg.MaxPerAddress == 0 || err != nil {
		return ""
	}
	return ops.Household(g.cfg.Proxies.Client(peer.Addr(), r.Header.Values("X-Forwarded-For")))
}

// checkRate refuses handshakes that come faster than the gateway is to take them.
func (g *Gateway) checkRate() *refusal {
	if g.cfg.HandshakeRate == 0 {
		return nil
	}
	d := g.rate.Take("", limit.Rate{N: g.cfg.HandshakeRate, Per: time.Second}, time.Now())
	if d.OK {
		return nil
	}
	return unavailable("more clients come than this gateway takes at once; try again")
}

// messageWindow is over what time messages are counted: a client may send many
// at once, if it is quiet afterwards.
const messageWindow = 10 * time.Second

// allowed counts one message from the client.
func (c *conn) allowed(now time.Time) bool {
	rate := c.shard.gw.cfg.MessageRate
	if rate == 0 {
		return true
	}
	if c.busy.Before(now) {
		c.busy = now
	}
	c.busy = c.busy.Add(time.Second / time.Duration(rate))
	return c.busy.Sub(now) <= messageWindow
}
