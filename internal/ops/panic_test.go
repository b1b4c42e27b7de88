package ops

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// A handler that panics is answered 500, unless its answer has begun: that is cut off.
func TestPanicIsAnswered(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/before", func(http.ResponseWriter, *http.Request) { panic("oops") })
	mux.HandleFunc("/after", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		panic("too late")
	})
	mux.HandleFunc("/hijacked", func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
		panic("after the hijack")
	})
	mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	s := serve(t, mux, Limits{}, false)
	for _, tt := range []struct {
		path, status, body string // "" for none
		logged             bool
	}{
		{"/before", "500 Internal Server Error", "we made a mistake", true},
		{"/after", "200 OK", "", true},
		{"/hijacked", "200 OK", "hi", true},
		{"/abort", "", "", false},
	} {
		before := s.counted(t, "http_errors_total")
		resp, err := http.Get("http://" + s.addr + tt.path)
		if tt.status == "" {
			if err == nil {
				t.Errorf("%s: answered %s, want a connection that is cut", tt.path, resp.Status)
			}
		} else if err != nil || resp.Status != tt.status {
			t.Errorf("%s: answered %v, %v, want %s", tt.path, resp, err, tt.status)
		} else {
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if whole := tt.body != ""; (err == nil) != whole || !strings.Contains(string(body), tt.body) {
				t.Errorf("%s: body %q, %v", tt.path, body, err)
			}
		}
		testenv.Eventually(t, 10*time.Second, func() error { // the client may be faster
			if got := s.counted(t, "http_errors_total") - before; (got == 1) != tt.logged {
				return fmt.Errorf("%s: %d panics are counted", tt.path, got)
			}
			return nil
		})
	}
	if log := s.log.String(); !strings.Contains(log, "oops") || !strings.Contains(log, "panic_test.go") || !strings.Contains(log, "too late") {
		t.Errorf("the log lacks a panic or its stack: %s", log)
	}
}
