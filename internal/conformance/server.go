package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Server plays cases. It is an http.Handler; its http.Server needs ConnContext of the package.
type Server struct {
	cases []Case
	mux   *http.ServeMux

	mu   sync.Mutex
	runs map[string]*run // by case and name
}

// New returns a Server of all cases.
func New() (*Server, error) {
	cases, err := Cases()
	if err != nil {
		return nil, err
	}
	s := &Server{cases: cases, mux: http.NewServeMux(), runs: make(map[string]*run)}
	s.mux.HandleFunc("GET /cases", s.list)
	s.mux.HandleFunc("GET /{case}/{run}/{transport}", s.play)
	s.mux.HandleFunc("POST /{case}/{run}/result", s.result)
	return s, nil
}

// ServeHTTP serves pages of other origins, too: a browser's test is one.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Headers", "Authorization, Last-Event-ID, Cache-Control, Content-Type")
	if r.Method == http.MethodOptions {
		return
	}
	s.mux.ServeHTTP(w, r)
}

type connKey struct{}

// ConnContext keeps a connection, so that it can be cut off.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// run is one client's way through a case.
type run struct {
	of *Case

	mu       sync.Mutex
	began    time.Time // of the first connection
	last     time.Time // of the newest one
	ended    time.Time // of the connection before
	tried    int
	open     []chan struct{} // of connections; closed when they end
	lastID   string          // of the newest message of a stream
	problems []string
}

func (r *run) wrong(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if problem := fmt.Sprintf(format, args...); !slices.Contains(r.problems, problem) {
		r.problems = append(r.problems, problem)
	}
}

func (s *Server) find(name, id string) (*run, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.cases, func(c Case) bool { return c.Name == name })
	if i < 0 {
		return nil, false
	}
	key := name + "/" + id
	if s.runs[key] == nil {
		s.runs[key] = &run{of: &s.cases[i]}
	}
	return s.runs[key], true
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(s.cases)
}

// play plays the next connection of a run.
func (s *Server) play(w http.ResponseWriter, req *http.Request) {
	transport := req.PathValue("transport")
	r, ok := s.find(req.PathValue("case"), req.PathValue("run"))
	if !ok || transport != "ws" && transport != "sse" {
		http.NotFound(w, req)
		return
	}
	c, n, end := r.begin()
	defer end()
	r.check(n, &c, req)
	if i := slices.IndexFunc(c.Steps, func(s Step) bool { return s.Answer != nil }); i >= 0 {
		refuse(w, req, transport, *c.Steps[i].Answer)
		return
	}
	if c.Steps[0].Drop {
		drop(req)
		return
	}
	if transport == "ws" {
		playSocket(w, req, r, c.Steps)
	} else {
		playStream(w, req, r, c.Steps)
	}
}

// lateEnd is how long the end of a connection may take to be noticed.
const lateEnd = time.Second

func (r *run) begin() (c Connection, n int, end func()) {
	now, over := time.Now(), make(chan struct{})
	r.mu.Lock()
	before := r.open
	r.open = append(slices.Clone(before), over)
	r.mu.Unlock()
	late := time.After(lateEnd)
	both := false
	for _, o := range before {
		select {
		case <-o:
		case <-late:
			both = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tried == 0 {
		r.began = now
	}
	r.last = now
	c = r.of.Connections[min(r.tried, len(r.of.Connections)-1)]
	r.tried++
	if both {
		r.problems = append(r.problems, fmt.Sprintf("connection %d began while another one was open", r.tried))
	}
	if wait := now.Sub(r.ended).Milliseconds(); !r.ended.IsZero() && wait < int64(c.After) {
		r.problems = append(r.problems, fmt.Sprintf("connection %d began %d ms after the one before; want %d at least", r.tried, wait, c.After))
	}
	return c, r.tried, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended = time.Now()
		close(over)
		r.open = slices.DeleteFunc(r.open, func(o chan struct{}) bool { return o == over })
	}
}

// check looks at what a connection asks for.
func (r *run) check(n int, c *Connection, req *http.Request) {
	got := req.URL.Query()
	byID := r.resumesByID(req, got)
	for name, want := range c.Query {
		switch value, text := got.Get(name), textOf(want); {
		case byID:
		case text == "*" && value == "":
			r.wrong("connection %d: query parameter %s is missing", n, name)
		case text != "*" && value != text:
			r.wrong("connection %d: query parameter %s is %.60q; want %.60q", n, name, value, text)
		}
	}
	if token := tokenOf(req, got); c.Token != "" && token != c.Token {
		r.wrong("connection %d: the token is %.60q; want %q", n, token, c.Token)
	}
}

// resumesByID tells that a client of streams goes on from the newest id that it got, which
// stands for the cursor and what came since. It may also say both, as over a WebSocket.
func (r *run) resumesByID(req *http.Request, q url.Values) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := req.Header.Get("Last-Event-ID")
	if last == "" {
		last = q.Get("cursor")
	}
	return req.PathValue("transport") == "sse" && last != "" && last == r.lastID
}

func tokenOf(req *http.Request, q url.Values) string {
	if token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); ok {
		return token
	}
	for _, p := range strings.Split(req.Header.Get("Sec-WebSocket-Protocol"), ",") {
		if token, ok := strings.CutPrefix(strings.TrimSpace(p), "bearer."); ok {
			return token
		}
	}
	return q.Get("token")
}

// Verdict is the answer to a Result.
type Verdict struct {
	OK       bool     `json:"ok"`
	Problems []string `json:"problems,omitempty"`
}

func (s *Server) result(w http.ResponseWriter, req *http.Request) {
	r, ok := s.find(req.PathValue("case"), req.PathValue("run"))
	if !ok {
		http.NotFound(w, req)
		return
	}
	var got Result
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 1<<20)).Decode(&got); err != nil {
		http.Error(w, `want {"events":["0-1"],"gaps":["trimmed"],"error":""}: `+err.Error(), http.StatusBadRequest)
		return
	}
	v := r.judge(got)
	w.Header().Set("Content-Type", "application/json")
	if !v.OK {
		w.WriteHeader(http.StatusUnprocessableEntity)
	}
	json.NewEncoder(w).Encode(v)
}

func (r *run) judge(got Result) Verdict {
	want := r.of.Want
	if !slices.Equal(got.Events, want.Events) {
		r.wrong("events are %q; want %q", got.Events, want.Events)
	}
	if !slices.Equal(got.Gaps, want.Gaps) {
		r.wrong("gaps are %q; want %q", got.Gaps, want.Gaps)
	}
	if got.Error != want.Error {
		r.wrong("the client ended with %q; want %q", got.Error, want.Error)
	}
	r.mu.Lock()
	tried, took := r.tried, r.last.Sub(r.began).Milliseconds()
	r.mu.Unlock()
	if least := len(r.of.Connections); tried < least {
		r.wrong("%d connections were tried; want %d at least", tried, least)
	}
	if want.Connections > 0 && tried > want.Connections {
		r.wrong("%d connections were tried; want %d at most", tried, want.Connections)
	}
	if took < int64(want.LeastMs) {
		r.wrong("all connections were tried within %d ms; want %d at least", took, want.LeastMs)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return Verdict{OK: len(r.problems) == 0, Problems: slices.Clone(r.problems)}
}

// refuse answers as a gateway does: a client of streams that is to come back gets a stream.
func refuse(w http.ResponseWriter, req *http.Request, transport string, a Answer) {
	body := fmt.Sprintf(`{"type":"urn:eventstream:problem:test","title":%q,"status":%d,"detail":"as the case says"}`, http.StatusText(a.Status), a.Status)
	if transport == "sse" && a.RetryAfter > 0 && strings.Contains(req.Header.Get("Accept"), "text/event-stream") {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "retry: %d\nevent: error\ndata: {\"type\":\"error\",\"code\":\"unavailable\",\"message\":\"as the case says\"}\n\n", 1000*a.RetryAfter)
		return
	}
	if a.RetryAfter > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(a.RetryAfter))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Connection", "close")
	w.WriteHeader(a.Status)
	fmt.Fprintln(w, body)
}

// drop cuts a connection off with a TCP reset.
func drop(req *http.Request) {
	c := req.Context().Value(connKey{}).(net.Conn)
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}
