package origin

import (
	"fmt"
	"net/url"
	"strings"
)

// Origins are other allowed origins. The zero value is none.
type Origins struct {
	all  bool
	list []site
}

// site is an origin in the form that RFC 6454 compares: scheme, host and port.
type site struct {
	scheme, host, port string // lower case; port is empty if it is the scheme's default
	mask               bool   // host stands for all names below it, not itself
}

// ParseOrigins parses origins, in the form that browsers send; https://*.example.org
// for all names below example.org; "*" for all.
func ParseOrigins(list []string) (Origins, error) {
	var o Origins
	for _, text := range list {
		text = strings.TrimSpace(text)
		if text == "*" {
			o.all = true
			continue
		}
		plain := strings.Replace(text, "://*.", "://", 1)
		s, ok := parseSite(plain)
		if s.mask = plain != text; !ok {
			return Origins{}, fmt.Errorf("origin %.100q: want scheme://host or scheme://host:port and nothing after it, such as https://app.example.org or http://localhost:3000; https://*.example.org for all names below example.org; * for all", text)
		}
		o.list = append(o.list, s)
	}
	return o, nil
}

// names reports whether an origin is listed, ignoring "*".
func (o Origins) names(text string) bool {
	s, ok := parseSite(text)
	for _, allowed := range o.list {
		below := allowed.mask && strings.HasSuffix(s.host, "."+allowed.host) && len(s.host) > len(allowed.host)+1
		if ok && s.scheme == allowed.scheme && s.port == allowed.port && (below || !allowed.mask && s.host == allowed.host) {
			return true
		}
	}
	return false
}

// defaultPorts are left out of an origin.
var defaultPorts = map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21"}

// parseSite parses an origin as browsers send it, with names in ASCII. Other clients
// may write the default port or capitals.
func parseSite(text string) (s site, ok bool) {
	text = strings.ToLower(text)
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || text != u.Scheme+"://"+u.Host || strings.HasSuffix(text, ":") ||
		strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '*' || r == ',' }) {
		return site{}, false
	}
	return siteOf(u.Scheme, u.Host), true
}

// siteOf splits a host with an optional port.
func siteOf(scheme, hostport string) site {
	u := url.URL{Host: strings.ToLower(hostport)}
	s := site{scheme: scheme, host: u.Hostname(), port: u.Port()}
	if s.port == defaultPorts[scheme] {
		s.port = ""
	}
	return s
}
