package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// network holds the proxies.
type network struct {
	server *toxiproxy.ApiServer
	direct bool // nothing stands in between

	mu  sync.Mutex
	all []*Proxy
}

func newNetwork(direct bool) *network {
	return &network{direct: direct, server: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())}
}

// Proxy stands between two parts and can harm what passes. It is for one caller
// at a time.
type Proxy struct {
	proxy *toxiproxy.Proxy
	addr  string
}

// NewProxy starts a Proxy in front of a server, for those who need no more than that.
func NewProxy(upstream string) (*Proxy, error) { return newNetwork(false).proxy(upstream) }

// Close closes all connections, and takes no more.
func (p *Proxy) Close() { p.proxy.Stop() }

// proxy starts a Proxy in front of an address.
func (n *network) proxy(upstream string) (*Proxy, error) {
	if n.direct {
		return &Proxy{addr: upstream}, nil
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	p := toxiproxy.NewProxy(n.server, addr, addr, upstream)
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("proxy in front of %s: %w", upstream, err)
	}
	out := &Proxy{p, addr}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, out)
	return out, nil
}

func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.all {
		p.proxy.Stop()
	}
}

// Addr returns where to connect to.
func (p *Proxy) Addr() string { return p.addr }

// Refuse closes all connections and takes no more, until Heal.
func (p *Proxy) Refuse() error {
	p.proxy.Stop()
	return nil
}

// Hang swallows all that passes, until Heal, which closes the connections.
func (p *Proxy) Hang() error {
	if err := p.toxic("timeout", "upstream", `{"timeout":0}`); err != nil {
		return err
	}
	return p.toxic("timeout", "downstream", `{"timeout":0}`)
}

// Slow delays what passes by some milliseconds each way, give or take some, until Heal.
func (p *Proxy) Slow(ms, jitter int) error {
	how := fmt.Sprintf(`{"latency":%d,"jitter":%d}`, ms, jitter)
	if err := p.toxic("latency", "upstream", how); err != nil {
		return err
	}
	return p.toxic("latency", "downstream", how)
}

func (p *Proxy) toxic(kind, stream, attributes string) error {
	_, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(
		fmt.Sprintf(`{"type":%q,"stream":%q,"attributes":%s}`, kind, stream, attributes)))
	if err != nil {
		return fmt.Errorf("%s on the proxy at %s: %w", kind, p.addr, err)
	}
	return nil
}

// Heal ends all harm.
func (p *Proxy) Heal() error {
	p.proxy.Toxics.ResetToxics(context.Background())
	if err := p.proxy.Start(); err != nil && err != toxiproxy.ErrProxyAlreadyStarted {
		return fmt.Errorf("proxy at %s: %w", p.addr, err)
	}
	return nil
}
