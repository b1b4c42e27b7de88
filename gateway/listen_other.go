//go:build !linux

package gateway

import (
	"net"
	"syscall"
	"time"
)

// smallBuffers leaves the buffers as they are: production runs on Linux.
func smallBuffers(_, _ string, _ syscall.RawConn) error { return nil }

// boundUnacked leaves it to the system's patience when a peer is gone.
func boundUnacked(net.Conn, time.Duration) {}
