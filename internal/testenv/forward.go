package testenv

import (
	"io"
	"net"
	"sync"
	"testing"
)

// forwarder is an address that stays while what is behind it changes, as the
// endpoint of a managed service is.
type forwarder struct {
	addr     string
	listener net.Listener

	mu     sync.Mutex
	target string
	open   map[net.Conn]bool
	closed bool
	wait   sync.WaitGroup
}

// forward starts a forwarder that lives as long as the test.
func forward(t testing.TB, target string) *forwarder {
	t.Helper()
	addr := Addr(t)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{addr: addr, listener: l, target: target, open: make(map[net.Conn]bool)}
	f.wait.Go(f.accept)
	t.Cleanup(f.close)
	return f
}

func (f *forwarder) accept() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.wait.Go(func() { f.serve(c) })
	}
}

// serve passes bytes on in both directions until one side ends.
func (f *forwarder) serve(c net.Conn) {
	f.mu.Lock()
	target := f.target
	f.mu.Unlock()
	out, err := net.Dial("tcp", target)
	if err != nil {
		c.Close()
		return
	}
	f.mu.Lock()
	if f.closed || f.target != target {
		c.Close()
		out.Close()
	}
	f.open[c], f.open[out] = true, true
	f.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, out}, {out, c}} {
		both.Go(func() {
			io.Copy(way[0], way[1])
			c.Close()
			out.Close()
		})
	}
	both.Wait()
	f.mu.Lock()
	delete(f.open, c)
	delete(f.open, out)
	f.mu.Unlock()
}

// point leads to another target and cuts all connections.
func (f *forwarder) point(target string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = target
	for c := range f.open {
		c.Close()
	}
}

func (f *forwarder) close() {
	f.listener.Close()
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.point("")
	f.wait.Wait()
}
