// Package socket holds open connections: it reads what comes, and queues what the
// kernel does not take. It knows nothing of what is said on them.
package socket

import (
	"crypto/tls"
	"net"
	"sync/atomic"
)

// Socket is an open connection. It is a part of its Handler, and nothing else is kept
// for one that is idle, but for the Raw. Writes of several goroutines don't mix.
type Socket struct {
	raw     Raw          // set before the connection is used, never after
	unsent  atomic.Int64 // bytes accepted and not taken by the kernel yet
	handed  atomic.Bool  // to the engine, which loads it before it reads what was written before: epoll alone does not promise that it can
	stalled atomic.Bool  // somebody waits for unsent to become 0
}

// Handler is told what happens on its socket. The calls must not block: many sockets may
// wait for them.
type Handler interface {
	Socket() *Socket
	Data(b []byte)       // may be changed, and is valid during the call
	Moved()              // the kernel took something of what somebody waits for; under the socket's lock: no call on the socket
	Drained(waited bool) // it has taken all; waited if Stall has reported that it had not. Under the socket's lock, too
	Closed()
}

// Raw is an engine's side of a socket. Write never blocks: what the kernel does not take
// is queued, and Written tells when it has gone.
type Raw interface {
	Write(b []byte) (int, error)
	// Close begins the end: what the kernel does not take is dropped. Closed tells when it
	// is over.
	Close() error
}

// Engine holds open sockets. Several can be measured beside each other.
type Engine interface {
	Start() error
	Stop() // closes all
	// Add takes an upgraded connection over, and reads from then on. After an error the
	// connection is the caller's to answer and close.
	Add(nc net.Conn, h Handler) error
}

// maxQueued bounds what may wait inside one socket: a frame, or a batch of a
// replay, is written only when the one before has gone, and the largest of them
// is not much more than one event. A larger one would close the socket.
const maxQueued = 8 << 20

// Pollable reports whether pollers can hold a connection: they know nothing of TLS.
func Pollable(nc net.Conn) bool {
	_, encrypted := nc.(*tls.Conn)
	return !encrypted
}

// Attach has s be the given one. Engines call it.
func (s *Socket) Attach(raw Raw) {
	s.raw = raw
	s.handed.Store(true)
}

// Write hands bytes to the kernel, or queues them. The connection ends if that fails.
func (s *Socket) Write(b []byte) {
	s.unsent.Add(int64(len(b)))
	if _, err := s.raw.Write(b); err != nil {
		s.raw.Close() // Closed tells of it as of any other end
	}
}

// Close begins the end. The handler hears when it is over.
func (s *Socket) Close() { s.raw.Close() }

// Unsent returns how many bytes the kernel has not taken yet.
func (s *Socket) Unsent() int64 { return s.unsent.Load() }

// Stall reports whether the kernel has not taken everything yet. If so, the handler
// will hear when it has.
func (s *Socket) Stall() bool {
	if s.unsent.Load() == 0 {
		return false
	}
	s.stalled.Store(true)
	if s.unsent.Load() == 0 && s.stalled.CompareAndSwap(true, false) {
		return false
	}
	return true
}

// Written tells h that the kernel took n bytes. Engines call it.
func Written(h Handler, n int) {
	s := h.Socket()
	if s.stalled.Load() {
		h.Moved()
	}
	if s.unsent.Add(int64(-n)) > 0 {
		return
	}
	h.Drained(s.stalled.Load() && s.stalled.CompareAndSwap(true, false))
}

// Wrap has writes go through what f returns, for those who measure them. Nothing may be
// written meanwhile.
func (s *Socket) Wrap(f func(Raw) Raw) { s.raw = f(s.raw) }
