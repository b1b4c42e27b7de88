package socket

import (
	"cmp"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// inherited is what accepted sockets have from their listener. For each of them
// it would be six calls more.
var inherited = []struct{ level, name, value int }{
	{unix.SOL_SOCKET, unix.SO_RCVBUF, 8 << 10},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
}

// listenConfig says how to listen; shared is at an address where other processes
// of this user do so, too.
func listenConfig(shared bool) net.ListenConfig {
	options := inherited
	if shared {
		options = append(options[:len(options):len(options)], struct{ level, name, value int }{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1})
	}
	set := func(fd uintptr) error {
		for _, o := range options {
			if err := unix.SetsockoptInt(int(fd), o.level, o.name, o.value); err != nil {
				return fmt.Errorf("set option %d of the listener: %w", o.name, err)
			}
		}
		return nil
	}
	return net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		ctrlErr := rc.Control(func(fd uintptr) { err = set(fd) })
		return cmp.Or(ctrlErr, err)
	}}
}

// Tune has the kernel take no more than some KB beyond what it can send, so that a client
// that does not read is noticed. It does not bound what is on its way. Unless it is 0, a
// connection is ended whose peer acknowledges nothing for so long, which stands for the
// answers to pings where a client gives none. A socket does not have these from its listener.
func Tune(nc net.Conn, unacked time.Duration) {
	if tls, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = tls.NetConn()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return
	}
	rc.Control(func(fd uintptr) { // if it fails, the socket is closed already
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 16<<10)
		if unacked > 0 {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacked.Milliseconds()))
		}
	})
}
