// Package ops is what every process shows its operators: health, metrics, logs,
// profiles, and clear words about where it listens.
package ops

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check tells whether something works: nil, or what is wrong with it.
type Check struct {
	Name string
	Do   func(ctx context.Context) error
}

// checkTimeout bounds one round of checks.
const checkTimeout = 3 * time.Second

// Handle adds the pages that each service has to mux:
//
//	/livez    200 while the process runs
//	/readyz   200 if all checks pass, else 503; each check with its reason
//	/health   the same as /readyz
//	/metrics  Prometheus metrics
func Handle(mux *http.ServeMux, metrics prometheus.Gatherer, checks ...Check) {
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	ready := func(w http.ResponseWriter, r *http.Request) { writeChecks(w, r, checks) }
	mux.HandleFunc("GET /readyz", ready)
	mux.HandleFunc("GET /health", ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
}

// HandleStrangers adds what those may see that nobody has let in: /livez, and
// /readyz and /health without reasons, which name our servers.
func HandleStrangers(mux *http.ServeMux, checks ...Check) {
	inside := http.NewServeMux()
	Handle(inside, prometheus.NewRegistry(), checks...)
	mux.Handle("GET /livez", inside)
	ready := func(w http.ResponseWriter, r *http.Request) {
		answer := &statusOnly{header: make(http.Header)}
		inside.ServeHTTP(answer, r)
		status := "ok"
		if answer.code != http.StatusOK {
			status = "unavailable"
		}
		writeJSON(w, answer.code, map[string]string{"status": status})
	}
	mux.HandleFunc("GET /readyz", ready)
	mux.HandleFunc("GET /health", ready)
}

// statusOnly takes an answer for its status.
type statusOnly struct {
	header http.Header
	code   int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) WriteHeader(code int)        { s.code = code }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

func writeChecks(w http.ResponseWriter, r *http.Request, checks []Check) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	status, code := "ok", http.StatusOK
	results := make(map[string]string, len(checks))
	for _, c := range checks {
		results[c.Name] = "ok"
		if err := c.Do(ctx); err != nil {
			results[c.Name] = err.Error()
			status, code = "unavailable", http.StatusServiceUnavailable
		}
	}
	writeJSON(w, code, map[string]any{"status": status, "checks": results})
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(body)
}

// Limits of what a stranger may send. The zero value works.
type Limits struct {
	HeaderTimeout  time.Duration // for all of a request's head; 5s if zero
	MaxHeaderBytes int           // of a request's head, about; 64 KiB if zero: a cursor of very many partitions is part of it
}

// Serve serves h on ln until ctx ends, and then lets requests under way finish
// for a moment. Connections that were hijacked are none of its business.
func Serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	return ServeWithin(ctx, ln, h, Limits{})
}

// ServeWithin is Serve with limits of one's own.
func ServeWithin(ctx context.Context, ln net.Listener, h http.Handler, l Limits) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: cmp.Or(l.HeaderTimeout, 5*time.Second),
		IdleTimeout:       10 * time.Second,
		MaxHeaderBytes:    cmp.Or(l.MaxHeaderBytes, 64<<10) - headerSlack,
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- srv.Shutdown(grace)
	}()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	return nil
}

// headerSlack is what net/http takes beyond MaxHeaderBytes.
const headerSlack = 4 << 10

// Admin returns what only operators may reach: profiles.
func Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
