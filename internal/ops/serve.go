package ops

import (
	"cmp"
	"context"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Limits of what any client may send, and how long it may take. The zero value works.
type Limits struct {
	HeaderTimeout  time.Duration // for a whole request header; 5s if zero
	BodyTimeout    time.Duration // then for its body; 5s if zero
	WriteTimeout   time.Duration // from the header to the end of the answer; 15s if zero
	IdleTimeout    time.Duration // between two requests; 10s if zero
	MaxHeaderBytes int           // about; 64 KiB if zero, which fits a cursor of very many partitions
	MaxConns       int           // connections that are not admitted; 1,024 if zero

	// Body reports whether a request may have a body, of at most 1 MiB. Other bodies are not
	// read: the request is refused, and the connection closed. If Body is nil, none may.
	Body func(*http.Request) bool
}

// Servers serves the listeners of a process. No client can hold a connection longer
// than the Limits allow, whatever it sends or does not send or read, unless the handler
// admits it: by hijacking it, or by Admit.
type Servers struct {
	log     *slog.Logger
	open    *prometheus.GaugeVec
	evicted *prometheus.CounterVec
	lines   *prometheus.CounterVec
	refused *prometheus.CounterVec
	reserve *reserve
}

// NewServers returns Servers. It does no I/O: Serve does.
func NewServers(reg prometheus.Registerer, log *slog.Logger) *Servers {
	f := promauto.With(reg)
	return &Servers{
		log:     log,
		reserve: newReserve(log),
		open: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "http_unadmitted_connections",
			Help: "Open connections that are no admitted stream or WebSocket, by server.",
		}, []string{"server"}),
		evicted: f.NewCounterVec(prometheus.CounterOpts{
			Name: "http_evicted_connections_total",
			Help: "Connections closed to make room for others, before they had sent a request or between two, by server.",
		}, []string{"server"}),
		lines: f.NewCounterVec(prometheus.CounterOpts{
			Name: "http_errors_total",
			Help: "Errors of connections, by server and kind (tls, accept, panic, other). The log has a sample of them.",
		}, []string{"server", "kind"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "http_refused_connections_total",
			Help: "Connections answered 503 because the process was out of descriptors, by server.",
		}, []string{"server"}),
	}
}

// Room returns a Room of so many connections, for a server other than net/http's.
func (s *Servers) Room(name string, most int) *Room {
	return newRoom(most, s.open.WithLabelValues(name), s.evicted.WithLabelValues(name))
}

// Serve serves h on ln until ctx ends, and then lets requests under way finish for a
// moment. It leaves hijacked connections alone.
func (s *Servers) Serve(ctx context.Context, name string, ln net.Listener, h http.Handler, l Limits) error {
	errs := newSampler(s.log.With("server", name), s.lines.MustCurryWith(prometheus.Labels{"server": name}))
	defer errs.flush()
	room := s.Room(name, cmp.Or(l.MaxConns, 1024))
	header := cmp.Or(l.HeaderTimeout, 5*time.Second)
	srv := &http.Server{
		Handler:           bounded(recovered(h, errs), l.Body),
		ReadHeaderTimeout: header,
		ReadTimeout:       header + cmp.Or(l.BodyTimeout, 5*time.Second),
		WriteTimeout:      cmp.Or(l.WriteTimeout, 15*time.Second),
		IdleTimeout:       cmp.Or(l.IdleTimeout, 10*time.Second),
		MaxHeaderBytes:    cmp.Or(l.MaxHeaderBytes, 64<<10) - headerSlack,
		ErrorLog:          log.New(httpErrors{errs}, "", 0),
		ConnContext:       room.inContext,
		ConnState:         func(nc net.Conn, state http.ConnState) { room.follow(ctx, nc, state) },
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	}()
	if err := srv.Serve(s.Sparing(name, ln)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	return nil
}

// headerSlack is what net/http accepts beyond MaxHeaderBytes.
const headerSlack = 4 << 10

// maxBody is the maximum size of a body.
const maxBody = 1 << 20

// bounded refuses bodies that are not wanted, and limits others.
func bounded(h http.Handler, wanted func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.ContentLength == 0: // -1 if unknown
		case wanted == nil || !wanted(r):
			Unread(w)
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusBadRequest)
			w.Write([]byte(noBody))
			return
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		}
		h.ServeHTTP(w, r)
	})
}

const noBody = `{"type":"urn:eventstream:problem:body-not-allowed","title":"Bad Request","status":400,"detail":"a body is not allowed here: send neither Content-Length nor Transfer-Encoding"}` + "\n"

// Unread closes the connection as soon as the answer is written, even if the request's
// body is unread: net/http would otherwise read up to 256 KB of it.
func Unread(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
}
