package api

import "net"

// ServeConn serves what comes on one connection.
func (s *Server) ServeConn(c net.Conn) error { return s.http.ServeConn(c) }
