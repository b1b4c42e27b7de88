package socket

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// Accepted sockets have what their listener was given, and that alone keeps a
// client that does not read, or is gone, from holding megabytes.
func TestSocketsInherit(t *testing.T) {
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	rc, err := accepted.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	rc.Control(func(fd uintptr) {
		for _, o := range inherited {
			want := o.value
			if o.name == unix.SO_RCVBUF {
				want *= 2 // the kernel counts its own share
			}
			if got, err := unix.GetsockoptInt(int(fd), o.level, o.name); err != nil || got != want {
				t.Errorf("option %d of level %d: %d, %v; want %d", o.name, o.level, got, err, want)
			}
		}
	})
}

func TestListenShared(t *testing.T) {
	first, err := ListenShared(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := ListenShared(t.Context(), first.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if ln, err := Listen(t.Context(), first.Addr().String()); err == nil {
		ln.Close()
		t.Error("somebody who shares nothing has got the address, too")
	}
}
