//go:build !linux

package socket

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

// Tune leaves it to the system how much it takes, and how patient it is with who is gone.
func Tune(net.Conn, time.Duration) {}
