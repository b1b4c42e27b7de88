// Package api is the HTTP interface to filters: create, read, list, replace,
// patch and delete, one by one and in bulk; to the reasons why they match or
// don't; to the events that a subscriber's filters match, for those who pull;
// and to how far durable subscribers have acknowledged. It also says who may
// connect: it makes and revokes subscribers' tokens, and lists and ends connections.
//
// A write is answered when it is stored and the filter service was told of it,
// so that the filter applies to every event produced after the answer. If the
// filter service can't be told, the write stands and the answer is 202: the
// service then finds the change in the store by itself. Every error is an
// RFC 9457 problem.
package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fasthttp/router"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/ops"
	"eventstream/internal/trouble"
	"eventstream/internal/watchdog"
	"eventstream/lane"
	"eventstream/origin"
)

// Store keeps filters and acknowledgements. Its errors wrap those of package filter.
type Store interface {
	Create(context.Context, filter.Spec) (filter.Filter, error)
	CreateOnce(ctx context.Context, s filter.Spec, key string) (f filter.Filter, again bool, err error)
	Import(context.Context, iter.Seq2[filter.Spec, error]) (int64, error)
	ImportOnce(ctx context.Context, specs iter.Seq2[filter.Spec, error], key string) (n int64, again bool, err error)
	Get(context.Context, filter.ID) (filter.Filter, error)
	List(ctx context.Context, subscriber string, after filter.ID, limit int) ([]filter.Filter, error)
	Update(ctx context.Context, id filter.ID, s filter.Spec, ifRevision int64) (filter.Filter, error)
	Delete(ctx context.Context, id filter.ID, ifRevision int64) (filter.Filter, error)
	DeleteAll(ctx context.Context, subscriber string) (int64, error)
	Acked(ctx context.Context, subscriber string) (event.Ack, error)
	ForgetAck(ctx context.Context, subscriber string) error
	Acks(ctx context.Context, after string, limit int) ([]event.Ack, error)
	AckTotals(ctx context.Context, topic event.TopicID, next []int64) (event.AckTotals, error)
	ForgetAcks(ctx context.Context, before time.Time, limit int) (int64, error)
	CountAcks(ctx context.Context, before time.Time) (int64, error)
	Revoke(context.Context, auth.Revocation) error
	Ping(context.Context) error     // whether it can be read
	TryWrite(context.Context) error // whether it can be written, by doing so
}

// Publisher tells the filter service of a change, or that there are many.
type Publisher interface {
	PublishFilter(context.Context, filter.Change) (lane.ControlID, error)
	PublishBulk(context.Context) (lane.ControlID, error)
	Ping(context.Context) error     // whether it answers
	TryWrite(context.Context) error // whether it can be told something, by doing so
}

// Registry takes our metrics, and gives everybody's at /metrics.
type Registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Config holds what an operator may set. The zero value works.
type Config struct {
	StoreTimeout   time.Duration // for what one request asks of the store; 5 s if zero
	PublishTimeout time.Duration // for telling the filter service; 2 s if zero
	StopTimeout    time.Duration // for requests under way when Run is to end; 10 s if zero
	MaxBodyBytes   int           // of a request; 512 KiB if zero
	CountEvery     time.Duration // how often durable subscribers are counted, for metrics; 30 s if zero
	MaxStreams     int           // of events and of exported filters, at once; 256 if zero
	StreamsEach    int           // of them for one API key, or for one address where there are no keys; a quarter if zero
	MaxImports     int           // at once; 2 if zero
	ImportsEach    int           // of them for one key or address; half if zero
	MaxImportLines int           // of one import; 1,000,000 if zero
	MaxImportBytes int64         // of one import's body; 256 MiB if zero
	MaxDryRuns     int           // of much work, at once; half of the CPUs if zero
	ImportTimeout  time.Duration // for all of an import; 10 min if zero
	LeastRate      int           // bytes a second of an import's body, or of a stream that a client reads; 1,024 if zero
	ReadPatience   time.Duration // how long an import's client may send nothing, and over what time its rate is taken; 30 s if zero
	WritePatience  time.Duration // the same of a stream's client that reads nothing; 2 min if zero

	Room       *ops.Room    // bounds the connections; nothing does if nil
	Keys       Keys         // who may use the API; if nil, everybody who reaches it
	RequireKey bool         // ask for a key even before there is one
	Hosts      origin.Hosts // our names beside localhost and addresses; they count while nobody is asked for a key
	Signer     *auth.Signer // makes subscribers' tokens; if nil, none are made
	Limits     LimitConfig
	Mapping    *event.Mapping // where events that are sent to us have what filters name
	Checks     []ops.Check    // of /readyz, beside our own
}

// Server serves the API.
type Server struct {
	cfg       Config
	store     Store
	publisher Publisher
	lanes     Lanes
	replays   Replays
	metrics   *metrics
	durables  *durables
	health    *health
	checks    *ops.Readiness // Config.Checks
	live      *trouble.Trouble
	guard     *guard
	router    *router.Router
	http      *fasthttp.Server
	stopping  atomic.Bool
	watchdog  *watchdog.Watchdog
	log       *slog.Logger

	streams   *slots
	imports   *slots
	dryRuns   chan struct{}   // holds a token for each that is under way
	streaming context.Context // ends them
	cut       context.CancelFunc
}

// New returns a Server. It does no I/O: Run does.
func New(cfg Config, s Store, p Publisher, l Lanes, r Replays, reg Registry, log *slog.Logger) *Server {
	cfg.StoreTimeout = cmp.Or(cfg.StoreTimeout, 5*time.Second)
	cfg.PublishTimeout = cmp.Or(cfg.PublishTimeout, 2*time.Second)
	cfg.StopTimeout = cmp.Or(cfg.StopTimeout, 10*time.Second)
	cfg.MaxBodyBytes = cmp.Or(cfg.MaxBodyBytes, 512<<10)
	cfg.CountEvery = cmp.Or(cfg.CountEvery, 30*time.Second)
	cfg.MaxStreams = cmp.Or(cfg.MaxStreams, 256)
	cfg.MaxImports = cmp.Or(cfg.MaxImports, 2)
	cfg.MaxImportLines = cmp.Or(cfg.MaxImportLines, 1_000_000)
	cfg.MaxImportBytes = cmp.Or(cfg.MaxImportBytes, 256<<20)
	cfg.MaxDryRuns = cmp.Or(cfg.MaxDryRuns, max(1, runtime.GOMAXPROCS(0)/2))
	cfg.ImportTimeout = cmp.Or(cfg.ImportTimeout, 10*time.Minute)
	cfg.StreamsEach = cmp.Or(cfg.StreamsEach, max(1, cfg.MaxStreams/4))
	cfg.ImportsEach = cmp.Or(cfg.ImportsEach, max(1, cfg.MaxImports/2))
	cfg.LeastRate = cmp.Or(cfg.LeastRate, 1<<10)
	cfg.ReadPatience = cmp.Or(cfg.ReadPatience, 30*time.Second)
	cfg.WritePatience = cmp.Or(cfg.WritePatience, 2*time.Minute)
	srv := &Server{
		cfg: cfg, store: s, publisher: p, lanes: l, replays: r, log: log,
		metrics: newMetrics(reg), durables: newDurables(reg), health: newHealth(s, p, log), checks: ops.Keep(cfg.Checks...),
		live:  trouble.New(log, "no filter service tells what it has in memory", "filter services tell again what they have in memory"),
		guard: newGuard(cfg, reg, log),
	}
	srv.streams = newSlots("streams", cfg.MaxStreams, cfg.StreamsEach, srv.metrics)
	srv.imports = newSlots("imports", cfg.MaxImports, cfg.ImportsEach, srv.metrics)
	srv.watchdog = watchdog.New(log)
	srv.watchdog.Lock("the lock of streams", &srv.streams.mu)
	srv.watchdog.Lock("the lock of imports", &srv.imports.mu)
	srv.watchdog.Lock("the lock of API keys", &srv.guard.mu)
	srv.guard.pulse = srv.watchdog.Loop("the reading of API keys")
	srv.dryRuns = make(chan struct{}, cfg.MaxDryRuns)
	srv.streaming, srv.cut = context.WithCancel(context.Background())
	srv.router = srv.routes(fasthttpadaptor.NewFastHTTPHandler(promhttp.HandlerFor(reg, promhttp.HandlerOpts{})))
	srv.http = &fasthttp.Server{
		Handler:        srv.serve,
		ErrorHandler:   srv.refuse,
		ExpectHandler:  srv.expect,
		HeaderReceived: ignoreBody,
		Logger:         connectionLog{log},
		ConnState:      srv.follow,

		ReadTimeout:     5 * time.Second,
		WriteTimeout:    15 * time.Second,
		IdleTimeout:     time.Minute,
		CloseOnShutdown: true,
		TCPKeepalive:    true,
		ReadBufferSize:  16 << 10, // the most that headers may take

		StreamRequestBody:            true, // readBody bounds what is taken in
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
	}
	return srv
}

// Run serves on ln, which it closes, until ctx ends. Requests under way are
// finished; those that take longer than StopTimeout are an error. Streams of
// events are cut after half of it, which their readers notice.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	defer background(ctx, s.countDurables)()
	defer background(ctx, s.guard.run)()
	defer background(ctx, s.health.run)()
	defer background(ctx, func(ctx context.Context) { s.watchdog.Run(ctx) })()
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(ln) }()
	select {
	case err := <-served:
		err = cmp.Or(err, errListenerClosed) // for fasthttp that is no error
		return fmt.Errorf("serve the API on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	s.stopping.Store(true)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.StopTimeout)
	defer cancel()
	defer s.cut()
	defer time.AfterFunc(s.cfg.StopTimeout/2, s.cut).Stop()
	err := s.http.ShutdownWithContext(grace)
	ln.Close() // where Serve had not yet begun, Shutdown didn't know of ln
	<-served
	if grace.Err() != nil {
		return fmt.Errorf("stop the API: requests still under way after %v", s.cfg.StopTimeout)
	}
	if err != nil {
		return fmt.Errorf("stop the API: %w", err)
	}
	return nil
}

// background runs work until the function returned is called.
func background(ctx context.Context, work func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); work(ctx) }()
	return func() { cancel(); <-done }
}

var errListenerClosed = errors.New("listener was closed")

// answer makes a fasthttp handler of h.
func (s *Server) answer(h handler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		err := s.guard.admit(ctx)
		if err == nil {
			err = h(ctx)
		}
		if err != nil {
			s.tellProblem(ctx, problemOf(err))
		}
	}
}

// serve is the root of all handlers. fasthttp has no recover of its own: a
// panic would end the process.
func (s *Server) serve(ctx *fasthttp.RequestCtx) {
	start := time.Now()
	begin(ctx)
	if s.cfg.Room != nil {
		s.cfg.Room.Busy(ctx.Conn())
	}
	defer func() {
		if p := recover(); p != nil {
			s.metrics.panics.Inc()
			s.log.Error("handler panicked", "route", route(ctx), "panic", p, "stack", string(debug.Stack()))
			ctx.Response.Reset()
			begin(ctx)
			writeProblem(ctx, &problem{kind: internal})
		}
		s.metrics.count(route(ctx), ctx.Response.StatusCode())
		s.metrics.seconds.WithLabelValues(route(ctx)).Observe(time.Since(start).Seconds())
	}()
	if !spoken(&ctx.Request.Header) {
		ctx.SetConnectionClose()
		writeProblem(ctx, &problem{kind: badVersion, detail: fmt.Sprintf("%.20q is not supported; send HTTP/1.1", ctx.Request.Header.Protocol())})
		return
	}
	s.router.Handler(ctx)
}

// follow is called for a new connection before another one is accepted, and not when a
// request is whole: serve is.
func (s *Server) follow(nc net.Conn, state fasthttp.ConnState) {
	switch {
	case s.cfg.Room == nil:
	case state == fasthttp.StateNew:
		s.cfg.Room.Enter(s.streaming, nc)
	case state == fasthttp.StateIdle:
		s.cfg.Room.Wait(nc)
	case state == fasthttp.StateClosed, state == fasthttp.StateHijacked:
		s.cfg.Room.Leave(nc)
	}
}

// refuse answers what is no HTTP request, or too large to be one.
func (s *Server) refuse(ctx *fasthttp.RequestCtx, err error) {
	begin(ctx)
	writeProblem(ctx, malformed(err))
	s.metrics.count("malformed", ctx.Response.StatusCode())
}

// route names the route of a request, as "GET /filters/{id}".
func route(ctx *fasthttp.RequestCtx) string {
	path, ok := ctx.UserValue(router.MatchedRoutePathParam).(string)
	if !ok {
		return "other"
	}
	return string(ctx.Method()) + " " + path
}

// begin gives the response the request's X-Request-Id, or a new one.
func begin(ctx *fasthttp.RequestCtx) {
	id := string(ctx.Request.Header.Peek("X-Request-Id"))
	if len(id) == 0 || len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		id = uuid.NewString()
	}
	ctx.Response.Header.Set("X-Request-Id", id)
	ctx.Response.Header.Set("X-Content-Type-Options", "nosniff")
	ctx.Response.Header.Set("Content-Security-Policy", origin.Policy)
}

// connectionLog takes fasthttp's words about connections that went wrong. Any
// client can cause them at any rate, and they quote what it sent: a key, say.
type connectionLog struct{ log *slog.Logger }

func (l connectionLog) Printf(format string, args ...any) {
	l.log.Debug("connection", "err", quoted.ReplaceAllString(fmt.Sprintf(format, args...), `"…"`))
}

var quoted = regexp.MustCompile(`(?s)"(\\.|[^"\\])*("|$)`)
