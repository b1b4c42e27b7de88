package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"eventstream/internal/ops"
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

// source is where a client comes from, as it is counted: in crowds, and in rates.
// Each is empty if it is not counted there.
type source struct{ crowd, rate string }

// address returns where a client comes from.
func (g *Gateway) address(r *http.Request) (from source) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || g.cfg.MaxPerAddress == 0 && g.cfg.HandshakeRateAddress == 0 {
		return from
	}
	client := g.cfg.Proxies.Client(peer.Addr(), r.Header.Values("X-Forwarded-For"))
	household := ops.Household(client)
	if g.cfg.MaxPerAddress > 0 {
		from.crowd = household
	}
	if g.cfg.HandshakeRateAddress > 0 && !(g.cfg.SpareLoopback && client.IsLoopback()) {
		from.rate = household
	}
	return from
}

// messageWindow is over what time messages are counted: a client may send many
// at once, if it is quiet afterwards.
const messageWindow = 10 * time.Second

// allowed counts one message from the client.
func (c *conn) allowed(now time.Time) bool {
	rate := c.worker.gw.cfg.MessageRate
	if rate == 0 {
		return true
	}
	if c.busy.Before(now) {
		c.busy = now
	}
	c.busy = c.busy.Add(time.Second / time.Duration(rate))
	return c.busy.Sub(now) <= messageWindow
}
