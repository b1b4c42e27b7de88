package gateway

import (
	"cmp"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// smallBuffers sets the buffers of a listener's sockets.
func smallBuffers(_, _ string, rc syscall.RawConn) error {
	var err error
	ctrlErr := rc.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 16<<10)
		if err == nil {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10)
		}
	})
	if ctrlErr != nil {
		return ctrlErr
	}
	return err
}

// boundUnacked has the kernel end a connection whose peer acknowledges nothing for
// so long. It stands for the answers to pings where a client gives none.
func boundUnacked(nc net.Conn, d time.Duration) {
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
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

// sharePort lets other processes of this user listen at the same address.
func sharePort(rc syscall.RawConn) error {
	var err error
	ctrlErr := rc.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return cmp.Or(ctrlErr, err)
}
