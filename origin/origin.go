// Package origin protects a service from web pages of other sites. A browser lets every
// page send requests to services on its user's machine and network, and says with each
// request which page sent it.
//
// A page may use a service if it has the service's own origin, or one that the operator
// allows. Without authentication, the request must also name the service by one of its
// own host names: the owner of any other name can point it at our address, and its
// pages then have the same origin (DNS rebinding).
package origin

import (
	"errors"
	"fmt"
	"net/http"
)

var (
	// ErrHost reports a request for a host name that is not ours.
	ErrHost = errors.New("host is not allowed")
	// ErrOrigin reports a request of a page whose origin is not allowed.
	ErrOrigin = errors.New("origin is not allowed")
)

// Rules decide which pages may use a service. The zero value allows those of its own
// origin, under any host name.
type Rules struct {
	Open    bool    // no authentication, so the host name is checked
	Hosts   Hosts   // our host names, if Open
	Origins Origins // other allowed origins
}

// Request is the part of a request that the rules check. A header may have several
// lines, all of which are checked.
type Request struct {
	Host    string
	Origins []string // header Origin
	Sites   []string // header Sec-Fetch-Site
}

// Of returns the Request of r.
func Of(r *http.Request) Request {
	return Request{Host: r.Host, Origins: r.Header["Origin"], Sites: r.Header["Sec-Fetch-Site"]}
}

// CheckHost returns ErrHost if the request is not for one of our host names.
func (r Rules) CheckHost(q Request) error {
	if !r.Open || r.Hosts.has(q.Host) {
		return nil
	}
	return fmt.Errorf("%w: %.100q; no token and no key is needed here, so only localhost, addresses, and the names in --hosts (EVENTSTREAM_HOSTS) are served. Behind a proxy that is the name which it sends", ErrHost, q.Host)
}

// Check returns ErrHost or ErrOrigin if the request comes from a page that is not
// allowed. It refuses all that http.CrossOriginProtection does, and safe methods too: a
// page can open a stream or cause work by <script src> or <img src>. Programs other
// than browsers send neither Origin nor Sec-Fetch-Site.
func (r Rules) Check(q Request) error {
	if err := r.CheckHost(q); err != nil {
		return err
	}
	switch {
	case len(q.Origins) > 1:
		return fmt.Errorf("%w: there are %d headers Origin; want one at most", ErrOrigin, len(q.Origins))
	case len(q.Origins) == 1 && (r.Origins.all || r.Origins.names(q.Origins[0])):
		return nil
	case len(q.Origins) == 1 && !ownOrigin(q):
		return fmt.Errorf("%w: %.100q is another site; the operator can allow it", ErrOrigin, q.Origins[0])
	}
	for _, site := range q.Sites {
		if site != "same-origin" && site != "none" { // none: the user typed the address
			return fmt.Errorf("%w: the request was made by a page of another site (Sec-Fetch-Site: %.20s)", ErrOrigin, site)
		}
	}
	return nil
}

// Named reports whether the request's page has our own origin, or one listed by the
// operator ("*" does not list any).
func (r Rules) Named(q Request) bool {
	if len(q.Origins) != 1 {
		return false
	}
	return r.Origins.names(q.Origins[0]) || ownOrigin(q)
}

// ownOrigin reports whether the page's origin is the requested host.
func ownOrigin(q Request) bool {
	s, ok := parseSite(q.Origins[0])
	return ok && s == siteOf(s.scheme, q.Host)
}
