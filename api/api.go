// Package api is the HTTP interface to filters: create, read, list, replace, patch and
// delete, one by one and in bulk. It also explains why a filter matches an event or
// not, returns the past events that a subscriber's filters match, shows what durable
// subscribers have acknowledged, issues and revokes subscribers' tokens, and lists and
// closes connections.
//
// A write is answered when it is stored and the filter service has been told, so that
// the filter applies to every event produced after the answer. If the filter service
// can't be told, the write stands and the answer is 202: the service then finds the
// change in the store by itself. Every error is an RFC 9457 problem.
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
	TryWrite(context.Context) error // whether it can be written; it writes to find out
}

// Publisher tells the filter service of a change, or that there are many.
type Publisher interface {
	PublishFilter(context.Context, filter.Change) (lane.ControlID, error)
	PublishBulk(context.Context) (lane.ControlID, error)
	Ping(context.Context) error
	TryWrite(context.Context) error // whether it takes writes; it writes to find out
}

// Registry registers our metrics, and gathers those of the whole process for /metrics.
type Registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Config holds what an operator may set. The zero value works.
type Config struct {
	StoreTimeout   time.Duration // for the store queries of one request; 5 s if zero
	PublishTimeout time.Duration // for telling the filter service; 2 s if zero
	StopTimeout    time.Duration // for requests under way when Run stops; 10 s if zero
	MaxBodyBytes   int           // of a request; 512 KiB if zero
	CountEvery     time.Duration // how often durable subscribers are counted, for metrics; 30 s if zero
	MaxStreams     int           // streams of events and exports under way at once; 256 if zero
	StreamsEach    int           // MaxStreams for one API key, or for one address where there are no keys; a quarter if zero
	MaxImports     int           // at once; 2 if zero
	ImportsEach    int           // MaxImports for one key or address; half if zero
	MaxImportLines int           // of one import; 1,000,000 if zero
	MaxImportBytes int64         // of one import's body; 256 MiB if zero
	MaxDryRuns     int           // expensive ones at once; half of the CPUs if zero
	ImportTimeout  time.Duration // for a whole import; 10 min if zero
	LeastRate      int           // minimum rate of an import, or of reading a stream, in bytes/s; 1,024 if zero
	ReadPatience   time.Duration // how long an import may send nothing, and the period its rate is averaged over; 30 s if zero
	WritePatience  time.Duration // the same for the reader of a stream; 2 min if zero

	Room       *ops.Room    // bounds the connections; no bound if nil
	Keys       Keys         // the API keys; if nil, no request needs one
	RequireKey bool         // require a key even before the first one exists
	Hosts      origin.Hosts // allowed host names besides localhost and IP addresses; checked while no key is required
	Signer     *auth.Signer // signs subscribers' tokens; if nil, none are issued
	Limits     LimitConfig
	Mapping    *event.Mapping // finds filter fields in the events of dry runs and explanations
	Checks     []ops.Check    // extra checks of /readyz
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
	dryRuns   chan struct{}   // one element for each under way
	streaming context.Context // ends streams and imports
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
		ReadBufferSize:  16 << 10, // the maximum size of headers

		StreamRequestBody:            true, // readBody enforces the limit
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
	}
	return srv
}

// Run serves on ln, and closes it, until ctx ends. Requests under way are finished; if
// they take longer than StopTimeout, Run returns an error. Streams of events are cut
// after half of StopTimeout, and their readers see the missing end.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	defer background(ctx, s.countDurables)()
	defer background(ctx, s.guard.run)()
	defer background(ctx, s.health.run)()
	defer background(ctx, func(ctx context.Context) { s.watchdog.Run(ctx) })()
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(ln) }()
	select {
	case err := <-served:
		err = cmp.Or(err, errListenerClosed) // fasthttp returns nil for it
		return fmt.Errorf("serve the API on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	s.stopping.Store(true)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.StopTimeout)
	defer cancel()
	defer s.cut()
	defer time.AfterFunc(s.cfg.StopTimeout/2, s.cut).Stop()
	err := s.http.ShutdownWithContext(grace)
	ln.Close() // if Serve had not begun, Shutdown did not know ln
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

// answer converts h to a fasthttp handler.
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

// follow counts connections in cfg.Room. fasthttp calls it before it accepts the next
// connection, but not when a request has been read: serve marks it busy.
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

// refuse answers a request that can't be parsed or is too large.
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

// begin sets the response's common headers. X-Request-Id is that of the
// request, or a new one.
func begin(ctx *fasthttp.RequestCtx) {
	id := string(ctx.Request.Header.Peek("X-Request-Id"))
	if len(id) == 0 || len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		id = uuid.NewString()
	}
	ctx.Response.Header.Set("X-Request-Id", id)
	ctx.Response.Header.Set("X-Content-Type-Options", "nosniff")
	ctx.Response.Header.Set("Content-Security-Policy", origin.Policy)
}

// connectionLog receives fasthttp's log of connection errors. Any client can cause them
// at any rate, so they are logged at debug level; they quote what the client sent,
// perhaps a key, so quoted text is removed.
type connectionLog struct{ log *slog.Logger }

func (l connectionLog) Printf(format string, args ...any) {
	l.log.Debug("connection", "err", quoted.ReplaceAllString(fmt.Sprintf(format, args...), `"…"`))
}

var quoted = regexp.MustCompile(`(?s)"(\\.|[^"\\])*("|$)`)
