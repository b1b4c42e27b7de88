package ops

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// ErrExposed reports an address that other machines could reach, without authentication.
var ErrExposed = errors.New("without authentication only loopback addresses are served")

// CheckExposure rejects addresses other than loopback unless insecure is set.
func CheckExposure(addr string, insecure bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("listen address %q: want host:port, such as 127.0.0.1:8003", addr)
	}
	if insecure || loopback(host) {
		return nil
	}
	return fmt.Errorf("listen on %s: %w: use 127.0.0.1, or confirm with --insecure (EVENTSTREAM_INSECURE=true) that the network keeps strangers out", addr, ErrExposed)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// ExplainListen explains common failures to listen.
func ExplainListen(addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use by another process: stop it, or choose another address with --listen", addr)
	}
	return err
}
