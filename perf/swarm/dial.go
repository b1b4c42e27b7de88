//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 30 // seconds, for a handshake

// errBusy reports that the server asks to be tried again later.
var errBusy = errors.New("handshake refused: 503")

// dial connects and does the handshake, and returns the descriptor and what came
// after the handshake's answer. A net.Conn would be a kilobyte more.
func dial(local netip.Addr, to netip.AddrPort, query string) (fd int, rest []byte, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("socket: %w", err)
	}
	if rest, err = shake(fd, local, to, query); err != nil {
		unix.Close(fd)
		return 0, nil, err
	}
	return fd, rest, nil
}

func shake(fd int, local netip.Addr, to netip.AddrPort, query string) ([]byte, error) {
	limit := unix.NsecToTimeval(patience * int64(time.Second))
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
	// The port is chosen at connect, so that each address of ours has all ports.
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: local.As4()}); err != nil {
		return nil, fmt.Errorf("bind to %s: %w", local, err)
	}
	if err := again(func() error {
		return unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	}); err != nil {
		return nil, fmt.Errorf("connect from %s to %s: %w", local, to, err)
	}
	request := fmt.Appendf(nil, "GET /ws?%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c3dhcm1zd2FybXN3YXJtIQ==\r\n\r\n", query, to)
	if err := again(func() error { _, err := unix.Write(fd, request); return err }); err != nil {
		return nil, fmt.Errorf("send the handshake: %w", err)
	}
	return answer(fd)
}

// answer reads the handshake's answer, and returns what follows it.
func answer(fd int) ([]byte, error) {
	b := make([]byte, 0, 1024)
	for {
		if head, rest, ok := bytes.Cut(b, []byte("\r\n\r\n")); ok {
			if bytes.HasPrefix(head, []byte("HTTP/1.1 503 ")) {
				return nil, errBusy
			}
			if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
				return nil, fmt.Errorf("handshake refused: %s", b)
			}
			return rest, nil
		}
		if len(b) == cap(b) {
			return nil, fmt.Errorf("handshake: no end of headers in %d bytes", len(b))
		}
		n := 0
		err := again(func() (err error) { n, err = unix.Read(fd, b[len(b):cap(b)]); return err })
		if err != nil {
			return nil, fmt.Errorf("handshake: %w", err)
		}
		if n == 0 {
			return nil, fmt.Errorf("handshake: closed after %q", b)
		}
		b = b[:len(b)+n]
	}
}

// again repeats a call that a signal interrupted.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
