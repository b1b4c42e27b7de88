package socket

import (
	"context"
	"net"
)

// Listen opens the gateway's listener. What accepted sockets inherit lets a client that
// does not read be noticed after some KB that could not be sent, and not after the 4 MB
// that the kernel would take for it.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	lc := listenConfig(false)
	return lc.Listen(ctx, "tcp", addr)
}

// ListenShared is Listen for several processes at the same address, among which the
// kernel divides those who connect.
func ListenShared(ctx context.Context, addr string) (net.Listener, error) {
	lc := listenConfig(true)
	return lc.Listen(ctx, "tcp", addr)
}
