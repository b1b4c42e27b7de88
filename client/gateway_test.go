package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"eventstream/event"
	"eventstream/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gateway is an HTTP server in memory, so that it runs in a synctest bubble.
// Its nth request is served by the nth script, those after the last by the last.
type gateway struct {
	t       *testing.T
	conns   chan net.Conn
	scripts []http.HandlerFunc

	mu       sync.Mutex
	requests []request
}

type request struct {
	at    time.Time
	query url.Values
}

func newGateway(t *testing.T, scripts ...http.HandlerFunc) *gateway {
	g := &gateway{t: t, conns: make(chan net.Conn), scripts: scripts}
	srv := &http.Server{Handler: g, ErrorLog: log.New(io.Discard, "", 0)}
	l := &listener{conns: g.conns, closed: make(chan struct{})}
	served := make(chan struct{})
	go func() { defer close(served); srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-served })
	return g
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	script := g.scripts[min(len(g.requests), len(g.scripts)-1)]
	g.requests = append(g.requests, request{time.Now(), r.URL.Query()})
	g.mu.Unlock()
	script(w, r)
}

// requested returns the requests so far.
func (g *gateway) requested() []request {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.requests)
}

// cursors returns the cursor of each request so far.
func (g *gateway) cursors() []string {
	var all []string
	for _, r := range g.requested() {
		all = append(all, r.query.Get("cursor"))
	}
	return all
}

func (g *gateway) httpClient() *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case g.conns <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

type listener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// seat is the gateway's end of one WebSocket.
type seat struct {
	t  *testing.T
	ws *websocket.Conn
}

// script returns a handler that accepts the WebSocket and runs f on it.
func script(t *testing.T, f func(*seat)) http.HandlerFunc {
	return scriptWith(t, &websocket.AcceptOptions{}, f)
}

func scriptWith(t *testing.T, opts *websocket.AcceptOptions, f func(*seat)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, opts)
		if err != nil {
			t.Errorf("accept: %v", err)
			return
		}
		defer ws.CloseNow()
		f(&seat{t, ws})
	}
}

func (s *seat) send(message []byte) {
	if err := s.ws.Write(context.Background(), websocket.MessageText, message); err != nil {
		s.t.Errorf("gateway sends: %v", err)
	}
}

const testHeartbeat = 25 // seconds

func (s *seat) hello(cursor string, resumed bool) {
	s.send(wire.AppendHello(nil, "user_1", cursor, resumed, testHeartbeat))
}

// events sends one message; the data of each event is {"n":"<id>"}.
func (s *seat) events(cursor string, ids ...string) {
	b := wire.AppendEventsHead(nil)
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		parsed, err := event.ParseID(id)
		if err != nil {
			s.t.Error(err)
		}
		b = wire.AppendEvent(b, parsed, parsed.Offset*1000, []byte(`{"n":"`+id+`"}`))
	}
	if cursor == "" {
		s.send(append(b, wire.EventsTail...))
		return
	}
	s.send(wire.AppendEventsTail(b, cursor))
}

func (s *seat) close(code int, reason string) {
	s.ws.Close(websocket.StatusCode(code), reason)
}

// wait serves pings until the client goes, and returns its close code.
func (s *seat) wait() int {
	for {
		_, _, err := s.ws.Read(context.Background())
		if err != nil {
			return int(websocket.CloseStatus(err))
		}
	}
}

// follower runs a Client and remembers what it is told.
type follower struct {
	*Client
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	ids    []string
	events []Event
	states []State
}

// follow runs a client of g until the test ends. The zero cfg works.
func follow(g *gateway, cfg Config) *follower { return followWith(g, cfg, nil) }

func followWith(g *gateway, cfg Config, on func(Event) error) *follower {
	f := &follower{done: make(chan error, 1)}
	cfg.URL = "gateway.test"
	cfg.SubscriberID = "user_1"
	cfg.HTTPClient = g.httpClient()
	cfg.OnState = func(s State) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.states = append(f.states, s)
	}
	c, err := New(cfg, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	f.Client = c
	f.start(on)
	g.t.Cleanup(func() { f.cancel() })
	return f
}

func (f *follower) start(on func(Event) error) {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	go func() {
		f.done <- f.Run(ctx, func(e Event) error {
			if on != nil {
				if err := on(e); err != nil {
					return err
				}
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.ids = append(f.ids, e.ID.String())
			f.events = append(f.events, e)
			return nil
		})
	}()
}

// stop ends Run and returns its error.
func (f *follower) stop() error {
	f.cancel()
	return <-f.done
}

func (f *follower) got() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ids)
}

func (f *follower) told() []State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.states)
}

func (f *follower) statuses() []Status {
	var all []Status
	for _, s := range f.told() {
		all = append(all, s.Status)
	}
	return all
}

func wantEqual[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// refuse returns a handler that answers with status, Retry-After and body.
func refuse(status int, retryAfter, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

var errHandler = errors.New("disk full")

func big(n int) []byte {
	return []byte(`{"n":"` + string(bytes.Repeat([]byte("x"), n)) + `"}`)
}
