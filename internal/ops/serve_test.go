package ops

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"eventstream/internal/bubble"
	"eventstream/internal/testenv"
)

// served is a server that the test started.
type served struct {
	addr string
	tls  *tls.Config // of clients; nil without TLS
	reg  *prometheus.Registry
	log  *lockedBuffer

	servers *Servers
}

// lockedBuffer is a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve serves h until the test ends.
func serve(t *testing.T, h http.Handler, l Limits, encrypted bool) *served {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{addr: ln.Addr().String(), reg: prometheus.NewRegistry(), log: &lockedBuffer{}}
	if encrypted {
		certFile, keyFile := testenv.Certificate(t, t.TempDir(), 1)
		cert, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ln = tls.NewListener(ln, cert.Config())
		s.tls = &tls.Config{InsecureSkipVerify: true}
	}
	log, err := NewLog(s.log, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	s.servers = NewServers(s.reg, log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.servers.Serve(ctx, "test", ln, h, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
		for s.servers.reserve.lend() { // before a garbage collection does so, in another test
		}
	})
	return s
}

func (s *served) dial(t *testing.T) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	if s.tls != nil {
		nc = tls.Client(nc, s.tls)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(time.Minute))
	return nc
}

// counted returns the value of a metric, summed over its labels.
func (s *served) counted(t *testing.T, name string) (sum int) {
	t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.Metric {
				sum += int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
			}
		}
	}
	return sum
}

// sink writes a request, and then a byte of its body now and then, until the other side
// has had enough.
func sink(nc net.Conn, request, trickle string) {
	if _, err := io.WriteString(nc, request); err != nil {
		return
	}
	for trickle != "" {
		time.Sleep(20 * time.Millisecond)
		if _, err := io.WriteString(nc, trickle); err != nil {
			return
		}
	}
}

// answerOf returns all that comes until the other side closes.
func answerOf(t *testing.T, nc net.Conn) string {
	t.Helper()
	text, err := io.ReadAll(nc)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the connection was not closed: %v", err)
	}
	return string(text)
}

// Whatever a client does not send, its connection ends.
func TestServeEndsWhatDoesNotCome(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	mux.HandleFunc("/wants", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%d bytes", n)
	})
	mux.HandleFunc("/ignores", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	short := Limits{
		HeaderTimeout: 300 * time.Millisecond, BodyTimeout: 200 * time.Millisecond, WriteTimeout: 5 * time.Second, IdleTimeout: 200 * time.Millisecond,
		Body: func(r *http.Request) bool { return r.URL.Path == "/wants" || r.URL.Path == "/ignores" },
	}
	const host = " HTTP/1.1\r\nHost: x\r\n"
	for _, tt := range []struct{ name, send, trickle, status, want string }{
		{"a body that never comes", "GET /page" + host + "Content-Length: 1000\r\n\r\n", "", "400", "a body is not allowed"},
		{"OPTIONS with one", "OPTIONS /page" + host + "Content-Length: 1000\r\n\r\n", "", "400", "a body is not allowed"},
		{"one that trickles", "GET /page" + host + "Content-Length: 100000\r\n\r\n", "x", "400", "a body is not allowed"},
		{"chunks that trickle", "GET /page" + host + "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", "400", "a body is not allowed"},
		{"a huge body", "GET /page" + host + "Content-Length: 100000000000\r\n\r\n", "", "400", "a body is not allowed"},
		{"one announced by Expect", "GET /page" + host + "Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n", "", "400", "a body is not allowed"},
		{"a body that is there", "GET /page" + host + "Content-Length: 5\r\n\r\nhello", "", "400", "a body is not allowed"},
		{"one with a path that nothing has", "POST /nothing" + host + "Content-Length: 1000\r\n\r\n", "", "400", "a body is not allowed"},
		{"after a good request", "GET /page" + host + "\r\nGET /page" + host + "Content-Length: 1000\r\n\r\n", "", "200", "a body is not allowed"},
		{"after a good one with a body", "POST /wants" + host + "Content-Length: 2\r\n\r\nokPOST /wants" + host + "Content-Length: 1000\r\n\r\n", "", "200", "i/o timeout"},
		{"a wanted body that never comes", "POST /wants" + host + "Content-Length: 1000\r\n\r\n", "", "400", "i/o timeout"},
		{"a wanted one that trickles", "POST /wants" + host + "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", "400", "i/o timeout"},
		{"a wanted one that is too large", "POST /wants" + host + "Content-Length: 1048577\r\n\r\n" + strings.Repeat("x", 1<<20+1), "", "400", "too large"},
		{"a wanted one that nobody reads", "POST /ignores" + host + "Content-Length: 1000\r\n\r\n", "", "200", "hello"},
		{"nothing", "", "", "", ""},
		{"half a head", "GET /page" + host + "X-Slow: ", "", "", ""},
		{"a head that trickles", "GET /page" + host + "X-Slow: ", "x", "", ""},
		{"nothing after a good request", "GET /page" + host + "\r\nG", "", "200", "hello"},
	} {
		for _, encrypted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, tls=%t", tt.name, encrypted), func(t *testing.T) {
				t.Parallel()
				nc := serve(t, mux, short, encrypted).dial(t)
				if encrypted {
					if err := nc.(*tls.Conn).HandshakeContext(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				go sink(nc, tt.send, tt.trickle)
				got := answerOf(t, nc)
				first, _, _ := strings.Cut(strings.TrimPrefix(got, "HTTP/1.1 "), " ")
				if first != tt.status || !strings.Contains(got, tt.want) {
					t.Errorf("answered %q, want %s with %q", got, tt.status, tt.want)
				}
			})
		}
	}
}

// A body that is refused is not waited for, however long one might be.
func TestServeRefusesBodiesAtOnce(t *testing.T) {
	s := serve(t, http.NotFoundHandler(), Limits{HeaderTimeout: time.Hour, BodyTimeout: time.Hour, WriteTimeout: time.Hour}, false)
	nc := s.dial(t)
	io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
	if got := answerOf(t, nc); !strings.Contains(got, "\r\nConnection: close\r\n") || !strings.Contains(got, "400 Bad Request") {
		t.Errorf("answered %q", got)
	}
}

// A page that is not read is given up.
func TestServeEndsWhatIsNotRead(t *testing.T) {
	failed := make(chan error, 1)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				failed <- err
				return
			}
		}
	}), Limits{WriteTimeout: 200 * time.Millisecond}, false)
	io.WriteString(s.dial(t), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the handler's write failed with %v", err)
	}
}

// Who takes a connection over has no deadline of the server's on it.
func TestServeLetsGo(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		taken := make(chan net.Conn, 1)
		short := Limits{HeaderTimeout: 100 * time.Millisecond, BodyTimeout: 50 * time.Millisecond, WriteTimeout: 150 * time.Millisecond}
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			nc, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Errorf("Hijack = %v", err)
			}
			taken <- nc
		}), short, encrypted)
		client := s.dial(t)
		io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		nc := <-taken
		defer nc.Close()
		// A deadline of the server's would be over when as much time has passed.
		nc.SetReadDeadline(time.Now().Add(short.HeaderTimeout + short.BodyTimeout + short.WriteTimeout))
		if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		if _, err := nc.Write([]byte("still here\n")); err != nil {
			t.Errorf("tls=%t: write: %v", encrypted, err)
		}
		if line, err := bufio.NewReader(client).ReadString('\n'); line != "still here\n" {
			t.Errorf("tls=%t: %q, %v", encrypted, line, err)
		}
		if got := s.counted(t, "http_unadmitted_connections"); got != 0 {
			t.Errorf("%d connections count as not admitted", got)
		}
	}
}

// However many connections do nothing, somebody who asks is answered.
func TestServeHasRoom(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			Admit(r.Context())
			io.WriteString(w, "hello")
		}), Limits{MaxConns: 8, HeaderTimeout: time.Hour}, encrypted)
		idle := make([]net.Conn, 50)
		for i := range idle {
			idle[i] = s.dial(t)
			if !encrypted {
				io.WriteString(idle[i], "GET / HTTP/1.1\r\n"[:i%16])
			}
		}
		for range 3 {
			nc := s.dial(t)
			io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if got := answerOf(t, nc); !strings.HasSuffix(got, "hello") {
				t.Errorf("tls=%t: answered %q", encrypted, got)
			}
		}
		if got := s.counted(t, "http_evicted_connections_total"); got < 50+3-8-3 {
			t.Errorf("tls=%t: %d were closed to make room", encrypted, got)
		}
		if got := s.counted(t, "http_unadmitted_connections"); got > 8 {
			t.Errorf("tls=%t: %d are open, 8 allowed", encrypted, got)
		}
	}
}

// A connection that was admitted takes no room, until its request is answered.
func TestServeAdmits(t *testing.T) {
	streaming, end := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/stream", func(_ http.ResponseWriter, r *http.Request) {
		Admit(r.Context())
		streaming <- struct{}{}
		<-end
	})
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	s := serve(t, mux, Limits{MaxConns: 1}, false)
	streams := make([]net.Conn, 5)
	for i := range streams {
		streams[i] = s.dial(t)
		io.WriteString(streams[i], "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
		<-streaming
	}
	if got := s.counted(t, "http_unadmitted_connections"); got != 0 {
		t.Errorf("%d count as not admitted beside 5 streams", got)
	}
	close(end)
	for _, nc := range streams {
		if resp, err := http.ReadResponse(bufio.NewReader(nc), nil); err != nil || resp.StatusCode != 200 {
			t.Errorf("stream: %v, %v", resp, err)
		}
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		if got := s.counted(t, "http_unadmitted_connections"); got != 5 {
			return fmt.Errorf("%d connections, want 5 that are idle", got)
		}
		return nil
	})
}

// What net/http logs is in our log, and not more than a few lines of a kind.
func TestServeLogsASample(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oops") }), Limits{}, true)
	const each = 40
	for range each {
		nc := s.dial(t).(*tls.Conn).NetConn()
		io.WriteString(nc, "no TLS at all, this is\r\n")
		answerOf(t, nc)
		nc = s.dial(t)
		io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		answerOf(t, nc)
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		if got := s.counted(t, "http_errors_total"); got != 2*each {
			return fmt.Errorf("%d are counted, want %d", got, 2*each)
		}
		return nil
	})
	for _, want := range []string{`"kind":"tls"`, `"kind":"panic"`} {
		if got := strings.Count(s.log.String(), want); got != sampleOf {
			t.Errorf("%d lines with %s, want %d: %s", got, want, sampleOf, s.log)
		}
	}
	if !strings.Contains(s.log.String(), "panic serving") || !strings.Contains(s.log.String(), "oops") {
		t.Errorf("the log does not tell of the panic: %s", s.log)
	}
}

// Profiles that take longer than an answer may are whole.
func TestAdmin(t *testing.T) {
	limits := AdminLimits
	limits.WriteTimeout, limits.HeaderTimeout, limits.BodyTimeout = 500*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	s := serve(t, Admin(), limits, false)
	for _, page := range []string{"cmdline", "trace?seconds=1", "profile?seconds=1", "mutex?seconds=1"} {
		resp, err := http.Get("http://" + s.addr + "/debug/pprof/" + page)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || err != nil || len(body) == 0 {
			t.Errorf("%s: status %d, %d bytes, %v", page, resp.StatusCode, len(body), err)
		}
	}
}

// A head that is too large is refused, to the byte.
func TestMaxHeaderBytes(t *testing.T) {
	s := serve(t, http.NotFoundHandler(), Limits{MaxHeaderBytes: 8 << 10}, false)
	for _, tt := range []struct {
		size int
		want string
	}{{8 << 10, "HTTP/1.1 404 Not Found"}, {8<<10 + 1, "HTTP/1.1 431 Request Header Fields Too Large"}} {
		const begin, end = "GET / HTTP/1.1\r\nHost: x\r\nX-Large: ", "\r\nConnection: close\r\n\r\n"
		nc := s.dial(t)
		io.WriteString(nc, begin+strings.Repeat("a", tt.size-len(begin)-len(end))+end)
		if got := answerOf(t, nc); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%d bytes: answered %q, want %q", tt.size, got, tt.want)
		}
	}
}

// Only so many pages of metrics are made at once.
func TestMetricsAtOnce(t *testing.T) {
	release := make(chan struct{})
	gathering := make(chan struct{}, 2*maxScrapes)
	slow := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		gathering <- struct{}{}
		<-release
		return nil, nil
	})
	mux := http.NewServeMux()
	Handle(mux, slow, func() error { return nil })
	s := serve(t, mux, Limits{}, false)
	status := make(chan int, 2*maxScrapes)
	get := func() {
		resp, err := http.Get("http://" + s.addr + "/metrics")
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}
	for range maxScrapes {
		go get()
		<-gathering
	}
	get()
	if got := <-status; got != 503 {
		t.Errorf("one more than %d: status %d, want 503", maxScrapes, got)
	}
	close(release)
	for range maxScrapes {
		if got := <-status; got != 200 {
			t.Errorf("status %d, want 200", got)
		}
	}
}

// A library's lines are few, and how many were left out is told when the minute is over.
func TestLibraryLog(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := &lockedBuffer{}
		log, err := NewLog(b, "info", "json")
		if err != nil {
			t.Fatal(err)
		}
		l := NewLibraryLog(log, "poller")
		for range 2 {
			for i := range 100 {
				l.Error("no %d", i)
				l.Warn("hm")
				l.Info("not told")
			}
			time.Sleep(sampleEvery)
			synctest.Wait()
		}
		for want, times := range map[string]int{`"msg":"no 2"`: 2, `"msg":"hm"`: 6, "not told": 0, `"left_out":97`: 4, `"library":"poller"`: 16} {
			if got := strings.Count(b.String(), want); got != times {
				t.Errorf("%d times %s, want %d: %s", got, want, times, b)
			}
		}
	})
}
