//go:build !linux

package gateway

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// listenConfig leaves buffers as they are: production runs on Linux.
func listenConfig(shared bool) net.ListenConfig {
	return net.ListenConfig{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute},
		Control: func(_, _ string, _ syscall.RawConn) error {
			if shared {
				return errors.New("only Linux divides a port's connections among processes")
			}
			return nil
		},
	}
}

// boundUnacked leaves it to the system's patience when a peer is gone.
func boundUnacked(net.Conn, time.Duration) {}
