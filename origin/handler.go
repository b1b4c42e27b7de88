package origin

import "net/http"

// Policy is the Content-Security-Policy of all that we show: it loads nothing, and
// no page can put it in a frame.
const Policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

// Handler passes to h only what the rules let through.
func (r Rules) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := r.Check(Of(req)); err != nil {
			w.Header().Set("Connection", "close") // a body is not waited for
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, req)
	})
}

// Sealed has a browser take h's answers for what they are said to be, and show them
// in no frame.
func Sealed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", Policy)
		h.ServeHTTP(w, req)
	})
}
