package replay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

func TestSecrets(t *testing.T) {
	a, b := strings.Repeat("a", 32), strings.Repeat("b", 40)
	for _, tt := range []struct{ server, client, shown, want string }{
		{"", "", "", ""},
		{"", a, "Bearer " + a, ""},
		{a, a, "Bearer " + a, ""},
		{b + ", " + a, a, "Bearer " + a, ""},
		{a, b + "," + a, "Bearer " + b, ErrDenied.Error()}, // who asks has the new one before the service has
		{a, "", "", ErrDenied.Error()},
	} {
		served, err := ParseSecrets(tt.server)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := ParseSecrets(tt.client)
		if err != nil {
			t.Fatal(err)
		}
		h := Handler(func(_ context.Context, _ Request, w *Writer) error {
			return errors.Join(w.Begin(nil, nil, nil), w.End())
		}, served, testenv.Log(t))
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Authorization"); got != tt.shown {
				t.Errorf("%q shows %q, want %q", tt.client, got, tt.shown)
			}
			h.ServeHTTP(w, r)
		}))
		c, err := NewClient([]string{srv.URL}, shown, testenv.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Open(t.Context(), Request{Subscriber: "ann", From: []int64{1}})
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q asked with %q: %v, want %q", tt.server, tt.client, err, tt.want)
		}
		if err == nil {
			if all, err := drain(s); len(all) > 0 || err != io.EOF {
				t.Errorf("got %v %v", all, err)
			}
		}
		c.http.CloseIdleConnections()
		srv.Close()
	}
	for bad, want := range map[string]string{
		"short":                            "secret 1 has 5 characters; want at least 32",
		a + ",":                            "secret 2 has 0 characters; want at least 32",
		a + "ä":                            "secret 1: allowed are printable ASCII characters without spaces and commas",
		strings.Repeat(a+",", 8) + a:       "9 secrets; at most 8 are allowed",
		strings.Repeat("a", 16) + "\t" + a: "secret 1: allowed are printable ASCII characters without spaces and commas",
	} {
		if _, err := ParseSecrets(bad); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", bad, err, want)
		}
	}
}

// Who does not know the secret is refused before anything of a body is read, and its
// connection is closed.
func TestStrangersBodiesAreNotRead(t *testing.T) {
	secrets, err := ParseSecrets(strings.Repeat("s", 32))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /replay", Handler(func(context.Context, Request, *Writer) error { return nil }, secrets, testenv.Log(t)))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	for _, body := range []string{"Content-Length: 1000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"} {
		nc, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(nc, "POST /replay HTTP/1.1\r\nHost: x\r\n"+body)
		answer, err := io.ReadAll(nc) // up to its end
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: the connection was not closed: %v", body, err)
		}
		if !strings.HasPrefix(string(answer), "HTTP/1.1 401 ") {
			t.Errorf("%q: answered %q", body, answer)
		}
	}
}
