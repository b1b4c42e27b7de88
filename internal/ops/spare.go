package ops

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/internal/trouble"
)

// Spare is how many descriptors a serving process keeps in reserve.
const Spare = 8

// reserve holds some descriptors for when the process has no others: then clients can
// still be answered 503.
type reserve struct {
	trouble *trouble.Trouble

	mu   sync.Mutex
	held []io.Closer
}

func newReserve(log *slog.Logger) *reserve {
	return &reserve{trouble: trouble.NewError(log, errFull.Error(), "there are descriptors again")}
}

var errFull = errors.New("this process is out of descriptors: connections are answered 503; raise ulimit -n (LimitNOFILE)")

// lend closes a reserved descriptor, if there is one, so that it can be used.
func (r *reserve) lend() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.held) - 1
	if last < 0 {
		return false
	}
	r.held[last].Close()
	r.held = r.held[:last]
	return true
}

// refill reserves descriptors again. It returns false if the process has none left.
func (r *reserve) refill() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.held) < Spare {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return !outOfDescriptors(err) // no reserve is possible: don't wait for it
		}
		r.held = append(r.held, f)
	}
	return true
}

// left reports whether the process can open a descriptor besides the reserve.
func (r *reserve) left() bool {
	if !r.refill() {
		return false
	}
	f, err := os.Open(os.DevNull)
	if err == nil {
		f.Close()
	}
	return !outOfDescriptors(err)
}

// outOfDescriptors reports whether the process, or the machine, has no descriptors left.
func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// passing are further errors of accept after which the next call may succeed.
var passing = []error{syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET}

func passes(err error) bool {
	return slices.ContainsFunc(passing, func(e error) bool { return errors.Is(err, e) })
}

// Descriptors is a Check that fails while the process is out of descriptors.
func (s *Servers) Descriptors() Check {
	return Check{Name: "descriptors", Local: true, Do: func(context.Context) error {
		if !s.reserve.left() {
			return errFull
		}
		s.reserve.trouble.Worked()
		return nil
	}}
}

// Sparing returns a listener that continues when the process is out of descriptors:
// then it accepts with a reserved one, and answers 503. It also retries after other
// temporary errors of accept, which would end some servers.
func (s *Servers) Sparing(name string, ln net.Listener) net.Listener {
	s.reserve.refill() // if that fails, Accept reports it
	return &sparing{
		Listener: ln, reserve: s.reserve, done: make(chan struct{}),
		refused: s.refused.WithLabelValues(name), errs: s.lines.WithLabelValues(name, "accept"),
		trouble: trouble.NewError(s.log.With("server", name), "connections can't be accepted; retrying", "connections are accepted again"),
	}
}

// sparing is what Sparing returns.
type sparing struct {
	net.Listener
	reserve       *reserve
	trouble       *trouble.Trouble // of other errors of accept
	refused, errs prometheus.Counter
	closing       sync.Once
	done          chan struct{} // closed by Close
}

// Close is for net.Listener.
func (l *sparing) Close() error {
	l.closing.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// Accept is for net.Listener.
func (l *sparing) Accept() (net.Conn, error) {
	for wait := time.Duration(0); ; {
		nc, err := l.Listener.Accept()
		if err == nil {
			l.trouble.Worked()
			if l.reserve.refill() {
				return nc, nil
			}
			l.refused.Inc() // the connection uses the last descriptor
			go func() {
				Refuse(nc, readHead(nc))
				l.reserve.refill()
			}()
			continue
		}
		full := outOfDescriptors(err)
		if !full && !passes(err) {
			return nil, err
		}
		l.errs.Inc()
		if full && l.reserve.lend() {
			l.reserve.trouble.Failed(err)
			continue
		}
		l.trouble.Failed(err)
		wait = min(cmp.Or(2*wait, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(wait):
		case <-l.done:
		}
	}
}

// refusePatience bounds how long a refused client can hold us up: once for its request,
// and once for our answer.
const refusePatience = time.Second

// readHead reads the request's header, or what arrives of it in time.
func readHead(nc net.Conn) []byte {
	nc.SetDeadline(time.Now().Add(refusePatience))
	head := make([]byte, 0, 4<<10)
	for len(head) < cap(head) && !bytes.Contains(head, []byte("\r\n\r\n")) {
		n, err := nc.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		if err != nil {
			break
		}
	}
	return head
}

// Refuse answers a request that can't be served for lack of descriptors, and
// closes the connection.
func Refuse(nc net.Conn, head []byte) {
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(refusePatience))
	answer := fullAnswer
	if bytes.Contains(bytes.ToLower(head), []byte("text/event-stream")) {
		answer = fullStream
	}
	if _, err := io.WriteString(nc, answer); err != nil {
		return
	}
	// Closing with unread data would reset the connection, and the answer would be lost.
	if half, ok := nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		io.CopyN(io.Discard, nc, 64<<10)
	}
}

const (
	fullAnswer = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n" +
		`{"type":"urn:eventstream:problem:unavailable","title":"Service Unavailable","status":503,"detail":"this process can take no more connections; try again"}` + "\n"
	// An EventSource never reconnects after a 503. Some clients take a lone retry for
	// an event without data.
	fullStream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n" +
		"retry: 2000\n" + `data: {"type":"error","code":"unavailable","message":"this process can take no more connections; try again"}` + "\nevent: error\n\n"
)
