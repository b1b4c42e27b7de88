// Package ops is what every process offers its operators: health, metrics, logs and
// profiles; and the protection of its listeners.
package ops

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handle adds the pages of every service to mux:
//
//	/livez    200, or 503 if alive returns an error: the process is stuck and must be killed
//	/readyz   200 if all checks pass, or are degraded, else 503; each check with its reason
//	/health   the same as /readyz
//	/metrics  Prometheus metrics; only a few scrapes run at once
func Handle(mux *http.ServeMux, metrics prometheus.Gatherer, alive func() error, checks ...Check) {
	mux.HandleFunc("GET /livez", tellLive(alive))
	kept := Keep(checks...)
	ready := func(w http.ResponseWriter, _ *http.Request) { writeChecks(w, kept.Ask()) }
	mux.HandleFunc("GET /readyz", ready)
	mux.HandleFunc("GET /health", ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
}

// maxScrapes bounds how many scrapes run at once: each gathers all metrics, and may
// wait for a slow reader. Others are answered 503.
const maxScrapes = 4

func writeChecks(w http.ResponseWriter, answers []Answer) {
	status, code := Verdict(answers)
	results := make(map[string]string, len(answers))
	for _, a := range answers {
		results[a.Name] = "ok"
		if a.Err != nil {
			results[a.Name] = a.Err.Error()
		}
	}
	writeJSON(w, code, map[string]any{"status": status, "checks": results})
}

// HandleStrangers adds the pages for unauthenticated users: /livez, and /readyz and
// /health without reasons, which name our servers.
func HandleStrangers(mux *http.ServeMux, alive func() error, checks ...Check) {
	mux.HandleFunc("GET /livez", tellLive(alive))
	kept := Keep(checks...)
	ready := func(w http.ResponseWriter, _ *http.Request) {
		status, code := Verdict(kept.Ask())
		writeJSON(w, code, map[string]string{"status": status})
	}
	mux.HandleFunc("GET /readyz", ready)
	mux.HandleFunc("GET /health", ready)
}

func tellLive(alive func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := alive(); err != nil {
			writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "stuck", "reason": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	}
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(body)
}

// AdminLimits are the limits of Admin. Long profiles extend the time for
// their answers themselves.
var AdminLimits = Limits{Body: func(r *http.Request) bool { return r.URL.Path == "/debug/pprof/symbol" }}

// Admin returns the pages that only operators may reach: profiles.
func Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
