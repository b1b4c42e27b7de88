package cluster_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"eventstream/internal/check/cluster"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	return serve(t, func(c net.Conn) { io.Copy(c, c) })
}

func serve(t *testing.T, do func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				do(c)
			}()
		}
	}()
	return l.Addr().String()
}

func proxy(t *testing.T, upstream string) *cluster.Proxy {
	p, err := cluster.NewProxy(upstream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

const testLimit = 10 * time.Second

func dial(t *testing.T, p *cluster.Proxy) *net.TCPConn {
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(testLimit))
	return c.(*net.TCPConn)
}

func do(t *testing.T, what func() error) {
	t.Helper()
	if err := what(); err != nil {
		t.Fatal(err)
	}
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %q and %v, want %q", got[:n], err, want)
	}
}

func ends(t *testing.T, c net.Conn, want error) {
	t.Helper()
	if rest, err := io.ReadAll(c); !errors.Is(err, want) || len(rest) > 0 {
		t.Fatalf("got %q and then %v, want nothing and %v", rest, err, want)
	}
}

// TestProxyDrops: what was sent meanwhile arrives afterwards, on the same connection
// and on a new one.
func TestProxyDrops(t *testing.T) {
	p := proxy(t, echo(t))
	old := dial(t, p)
	say(t, old, "before")
	hear(t, old, "before")
	do(t, p.Drop)
	fresh := dial(t, p)
	for _, c := range []net.Conn{old, fresh} {
		say(t, c, "meanwhile")
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d bytes and %v from what is dropped; want a timeout", n, err)
		}
		c.SetReadDeadline(time.Now().Add(testLimit))
	}
	do(t, p.Heal)
	hear(t, old, "meanwhile")
	hear(t, fresh, "meanwhile")
}

// TestProxyHangs: what was sent meanwhile never arrives, and the connection ends.
func TestProxyHangs(t *testing.T) {
	p := proxy(t, echo(t))
	c := dial(t, p)
	say(t, c, "before")
	hear(t, c, "before")
	do(t, p.Hang)
	say(t, c, "meanwhile")
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes and %v from what hangs; want a timeout", n, err)
	}
	c.SetReadDeadline(time.Now().Add(testLimit))
	do(t, p.Heal)
	ends(t, c, nil)
	c = dial(t, p)
	say(t, c, "after")
	hear(t, c, "after")
}

func TestProxyRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		refuse func(*cluster.Proxy) error
		end    error
	}{
		{"by closing", (*cluster.Proxy).Refuse, nil},
		{"by resetting", (*cluster.Proxy).Reset, syscall.ECONNRESET},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := proxy(t, echo(t))
			c := dial(t, p)
			say(t, c, "before")
			hear(t, c, "before")
			do(t, func() error { return tt.refuse(p) })
			ends(t, c, tt.end)
			if c, err := net.Dial("tcp", p.Addr()); err == nil {
				c.Close()
				t.Error("one more could connect")
			}
			do(t, p.Heal)
			c = dial(t, p)
			say(t, c, "after")
			hear(t, c, "after")
		})
	}
}

// TestProxySlows: all arrives, in order, and not before its time.
func TestProxySlows(t *testing.T) {
	p := proxy(t, echo(t))
	c := dial(t, p)
	do(t, func() error { return p.Slow(60, 40) })
	began := time.Now()
	text := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	go c.Write(text)
	hear(t, c, string(text))
	if took := time.Since(began); took < 40*time.Millisecond {
		t.Errorf("two ways of at least 20ms took %s", took)
	}
}

// TestProxyPassesEnds: the rest arrives before an end does, and a reset is passed on as one.
func TestProxyPassesEnds(t *testing.T) {
	c := dial(t, proxy(t, serve(t, func(c net.Conn) { io.WriteString(c, "and out") })))
	hear(t, c, "and out")
	ends(t, c, nil)
	c = dial(t, proxy(t, serve(t, func(c net.Conn) {
		c.Read(make([]byte, 1))
		c.(*net.TCPConn).SetLinger(0)
	})))
	say(t, c, "?")
	ends(t, c, syscall.ECONNRESET)
}

// TestProxyNeverWaits: nobody reads, and all buffers are full; faults come and go
// all the same.
func TestProxyNeverWaits(t *testing.T) {
	full := make(chan struct{})
	p := proxy(t, serve(t, func(c net.Conn) {
		for {
			c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				close(full)
				io.Copy(io.Discard, c)
				return
			}
		}
	}))
	dial(t, p)
	<-full
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range 3 {
			p.Slow(5, 1)
			p.Drop()
			p.Hang()
			p.Heal()
			p.Reset()
			p.Heal()
		}
	}()
	select {
	case <-over:
	case <-time.After(testLimit):
		t.Fatal("a fault waits for one who does not read")
	}
}
