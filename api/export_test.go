package api

import "net"

var Ahead = ahead

// ServeConn serves what comes on one connection.
func (s *Server) ServeConn(c net.Conn) error { return s.http.ServeConn(c) }
