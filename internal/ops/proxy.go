package ops

import (
	"fmt"
	"net/netip"
	"strings"
)

// Proxies are the proxies trusted to name a client's address.
type Proxies []netip.Prefix

// ParseProxies parses addresses and networks.
func ParseProxies(list []string) (Proxies, error) {
	var p Proxies
	for _, text := range list {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil || addr.Zone() != "" {
				return nil, fmt.Errorf("trusted proxy %.60q: want an address or a network, such as 10.0.0.7 or 10.0.0.0/8", text)
			}
			prefix = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		}
		p = append(p, prefix.Masked())
	}
	return p, nil
}

func (p Proxies) has(a netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// maxHops bounds how many entries of X-Forwarded-For are read.
const maxHops = 16

// Client returns a client's address: the peer's, or if that is a trusted proxy, the
// last one in X-Forwarded-For that is not. Entries before it may be forged.
func (p Proxies) Client(peer netip.Addr, forwarded []string) netip.Addr {
	peer = peer.Unmap()
	rest := strings.Join(forwarded, ",")
	for range maxHops {
		if rest == "" || !p.has(peer) {
			break
		}
		i := strings.LastIndexByte(rest, ',')
		hop, err := netip.ParseAddr(strings.TrimSpace(rest[i+1:]))
		if err != nil {
			break
		}
		peer, rest = hop.Unmap().WithZone(""), rest[:max(i, 0)]
	}
	return peer
}

// Household returns the key by which addresses are limited: an IPv6 user has a whole /64.
func Household(a netip.Addr) string {
	if a.Is6() {
		if prefix, err := a.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return a.String()
}
