package api

import (
	"io"
	"net"

	"github.com/prometheus/client_golang/prometheus"
)

var Ahead = ahead

// ServeConn serves what comes on one connection.
func (s *Server) ServeConn(c net.Conn) error { return s.http.ServeConn(c) }

// HoldDryRuns takes all places of dry runs of much work.
func (s *Server) HoldDryRuns() (release func()) {
	for range cap(s.dryRuns) {
		s.dryRuns <- struct{}{}
	}
	return func() {
		for range cap(s.dryRuns) {
			<-s.dryRuns
		}
	}
}

// ReadImport reads all lines of an import, and returns why it is refused.
func ReadImport(body io.Reader) error {
	cfg := Config{MaxBodyBytes: 512 << 10, MaxImportLines: 1_000_000, MaxImportBytes: 256 << 20}
	in := newImport(body, cfg, prometheus.NewCounter(prometheus.CounterOpts{Name: "lines"}))
	for range in.specs {
	}
	return in.err
}
