package origin

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Hosts are a service's host names, besides localhost and IP addresses, in lower case;
// *.example.org stands for all names below example.org.
type Hosts []string

// ParseHosts parses and checks names.
func ParseHosts(list []string) (Hosts, error) {
	var h Hosts
	for _, text := range list {
		name := strings.ToLower(strings.TrimSpace(text))
		if !isName(strings.TrimPrefix(name, "*.")) {
			return nil, fmt.Errorf("host %.100q: want a name without a port, such as events.example.org, or *.example.org for all below it", text)
		}
		h = append(h, name)
	}
	return h, nil
}

func isName(s string) bool {
	return s != "" && len(s) <= 253 && s[0] != '.' && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	})
}

// has reports whether a Host header names us. After DNS rebinding, a page's requests
// have the page's domain name there. localhost and IP addresses can't be rebound. No
// browser sends an empty header; load balancers' health checks do.
func (h Hosts) has(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(host)
	if host == "" || host == "localhost" {
		return true
	}
	if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil {
		return true
	}
	for _, name := range h {
		below, mask := strings.CutPrefix(name, "*")
		if host == name || mask && len(host) > len(below) && strings.HasSuffix(host, below) {
			return true
		}
	}
	return false
}
