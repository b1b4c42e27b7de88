package socket

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"syscall"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"
)

// pollers is an engine of a few goroutines that wait for all sockets: no
// goroutine, timer or buffer for one that is idle.
type pollers struct {
	engine *nbio.Engine
}

// NewPollers returns an engine of a few goroutines that wait for all sockets.
func NewPollers() Engine {
	logging.SetLevel(logging.LevelNone) // it prints to stdout; what matters comes back as errors
	e := nbio.NewEngine(nbio.Config{
		Name:               "gateway",
		NPoller:            max(1, runtime.GOMAXPROCS(0)/4), // little comes in
		ReadBufferSize:     32 << 10,
		MaxWriteBufferSize: maxQueued,
	})
	e.OnData(func(c *nbio.Conn, b []byte) { owner(c).Data(b) })
	e.OnWrittenSize(func(c *nbio.Conn, _ []byte, n int) { Written(owner(c), n) })
	e.OnClose(func(c *nbio.Conn, _ error) { owner(c).Closed() })
	return &pollers{engine: e}
}

// owner returns the handler that c is the socket of.
func owner(c *nbio.Conn) Handler {
	h := c.Session().(Handler)
	h.Socket().handed.Load()
	return h
}

func (p *pollers) Start() error { return p.engine.Start() }
func (p *pollers) Stop()        { p.engine.Stop() }

func (p *pollers) Add(nc net.Conn, h Handler) error {
	sock, err := nbio.NBConn(nc)
	if err != nil {
		return fmt.Errorf("hand the socket to the poller: %w", err)
	}
	sock.SetSession(h)
	h.Socket().Attach(&polled{nc: sock, h: h})
	if _, err := p.engine.AddConn(sock); err != nil {
		return fmt.Errorf("hand the socket to the poller: %w", err)
	}
	return nil
}

// polled is a socket of pollers.
//
// Only its poller may close it. nbio tells the events of a batch apart by
// descriptor only: were the descriptor closed elsewhere in between, an event
// that is meant for it could end a fresh connection that got the same number.
// So everybody else shuts the connection down, of which the poller then hears.
//
// One case is left: nbio closes a connection itself if its own write of a rest fails,
// that is, if the peer resets it between our write and nbio's. Then one fresh
// connection may be ended, whose client resumes.
type polled struct {
	nc *nbio.Conn
	h  Handler
	mu sync.Mutex // between writers
}

// Write writes past nbio while nothing is queued there: nbio would close a
// connection that fails, and lets the runtime believe that the call may block,
// which costs more. What the kernel does not take nbio queues.
func (s *polled) Write(frame []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	if int64(len(frame)) == s.h.Socket().Unsent() { // nothing but this frame
		var err error
		if n, err = s.try(frame); err != nil {
			return 0, err
		}
	}
	if n == len(frame) {
		return n, nil
	}
	m, err := s.nc.Write(frame[n:])
	return n + max(m, 0), err
}

// try writes what the kernel takes at once.
func (s *polled) try(frame []byte) (int, error) {
	s.nc.Lock() // keeps the descriptor open
	defer s.nc.Unlock()
	if closed, _ := s.nc.IsClosed(); closed {
		return 0, net.ErrClosed
	}
	n, err := writeNow(s.nc.Hash(), frame)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	Written(s.h, n)
	return n, nil
}

func (s *polled) Close() error {
	s.nc.Lock()
	defer s.nc.Unlock()
	if closed, _ := s.nc.IsClosed(); closed {
		return nil
	}
	return syscall.Shutdown(s.nc.Hash(), syscall.SHUT_RDWR)
}

// FD returns the descriptor, for those who measure.
func (s *polled) FD() int { return s.nc.Hash() }
