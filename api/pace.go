package api

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// pace checks whether a client keeps up with a minimum rate. Only the time spent
// waiting for the client is counted, not our own work or the store's.
type pace struct {
	least int           // bytes a second
	over  time.Duration // the period of the average

	waited time.Duration
	bytes  int64
}

// slow adds n bytes that we waited for, and reports whether the client is too slow.
func (p *pace) slow(n int, waited time.Duration) bool {
	p.bytes += int64(n)
	if p.waited += waited; p.waited < p.over {
		return false
	}
	slow := float64(p.bytes) < float64(p.least)*p.waited.Seconds()
	p.waited, p.bytes = 0, 0
	return slow
}

// streamBuffer is the kernel's send buffer of a stream. The kernel wakes a writer when
// a third of it is free. By default it holds megabytes, and a slow client takes many
// minutes to read a third of that, during which it seems to read nothing.
const streamBuffer = 128 << 10

// paced is the body of a long answer. It cuts off a client that reads nothing for a
// while, or less than the minimum rate.
type paced struct {
	io.ReadCloser
	conn     net.Conn
	patience time.Duration
	pace     pace
	cut      prometheus.Counter

	n    int       // bytes returned last
	at   time.Time // when they were returned
	over bool      // at the end, or cut off
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

// Read is called when everything that it returned before is written.
func (p *paced) Read(b []byte) (n int, err error) {
	if !p.at.IsZero() && p.pace.slow(p.n, time.Since(p.at)) {
		p.cut.Inc()
		p.over = true
		return 0, errSlowReader
	}
	n, err = p.ReadCloser.Read(b)
	p.n, p.at, p.over = n, time.Now(), err != nil
	p.conn.SetWriteDeadline(p.at.Add(p.patience)) // replaces the server's, which is meant for short answers
	return n, err
}

// Close is called when the answer is over, also after a write timeout.
func (p *paced) Close() error {
	if !p.over && !p.at.IsZero() && time.Since(p.at) >= p.patience {
		p.cut.Inc()
	}
	return p.ReadCloser.Close()
}
