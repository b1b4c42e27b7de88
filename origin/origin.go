// Package origin keeps web pages of other sites away from a service. A browser
// lets every page send requests to services on its user's machine and network, and
// tells of each request which page made it.
//
// A page may use a service if it is of the service's own origin, or of one that
// the operator allows. Where nobody is asked who they are, the service also has to
// be called by a name of its own: whoever owns a name can point it at any address,
// and is then of the same origin.
package origin

import (
	"errors"
	"fmt"
	"net/http"
)

var (
	// ErrHost reports a request for a name that is not ours.
	ErrHost = errors.New("host is not allowed")
	// ErrOrigin reports a request of a page that may not use the service.
	ErrOrigin = errors.New("origin is not allowed")
)

// Rules say which pages may use a service. The zero value allows those of its own
// origin, by whatever name.
type Rules struct {
	Open    bool    // nobody is asked who they are, so that the name counts
	Hosts   Hosts   // our names, if Open
	Origins Origins // of other pages
}

// Request is what counts of a request, however it was read. A header may come in
// several lines, and all of them count.
type Request struct {
	Host    string
	Origins []string // header Origin
	Sites   []string // header Sec-Fetch-Site
}

// Of returns what counts of r.
func Of(r *http.Request) Request {
	return Request{Host: r.Host, Origins: r.Header["Origin"], Sites: r.Header["Sec-Fetch-Site"]}
}

// CheckHost returns an ErrHost if the request is not for us.
func (r Rules) CheckHost(q Request) error {
	if !r.Open || r.Hosts.has(q.Host) {
		return nil
	}
	return fmt.Errorf("%w: %.100q; no token and no key is needed here, so only localhost, addresses, and the names in --hosts (EVENTSTREAM_HOSTS) are served. Behind a proxy that is the name which it sends", ErrHost, q.Host)
}

// Check returns an ErrHost or ErrOrigin if a page that made the request may not.
// It refuses all that http.CrossOriginProtection does, and also what only reads:
// a page can have <script src> or <img src> open a stream, or make work. Programs
// that are no browsers send neither Origin nor Sec-Fetch-Site.
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
		if site != "same-origin" && site != "none" { // none: its user typed the address
			return fmt.Errorf("%w: the request was made by a page of another site (Sec-Fetch-Site: %.20s)", ErrOrigin, site)
		}
	}
	return nil
}

// Named reports whether the page that made the request is of our own origin, or of one
// that the operator named: no page of just any site.
func (r Rules) Named(q Request) bool {
	if len(q.Origins) != 1 {
		return false
	}
	return r.Origins.names(q.Origins[0]) || ownOrigin(q)
}

// ownOrigin reports whether the page is of the host that it asks.
func ownOrigin(q Request) bool {
	s, ok := parseSite(q.Origins[0])
	return ok && s == siteOf(s.scheme, q.Host)
}
