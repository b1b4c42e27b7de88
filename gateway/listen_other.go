//go:build !linux

package gateway

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// smallBuffers leaves the buffers as they are: production runs on Linux.
func smallBuffers(_, _ string, _ syscall.RawConn) error { return nil }

// boundUnacked leaves it to the system's patience when a peer is gone.
func boundUnacked(net.Conn, time.Duration) {}

func sharePort(syscall.RawConn) error {
	return errors.New("only Linux divides a port's connections among processes")
}
