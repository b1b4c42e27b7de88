package api

import "net"

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
