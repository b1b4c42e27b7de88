package socket

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// threads is an engine with a goroutine for each socket, which reads, and a
// second one while something waits to be written. It takes any connection,
// and some ten times the memory: for TLS, which pollers can't read.
type threads struct {
	mu      sync.Mutex
	open    map[*threaded]struct{}
	stopped bool
	running sync.WaitGroup
}

// NewThreads returns an engine with a goroutine for each socket.
func NewThreads() Engine { return &threads{open: make(map[*threaded]struct{})} }

func (t *threads) Start() error { return nil }

func (t *threads) Stop() {
	t.mu.Lock()
	t.stopped = true
	for s := range t.open {
		s.Close()
	}
	t.mu.Unlock()
	t.running.Wait()
}

func (t *threads) Add(nc net.Conn, h Handler) error {
	s := &threaded{nc: nc, h: h, in: t}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return net.ErrClosed
	}
	if err := nc.SetDeadline(time.Time{}); err != nil { // net/http has set one
		return fmt.Errorf("take the socket over: %w", err)
	}
	t.open[s] = struct{}{}
	h.Socket().Attach(s)
	t.running.Go(s.read)
	return nil
}

// threaded is a socket of threads.
type threaded struct {
	nc net.Conn
	h  Handler
	in *threads

	mu      sync.Mutex
	queue   []byte // for the writer; bounded by maxQueued
	writing bool   // there is a writer
	closed  bool
}

var errQueueFull = errors.New("too much waits for the socket")

// Write queues the frame: to a TLS connection nothing can be written without
// waiting for it.
func (s *threaded) Write(frame []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	if len(s.queue)+len(frame) > maxQueued {
		return 0, errQueueFull
	}
	s.queue = append(s.queue, frame...)
	if !s.writing {
		s.writing = true
		s.in.running.Go(s.write)
	}
	return len(frame), nil
}

// write writes what is queued, and ends when nothing is left.
func (s *threaded) write() {
	for {
		b, closed := s.next()
		if len(b) == 0 {
			if closed {
				s.nc.SetReadDeadline(longAgo)
			}
			return
		}
		n, err := s.nc.Write(b)
		Written(s.h, n)
		if err != nil {
			s.nc.SetReadDeadline(longAgo) // the reader closes, and tells
			return
		}
	}
}

func (s *threaded) next() (b []byte, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, s.queue = s.queue, nil
	s.writing = len(b) > 0
	return b, s.closed
}

// lastWords bounds the time for what is queued when the end begins.
const lastWords = time.Second

var longAgo = time.Unix(1, 0)

// Close ends the reader, when what is queued has been written or that takes too long.
func (s *threaded) Close() error {
	s.mu.Lock()
	closed, writing := s.closed, s.writing
	s.closed = true
	s.mu.Unlock()
	switch {
	case closed:
		return nil
	case writing:
		return s.nc.SetWriteDeadline(time.Now().Add(lastWords))
	default:
		return s.nc.SetReadDeadline(longAgo)
	}
}

// readBuffer is what the reader has; it is idle nearly always.
const readBuffer = 512

func (s *threaded) read() {
	buf := make([]byte, readBuffer)
	for {
		n, err := s.nc.Read(buf)
		if n > 0 {
			s.h.Data(buf[:n])
		}
		if err != nil {
			break
		}
	}
	s.Close()
	s.nc.Close()
	s.in.mu.Lock()
	delete(s.in.open, s)
	s.in.mu.Unlock()
	s.h.Closed()
}

// FD returns the descriptor, for those who measure; 0 if it is not known.
func (s *threaded) FD() (fd int) {
	if sc, ok := s.nc.(syscall.Conn); ok {
		if rc, err := sc.SyscallConn(); err == nil {
			rc.Control(func(raw uintptr) { fd = int(raw) })
		}
	}
	return fd
}
