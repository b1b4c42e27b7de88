package gateway

import (
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eventstream/gateway/framing"
	"eventstream/gateway/framing/framingtest"
	"eventstream/gateway/socket"
	"eventstream/internal/testenv"
)

// A gateway without a free file descriptor can't take a socket over: it says so,
// keeps those that it has, and takes new ones when there is one again.
func TestOutOfFiles(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	old := connect(t, g, "old", "")
	c := rawConnect(t, g)
	io.WriteString(c.nc, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil) // so that it is accepted
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	restore := noFiles(t)
	io.WriteString(c.nc, request("new", ""))
	if resp, err = http.ReadResponse(c.r, nil); err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("answered: %+v, %v; want 503 with Retry-After", resp, err)
	}
	old.untilEvent(w.publish(0, "old", "new"))
	restore()
	testenv.Eventually(t, 5*time.Second, func() error { return wantOpen(g, 1) })
	connect(t, g, "new", "").untilEvent(w.publish(0, "new"))
}

// noFiles has the process open no more files.
func noFiles(t *testing.T) (restore func()) {
	t.Helper()
	var had unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &had); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(os.DevNull) // gets the lowest number that is free
	if err != nil {
		t.Fatal(err)
	}
	low := had
	low.Cur = uint64(f.Fd())
	f.Close()
	set := func(l unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			t.Fatal(err)
		}
	}
	set(low)
	t.Cleanup(func() { set(had) })
	return func() { set(had) }
}

// The kernel takes little that it can't send, and ends a stream's socket when nothing is
// acknowledged.
func TestTune(t *testing.T) {
	ln, err := socket.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	socket.Tune(struct{ net.Conn }{nc}, time.Second) // hidden: nothing can be done
	socket.Tune(nc, 62*time.Second)
	rc, _ := nc.(*net.TCPConn).SyscallConn()
	rc.Control(func(fd uintptr) {
		if ms, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err != nil || ms != 62_000 {
			t.Errorf("TCP_USER_TIMEOUT is %d ms, %v", ms, err)
		}
		if n, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT); err != nil || n != 16<<10 {
			t.Errorf("TCP_NOTSENT_LOWAT is %d, %v", n, err)
		}
	})
}

// A client that says that it sends no more is gone: nobody would answer our close.
func TestHalfClose(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	for name, before := range map[string][]byte{
		"at once":            nil,
		"in a frame":         framingtest.ClientFrame(framing.OpText, true, []byte("abc"), 1)[:5],
		"between fragments":  framingtest.ClientFrame(framing.OpText, false, []byte("abc"), 1),
		"after a whole text": framingtest.ClientFrame(framing.OpText, true, []byte(`{"type":"ping"}`), 1),
	} {
		c := rawDial(t, g, "user_1", "")
		c.message()
		c.sendBytes(before)
		if err := c.nc.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := c.ended(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	noneOpen(t, g)
}

// A second request behind the first, as pipelining has it, is no frame.
func TestPipelinedHandshakes(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	for _, r := range []string{
		request("user_1", "") + request("user_1", ""),
		sseRequest("subscriber_id=user_1") + sseRequest("subscriber_id=user_1"),
		request("user_1", "") + "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		c := rawConnect(t, g)
		io.WriteString(c.nc, r)
		if resp, err := http.ReadResponse(c.r, nil); err == nil {
			t.Errorf("answered: %s", resp.Status)
		}
	}
	// What is answered in full may be followed by a handshake.
	c := rawConnect(t, g)
	io.WriteString(c.nc, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"+request("user_1", ""))
	for _, want := range []int{404, 101} {
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("got %+v, %v, want %d", resp, err, want)
		}
		if want == 404 {
			io.Copy(io.Discard, resp.Body)
		}
	}
	if m := c.message(); !strings.EqualFold(m.Type, "hello") {
		t.Errorf("got %+v, want hello", m)
	}
	c.nc.Close()
	noneOpen(t, g)
}
