package ops

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/internal/testenv"
)

// hog takes all descriptors of this process.
type hog struct {
	t      *testing.T
	before syscall.Rlimit
	taken  []*os.File
}

// exhaust has this process run out of descriptors.
func exhaust(t *testing.T) *hog {
	t.Helper()
	h := &hog{t: t}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &h.before); err != nil {
		t.Fatal(err)
	}
	few := h.before
	few.Cur = 256
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.free)
	return h
}

// fill takes all that there are, and leaves so many.
func (h *hog) fill(leave int) {
	h.t.Helper()
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			break
		}
		if err != nil {
			h.t.Fatal(err)
		}
		h.taken = append(h.taken, f)
	}
	h.drop(leave)
}

func (h *hog) drop(n int) {
	for _, f := range h.taken[:n] {
		f.Close()
	}
	h.taken = h.taken[n:]
}

func (h *hog) free() {
	h.drop(len(h.taken))
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &h.before)
}

// Who connects to a process that is out of descriptors is answered 503, or in the way of
// an EventSource, which would not come back after that. Readiness tells, and all is well
// when there are descriptors again.
func TestOutOfDescriptors(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%t", encrypted), func(t *testing.T) {
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }), Limits{}, encrypted)
			ask := func(header string) string {
				nc := s.dial(t)
				defer nc.Close()
				if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n"+header+"Connection: close\r\n\r\n"); err != nil {
					t.Error(err)
				}
				return answerOf(t, nc)
			}
			ready := func() error { return s.servers.Descriptors().Do(t.Context()) }
			if got := ask(""); !strings.HasSuffix(got, "hello") || ready() != nil {
				t.Fatalf("at first: %q, readiness %v", got, ready())
			}
			testenv.Eventually(t, 10*time.Second, func() error {
				if got := s.counted(t, "http_unadmitted_connections"); got != 0 {
					return fmt.Errorf("%d connections are open", got)
				}
				return nil
			})
			h := exhaust(t)
			h.fill(1) // for our end of the connection
			for range 3 * Spare {
				if got := ask(""); !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "\r\nRetry-After: ") {
					t.Errorf("out of descriptors: answered %q", got)
				}
			}
			if got := ask("Accept: text/event-stream\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.Contains(got, "\r\n\r\nretry: 2000\ndata: {") || !strings.HasSuffix(got, "}\nevent: error\n\n") {
				t.Errorf("an EventSource: answered %q", got)
			}
			nc := s.dial(t) // it holds the last one
			testenv.Eventually(t, 10*time.Second, func() error {
				if err := ready(); !errors.Is(err, errFull) {
					return fmt.Errorf("readiness: %w", err)
				}
				return nil
			})
			nc.Close()
			h.free()
			testenv.Eventually(t, 10*time.Second, ready)
			if got := ask(""); !strings.HasSuffix(got, "hello") {
				t.Errorf("with descriptors again: %q", got)
			}
			if got := s.counted(t, "http_refused_connections_total"); got < 3*Spare+1 {
				t.Errorf("%d are counted as refused", got)
			}
			for _, want := range []string{"out of descriptors", "there are descriptors again"} {
				if got := strings.Count(s.log.String(), want); got != 1 {
					t.Errorf("%d lines with %q, want 1: %s", got, want, s.log)
				}
			}
		})
	}
}

// failing is a listener whose Accept fails some times.
type failing struct {
	net.Listener
	errs chan error
}

func (f failing) Accept() (net.Conn, error) {
	select {
	case err := <-f.errs:
		return nil, err
	default:
		return f.Listener.Accept()
	}
}

// What passes is waited for, and Close ends the wait. What does not pass ends the server.
func TestAcceptErrors(t *testing.T) {
	s := NewServers(prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := failing{inner, make(chan error, 10)}
	ln := s.Sparing("test", f)
	bad := errors.New("it broke")
	for _, err := range []error{syscall.ENOBUFS, fmt.Errorf("accept: %w", syscall.ENOMEM), syscall.EMFILE, bad} {
		f.errs <- err
	}
	if _, err := ln.Accept(); err != bad {
		t.Errorf("Accept = %v, want %v", err, bad)
	}
	ended := make(chan error)
	go func() {
		_, err := ln.Accept()
		ended <- err
	}()
	ln.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v, want %v", err, net.ErrClosed)
	}
}
