package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/api"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/store"
)

// TestPostgresComesLate starts without PostgreSQL, and goes on when it is there.
func TestPostgresComesLate(t *testing.T) {
	dsn, err := url.Parse(testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	target := dsn.Host
	dsn.Host = testenv.Addr(t)
	db, err := store.NewPostgres(dsn.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	s := start(t, api.Config{}, db)

	const path = "/filters/01890a5d-ac96-774b-bcce-b302099a8057"
	for _, tt := range []struct{ method, path string }{
		{"POST", "/filters"}, {"GET", "/filters"}, {"GET", path}, {"PUT", path}, {"DELETE", path},
	} {
		wantUnavailable(t, tt.method+" "+tt.path, s.do(tt.method, tt.path, adas))
	}
	want(t, "GET /livez", s.do("GET", "/livez", "").status, 200)
	for _, probe := range []string{"/readyz", "/health"} {
		a := s.do("GET", probe, "")
		want(t, "GET "+probe, a.status, 503)
		if !strings.Contains(a.body, `"postgres":"filters can't be read since 20`) || !strings.Contains(a.body, `"postgres_writes":"filters can't be written since 20`) || !strings.Contains(a.body, `"redis":"ok"`) {
			t.Errorf("GET %s: %s", probe, a.body)
		}
		if strings.Contains(a.body, dsn.Host) || strings.Contains(a.body, dsn.User.Username()) {
			t.Errorf("GET %s tells of our insides: %s", probe, a.body)
		}
	}
	if n := strings.Count(s.log.String(), "level=WARN"); n != 2 {
		t.Errorf("%d warnings for one outage of reads and of writes, want 2:\n%s", n, s.log)
	}

	forward(t, dsn.Host, target)
	a := s.do("GET", "/readyz", "") // there, but without tables
	want(t, "GET /readyz before Migrate", a.status, 503)
	wantUnavailable(t, "GET /filters before Migrate", s.do("GET", "/filters", ""))
	testenv.Eventually(t, 30*time.Second, func() error { return db.Migrate(t.Context()) }) // it is tried every half second
	testenv.Eventually(t, 30*time.Second, func() error {                                   // what was found is kept for a second
		const ok = `{"status":"ok","checks":{"postgres":"ok","postgres_writes":"ok","redis":"ok","redis_writes":"ok"}}` + "\n"
		if body := s.do("GET", "/readyz", "").body; body != ok {
			return fmt.Errorf("GET /readyz: %s, want %s", body, ok)
		}
		return nil
	})
	made, _ := s.create(adas)
	want(t, "GET "+made, s.do("GET", made, "").status, 200)
	s.wantLogged("filter store is back", 1)
	s.wantLogged("filter store takes writes again", 1)
}

// TestPostgresHangs has a server that accepts connections and says nothing.
func TestPostgresHangs(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	db, err := store.NewPostgres("postgres://ada@" + silent.Addr().String() + "/db?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := start(t, api.Config{StoreTimeout: 50 * time.Millisecond}, db)
	began := time.Now()
	wantUnavailable(t, "POST", s.do("POST", "/filters", adas))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the answer took %v with a deadline of 50ms", took)
	}
}

func wantUnavailable(t *testing.T, what string, a answer) {
	t.Helper()
	if a.status != 503 || a.header.Get("Retry-After") != "2" || !strings.Contains(a.body, `"urn:eventstream:problem:store-unavailable"`) {
		t.Errorf("%s: %d, Retry-After %q, %s; want 503, 2, store-unavailable", what, a.status, a.header.Get("Retry-After"), a.body)
	}
}

// forward makes what listens on target listen on addr as well.
func forward(t *testing.T, addr, target string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			down, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", target)
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() { io.Copy(up, down); up.Close() })
			wg.Go(func() { io.Copy(down, up); down.Close() })
		}
	})
	t.Cleanup(func() { ln.Close() }) // the connections end with the store's pool, which was there before
}

func TestReadiness(t *testing.T) {
	p := &publisher{}
	s := startWith(t, api.Config{}, &store.Memory{}, p)
	ready := func(what string, status int) {
		t.Helper()
		testenv.Eventually(t, 10*time.Second, func() error { // it is asked once a second at most
			a := s.do("GET", "/readyz", "")
			if down := strings.Contains(a.body, `"redis":"Redis doesn't answer since 20`); a.status != status || down != (status == 503) {
				return fmt.Errorf("GET /readyz %s: %d %s", what, a.status, a.body)
			}
			return nil
		})
	}
	ready("at first", 200)
	p.failPing(errors.New("no answer"))
	ready("when Redis doesn't answer", 503)
	p.failPing(nil)
	ready("when it does again", 200)
	p.fail(errors.New("out of memory"))
	for range 3 {
		want(t, "a write of which nobody can be told", s.do("POST", "/filters", adas).status, 202)
	}
	a := s.do("GET", "/readyz", "")
	if a.status != 200 || !strings.Contains(a.body, `"status":"degraded"`) || !strings.Contains(a.body, `"redis_writes":"the filter service can't be told of changes since 20`) {
		t.Errorf("when Redis answers, but takes nothing: %d %s", a.status, a.body)
	}
	p.fail(nil)
	testenv.Eventually(t, 30*time.Second, func() error { // nobody has to write for it
		if a := s.do("GET", "/readyz", ""); !strings.Contains(a.body, `"status":"ok"`) {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
	s.wantLogged("filter service can't be told of changes", 1)
	s.wantLogged("filter service can be told of changes again", 1)
}

// wantLogged tells how often something stands in the log, and how often it is to.
func (s *service) wantLogged(text string, times int) {
	s.t.Helper()
	if n := strings.Count(s.log.String(), text); n != times {
		s.t.Errorf("%q is %d times in the log, want %d:\n%s", text, n, times, s.log)
	}
}

// buggy is a Store with our own bugs.
type buggy struct{ store.Memory }

func (*buggy) Get(context.Context, filter.ID) (filter.Filter, error) { panic("a bug") }

func (*buggy) List(context.Context, string, filter.ID, int) ([]filter.Filter, error) {
	return nil, errors.New("secret insides")
}

func TestOurOwnFault(t *testing.T) {
	s := start(t, api.Config{}, &buggy{})
	path, _ := s.create(adas)
	for _, p := range []string{path, "/filters"} {
		a := s.do("GET", p, "", "X-Request-Id", "me")
		want(t, "GET "+p, a.status, 500)
		want(t, "Content-Type", a.header.Get("Content-Type"), "application/problem+json")
		want(t, "X-Request-Id", a.header.Get("X-Request-Id"), "me")
		want(t, "body", a.body, `{"type":"urn:eventstream:problem:internal","title":"We made a mistake","status":500,"instance":"`+p+`"}`+"\n")
	}
	for _, said := range []string{"handler panicked", "a bug", "api_test.(*buggy).Get", "request failed", "secret insides"} {
		if !strings.Contains(s.log.String(), said) {
			t.Errorf("log lacks %q:\n%s", said, s.log)
		}
	}
	want(t, "the process lives", s.do("GET", "/livez", "").status, 200)
	if got := s.do("GET", "/metrics", "").body; !strings.Contains(got, `{route="GET /filters/{id}",status="500"} 1`) || !strings.Contains(got, "panics_total 1") {
		t.Errorf("metrics lack the panic:\n%s", got)
	}
}

// held is a Store whose Create waits, in spite of its context.
type held struct {
	store.Memory
	entered, release chan struct{}
}

func (h *held) Create(ctx context.Context, s filter.Spec) (filter.Filter, error) {
	close(h.entered)
	<-h.release
	if err := ctx.Err(); err != nil {
		return filter.Filter{}, err
	}
	return h.Memory.Create(ctx, s)
}

// TestStopFinishesRequests: a request under way is answered, a new one refused.
func TestStopFinishesRequests(t *testing.T) {
	h := &held{entered: make(chan struct{}), release: make(chan struct{})}
	s := start(t, api.Config{}, h)
	status := make(chan int, 1)
	go func() { status <- s.do("POST", "/filters", adas).status }()
	<-h.entered
	s.stop()
	testenv.Eventually(t, 5*time.Second, func() error {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			return nil
		}
		conn.Close()
		return errors.New("new connections are accepted")
	})
	select {
	case err := <-s.stopped:
		t.Fatalf("Run = %v before its request was answered", err)
	default:
	}
	close(h.release)
	want(t, "status of the request under way", <-status, 201)
	if err := <-s.stopped; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestStopGivesUp(t *testing.T) {
	h := &held{entered: make(chan struct{}), release: make(chan struct{})}
	s := start(t, api.Config{StopTimeout: 20 * time.Millisecond}, h)
	var client sync.WaitGroup
	client.Go(func() {
		resp, err := http.Post(s.url+"/filters", "application/json", strings.NewReader(adas))
		if err == nil {
			resp.Body.Close()
		}
	})
	<-h.entered
	s.stop()
	err := <-s.stopped
	if err == nil || err.Error() != "stop the API: requests still under way after 20ms" {
		t.Errorf("Run = %v", err)
	}
	close(h.release)
	client.Wait()
}

func TestRunEndsAtOnce(t *testing.T) {
	newServer := func() *api.Server {
		return api.New(api.Config{}, &store.Memory{}, &publisher{}, lane.NewMemory(), nil, prometheus.NewRegistry(), discard)
	}
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	t.Run("with an ended context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := newServer().Run(ctx, listen()); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Run("with a closed listener", func(t *testing.T) {
		ln := listen()
		ln.Close()
		err := newServer().Run(t.Context(), ln)
		want(t, "Run", fmt.Sprint(err), "serve the API on "+ln.Addr().String()+": listener was closed")
	})
}
