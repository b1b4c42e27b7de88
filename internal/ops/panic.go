package ops

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
)

// recovered answers 500 if h panics. net/http would close the connection without an answer.
// The panic is counted, and logged with its stack. If the answer has begun, it is cut off.
func recovered(h http.Handler, errs *sampler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		noted := &noting{ResponseWriter: w}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { // a handler cuts an answer off on purpose
				panic(p)
			}
			errs.add("panic", slog.LevelError, fmt.Sprintf("panic serving %s: %v\n%s", r.URL.Path, p, debug.Stack()))
			if noted.begun {
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusInternalServerError)
			w.Write([]byte(ourMistake))
		}()
		h.ServeHTTP(noted, r)
	})
}

const ourMistake = `{"type":"urn:eventstream:problem:internal","title":"Internal Server Error","status":500,"detail":"we made a mistake; the log has it"}` + "\n"

// noting records whether an answer has begun.
type noting struct {
	http.ResponseWriter
	begun bool
}

// Unwrap is for http.ResponseController.
func (n *noting) Unwrap() http.ResponseWriter { return n.ResponseWriter }

func (n *noting) WriteHeader(code int) {
	n.begun = n.begun || code >= 200
	n.ResponseWriter.WriteHeader(code)
}

func (n *noting) Write(b []byte) (int, error) {
	n.begun = true
	return n.ResponseWriter.Write(b)
}

// Hijack is for http.ResponseController: after it, no error can be answered.
func (n *noting) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	n.begun = true
	return http.NewResponseController(n.ResponseWriter).Hijack()
}
