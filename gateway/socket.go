package gateway

import (
	"crypto/tls"
	"net"
)

// socket is an open client connection, as much as the gateway needs of one.
// Write never blocks: what the kernel does not take is queued, and written
// tells when it has gone. Writes of several goroutines don't mix.
type socket interface {
	Write(frame []byte) (int, error)
	// Close begins the end: what the kernel does not take is dropped. closed tells
	// when it is over.
	Close() error
}

// socketEvents is told what happens on sockets. The calls must not block: many
// sockets may wait for them. Data may be changed, and is valid during the call.
type socketEvents interface {
	data(c *conn, b []byte)
	written(c *conn, n int) // under the socket's lock: no call on the socket
	closed(c *conn)
}

// engine holds open sockets. Several can be measured beside each other.
type engine interface {
	start() error
	stop() // closes all
	// add takes an upgraded connection over, sets c's socket, and reads from then
	// on. After an error the connection is the caller's to answer and close.
	add(nc net.Conn, c *conn) error
}

// maxQueued bounds what may wait inside one socket: a frame, or a batch of a
// replay, is written only when the one before has gone, and the largest of them
// is not much more than one event. A larger one would close the socket.
const maxQueued = 8 << 20

// engineFor returns the engine for a connection: pollers know nothing of TLS.
func (g *Gateway) engineFor(nc net.Conn) engine {
	if _, ok := nc.(*tls.Conn); ok {
		return g.threads
	}
	return g.pollers
}
