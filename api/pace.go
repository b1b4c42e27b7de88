package api

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// pace tells whether a client keeps up with a least rate. Only the time counts that
// we wait for it: what we, or the store, take for our part is no fault of its own.
type pace struct {
	least int           // bytes a second
	over  time.Duration // on average over so long

	waited time.Duration
	bytes  int64
}

// slow takes in that we waited for n bytes, and reports whether the client is too slow.
func (p *pace) slow(n int, waited time.Duration) bool {
	p.bytes += int64(n)
	if p.waited += waited; p.waited < p.over {
		return false
	}
	slow := float64(p.bytes) < float64(p.least)*p.waited.Seconds()
	p.waited, p.bytes = 0, 0
	return slow
}

// streamBuffer is what the kernel holds of a stream. It wakes a writer when a third is
// free: of the megabytes that it would hold otherwise, a slow client takes many minutes
// for that, in which it looks as if it took nothing.
const streamBuffer = 128 << 10

// paced is the body of a long answer. A client that takes nothing of it for a while,
// or less than the least rate, is cut off.
type paced struct {
	io.ReadCloser
	conn     net.Conn
	patience time.Duration
	pace     pace
	cut      prometheus.Counter

	n    int       // given out last
	at   time.Time // when that was
	over bool      // there is no more, or it was cut
}

func (s *Server) paced(body io.ReadCloser, conn net.Conn) *paced {
	under := conn
	if tls, ok := conn.(interface{ NetConn() net.Conn }); ok {
		under = tls.NetConn()
	}
	if tcp, ok := under.(*net.TCPConn); ok {
		tcp.SetWriteBuffer(streamBuffer)
	}
	return &paced{
		ReadCloser: body, conn: conn, patience: s.cfg.WritePatience,
		pace: pace{least: s.cfg.LeastRate, over: s.cfg.WritePatience}, cut: s.metrics.slow.WithLabelValues("stream"),
	}
}

var errSlowReader = errors.New("the client reads too slowly")

// Read is called when what it returned before is written.
func (p *paced) Read(b []byte) (n int, err error) {
	if !p.at.IsZero() && p.pace.slow(p.n, time.Since(p.at)) {
		p.cut.Inc()
		p.over = true
		return 0, errSlowReader
	}
	n, err = p.ReadCloser.Read(b)
	p.n, p.at, p.over = n, time.Now(), err != nil
	p.conn.SetWriteDeadline(p.at.Add(p.patience)) // the server's own is for short answers
	return n, err
}

// Close is called when the answer is over, also because a write took too long.
func (p *paced) Close() error {
	if !p.over && !p.at.IsZero() && time.Since(p.at) >= p.patience {
		p.cut.Inc()
	}
	return p.ReadCloser.Close()
}
