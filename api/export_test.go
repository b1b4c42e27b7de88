package api

import (
	"context"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/internal/watchdog"
)

var Ahead = ahead

// ServeConn serves what comes on one connection.
func (s *Server) ServeConn(c net.Conn) error { return s.http.ServeConn(c) }

// Stick has a part of the server be stuck. It is called before Run.
func (s *Server) Stick() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dog := watchdog.New(slog.New(slog.DiscardHandler))
	dog.Limit = 12 * time.Millisecond
	dog.Loop("a loop")
	go dog.Run(ctx)
	for dog.Alive() == nil {
		time.Sleep(time.Millisecond)
	}
	s.watchdog = dog
}

// HoldDryRuns takes all places of dry runs of much work.
func (s *Server) HoldDryRuns() (release func()) {
	for range cap(s.dryRuns) {
		s.dryRuns <- struct{}{}
	}
	return func() {
		for range cap(s.dryRuns) {
			<-s.dryRuns
		}
	}
}

// ReadImport reads all lines of an import, and returns why it is refused.
func ReadImport(body io.Reader) error {
	cfg := Config{MaxBodyBytes: 512 << 10, MaxImportLines: 1_000_000, MaxImportBytes: 256 << 20}
	in := newImport(body, cfg, prometheus.NewCounter(prometheus.CounterOpts{Name: "lines"}))
	for range in.specs {
	}
	return in.err
}
