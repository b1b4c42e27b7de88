package gateway

import (
	"fmt"
	"net"
	"runtime"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"
)

// socket is an open client connection, as much as the gateway needs of one.
// Write never blocks: what the kernel does not take is queued, and Written
// tells when it has gone. Writes of several goroutines don't mix.
type socket interface {
	Write(frame []byte) (int, error)
	Close() error
}

// socketEvents is told what happens on sockets. The calls come from pollers:
// they must not block. Data may be changed, and is valid during the call.
type socketEvents interface {
	data(c *conn, b []byte)
	written(c *conn, n int) // under the socket's lock: no call on the socket
	closed(c *conn)
}

// sockets holds open sockets on a few pollers: no goroutine, timer or buffer
// for one that is idle.
type sockets struct {
	engine *nbio.Engine
}

// maxQueued bounds what may wait inside one socket: a frame, or a batch of a
// replay, is written only when the one before has gone, and the largest of them
// is not much more than one event. A larger one would close the socket.
const maxQueued = 8 << 20

func newSockets(on socketEvents) *sockets {
	logging.SetLevel(logging.LevelNone) // it prints to stdout; what matters comes back as errors
	e := nbio.NewEngine(nbio.Config{
		Name:               "gateway",
		NPoller:            max(1, runtime.GOMAXPROCS(0)/4), // little comes in
		ReadBufferSize:     32 << 10,
		MaxWriteBufferSize: maxQueued,
	})
	e.OnData(func(c *nbio.Conn, b []byte) { on.data(owner(c), b) })
	e.OnWrittenSize(func(c *nbio.Conn, _ []byte, n int) { on.written(owner(c), n) })
	e.OnClose(func(c *nbio.Conn, _ error) { on.closed(owner(c)) })
	return &sockets{engine: e}
}

// owner returns the conn that c is the socket of.
func owner(c *nbio.Conn) *conn {
	o := c.Session().(*conn)
	o.handed.Load()
	return o
}

func (s *sockets) start() error { return s.engine.Start() }
func (s *sockets) stop()        { s.engine.Stop() }

// add hands an upgraded connection to the pollers. From then on it belongs to
// them, also when there is an error.
func (s *sockets) add(nc net.Conn, c *conn) error {
	sock, err := nbio.NBConn(nc)
	if err != nil {
		nc.Close()
		return fmt.Errorf("hand the socket to the poller: %w", err)
	}
	sock.SetSession(c)
	c.sock = sock
	c.handed.Store(true)
	if _, err := s.engine.AddConn(sock); err != nil {
		return fmt.Errorf("hand the socket to the poller: %w", err)
	}
	return nil
}
