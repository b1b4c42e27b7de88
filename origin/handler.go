package origin

import "net/http"

// Policy is the Content-Security-Policy of all our answers: they load nothing, and
// can't be put in a frame.
const Policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

// Handler passes to h only requests that the rules allow.
func (r Rules) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := r.Check(Of(req)); err != nil {
			w.Header().Set("Connection", "close") // don't wait for a body
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, req)
	})
}

// Sealed adds headers so that browsers don't sniff the type of h's answers, nor
// show them in frames.
func Sealed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", Policy)
		h.ServeHTTP(w, req)
	})
}
