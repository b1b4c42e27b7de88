package origin

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	hosts, err := ParseHosts([]string{"Events.example.org", "*.svc.example.org", "filter"})
	if err != nil {
		t.Fatal(err)
	}
	open := Rules{Open: true, Hosts: hosts, Origins: origins(t, "https://app.example.org", "http://a.example:80", "https://*.m.example", "https://p.example:8443")}
	asked := Rules{Origins: open.Origins} // who comes shows a token
	for _, tt := range []struct {
		host        string
		origin      string // several with a comma
		site        string
		open, asked error
	}{
		{"localhost", "", "", nil, nil},
		{"LOCALHOST:8001", "", "", nil, nil},
		{"127.0.0.1:8001", "", "", nil, nil},
		{"172.17.0.2", "", "", nil, nil},
		{"[::1]:8001", "", "", nil, nil},
		{"[fd00::1]", "", "", nil, nil},
		{"", "", "", nil, nil}, // HTTP/1.0
		{"events.example.org:443", "", "", nil, nil},
		{"a.svc.example.org", "", "", nil, nil},
		{"b.a.SVC.example.org:80", "", "", nil, nil},
		{"filter:8002", "", "", nil, nil},

		{"evil.example", "", "", ErrHost, nil},
		{"evil.example:8001", "http://evil.example:8001", "same-origin", ErrHost, nil},
		{"svc.example.org", "", "", ErrHost, nil},
		{".svc.example.org", "", "", ErrHost, nil},
		{"xsvc.example.org", "", "", ErrHost, nil},
		{"events.example.org.evil.example", "", "", ErrHost, nil},
		{"localhost.evil.example", "", "", ErrHost, nil},
		{"127.0.0.1.evil.example", "", "", ErrHost, nil},
		{"127.0.0.1@evil.example", "", "", ErrHost, nil},
		{"filter.", "", "", ErrHost, nil},
		{"2130706433", "", "", ErrHost, nil}, // browsers write it out as 127.0.0.1
		{"evil.example", "https://app.example.org", "cross-site", ErrHost, nil},

		{"localhost:8001", "http://localhost:8001", "", nil, nil},
		{"localhost:8001", "http://localhost:8001", "same-origin", nil, nil},
		{"localhost:8001", "http://localhost:3000", "same-site", ErrOrigin, ErrOrigin},
		{"localhost:8001", "https://app.example.org", "", nil, nil},
		{"localhost:8001", "https://app.example.org", "cross-site", nil, nil},
		{"localhost:8001", "https://evil.example", "", ErrOrigin, ErrOrigin},
		{"localhost:8001", "null", "", ErrOrigin, ErrOrigin},
		{"localhost:8001", "http://localhost:8001,https://evil.example", "", ErrOrigin, ErrOrigin},
		{"localhost:8001", "https://app.example.org,https://app.example.org", "", ErrOrigin, ErrOrigin},
		{"localhost:8001", "http://localhost:8001.evil.example", "", ErrOrigin, ErrOrigin},

		{"localhost:8001", "https://app.example.org:443", "", nil, nil}, // a browser would leave it out
		{"localhost:8001", "http://a.example", "", nil, nil},
		{"localhost:8001", "https://a.example", "", ErrOrigin, ErrOrigin},
		{"localhost:8001", "https://x.m.example", "", nil, nil},
		{"localhost:8001", "https://y.x.M.example", "", nil, nil},
		{"localhost:8001", "https://m.example", "", ErrOrigin, ErrOrigin},
		{"localhost:8001", "https://.m.example", "", ErrOrigin, ErrOrigin},
		{"localhost:8001", "https://*.m.example", "", ErrOrigin, ErrOrigin},
		{"localhost:8001", "https://x.m.example.evil.example", "", ErrOrigin, ErrOrigin},
		{"localhost:8001", "https://xm.example", "", ErrOrigin, ErrOrigin},
		{"localhost:8001", "https://x.m.example:8443", "", ErrOrigin, ErrOrigin},
		{"localhost:8001", "http://x.m.example", "", ErrOrigin, ErrOrigin},
		{"localhost:8001", "https://p.example:8443", "", nil, nil},
		{"localhost:8001", "https://p.example", "", ErrOrigin, ErrOrigin},
		{"localhost:80", "http://localhost", "", nil, nil},
		{"localhost", "http://localhost:80", "", nil, nil},
		{"localhost", "https://localhost", "", nil, nil}, // behind a proxy that ends TLS
		{"localhost:443", "https://localhost", "", nil, nil},
		{"localhost:443", "http://localhost", "", ErrOrigin, ErrOrigin},
		{"[::1]:80", "http://[::1]", "", nil, nil},
		{"localhost", "http://localhost/", "", ErrOrigin, ErrOrigin},
		{"localhost", "http://user@localhost", "", ErrOrigin, ErrOrigin},
		{"localhost", "localhost", "", ErrOrigin, ErrOrigin},

		{"localhost:8001", "", "none", nil, nil},
		{"localhost:8001", "", "same-origin", nil, nil},
		{"localhost:8001", "", "same-site", ErrOrigin, ErrOrigin},
		{"localhost:8001", "", "cross-site", ErrOrigin, ErrOrigin},
		{"localhost:8001", "", "none,cross-site", ErrOrigin, ErrOrigin},
		{"localhost:8001", "", "Nonsense", ErrOrigin, ErrOrigin},
		{"localhost:8001", "http://localhost:8001", "cross-site", ErrOrigin, ErrOrigin},
	} {
		q := Request{Host: tt.host, Origins: lines(tt.origin), Sites: lines(tt.site)}
		if err := open.Check(q); !errors.Is(err, tt.open) || err != nil && tt.open == nil {
			t.Errorf("%+v, nobody asked: %v, want %v", q, err, tt.open)
		}
		if err := asked.Check(q); !errors.Is(err, tt.asked) || err != nil && tt.asked == nil {
			t.Errorf("%+v, tokens asked for: %v, want %v", q, err, tt.asked)
		}
	}
}

func origins(t *testing.T, list ...string) Origins {
	t.Helper()
	o, err := ParseOrigins(list)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestParseOrigins(t *testing.T) {
	for _, good := range []string{"*", "https://a", " https://A.example:443 ", "http://[::1]:3000", "http://10.0.0.1", "capacitor://localhost", "chrome-extension://abcdef", "https://*.a.example:8443"} {
		if _, err := ParseOrigins([]string{good}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "null", "app.example.org", "https://", "https://a/", "https://a/b", "https://a?b", "https://a#b", "https://u@a", "https://a b",
		"https://ä.example", "https://*", "https://*.", "https://*.*.a", "https://a.*.b", "https://x*.a", "https://a:", "https://a:x", "//a", "://a", "https:a", "https://a,https://b",
	} {
		if _, err := ParseOrigins([]string{"https://good", bad}); err == nil || !strings.Contains(err.Error(), "want scheme://host") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A page that only "*" lets in may send no credentials.
func TestNamed(t *testing.T) {
	r := Rules{Origins: origins(t, "*", "https://app.example.org")}
	for from, want := range map[string]bool{"https://app.example.org": true, "http://events": true, "https://evil.example": false, "null": false, "": false} {
		if q := (Request{Host: "events", Origins: lines(from)}); r.Check(q) != nil || r.Named(q) != want {
			t.Errorf("%q: %v, named %t, want %t", from, r.Check(q), r.Named(q), want)
		}
	}
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func TestParseHosts(t *testing.T) {
	for _, bad := range []string{"", " ", "*", "*.", "a:80", "http://a", "a b", "*.*.a", "a/b", ".a", "*..a", "ä.example", "[::1]", strings.Repeat("a", 300)} {
		if h, err := ParseHosts([]string{"good", bad}); err == nil || !strings.Contains(err.Error(), "want a name without a port") {
			t.Errorf("%q: %q, %v", bad, h, err)
		}
	}
}

// What http.CrossOriginProtection refuses, these rules refuse.
func TestAsStrictAsStandard(t *testing.T) {
	pick := func(list ...string) string { return list[rand.N(len(list))] }
	var std http.CrossOriginProtection
	if err := std.AddTrustedOrigin("https://app.example.org"); err != nil {
		t.Fatal(err)
	}
	for _, r := range []Rules{{Origins: origins(t, "https://app.example.org")}, {Open: true, Origins: origins(t, "https://app.example.org")}} {
		refused := 0
		for range 20_000 {
			req := httptest.NewRequest(pick("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "QUERY"), "/", nil)
			req.Host = pick("localhost", "localhost:8001", "127.0.0.1", "evil.example")
			for range rand.N(3) {
				req.Header.Add("Origin", pick("", "null", "http://localhost", "http://localhost:8001", "https://app.example.org", "http://evil.example", "%"))
			}
			for range rand.N(3) {
				req.Header.Add("Sec-Fetch-Site", pick("", "none", "same-origin", "same-site", "cross-site", "x"))
			}
			if std.Check(req) != nil {
				refused++
				if r.Check(Of(req)) == nil {
					t.Fatalf("%s, host %s, %v passes", req.Method, req.Host, req.Header)
				}
			}
		}
		if refused == 0 {
			t.Error("the standard refused nothing: this shows nothing")
		}
	}
}

func TestHandler(t *testing.T) {
	h := Sealed(Rules{Open: true}.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{}")) })))
	for host, want := range map[string]int{"localhost": 200, "evil.example": 403} {
		req := httptest.NewRequest("GET", "/", nil)
		req.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != want || w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Content-Security-Policy") != Policy {
			t.Errorf("%s: %d %v %s, want %d", host, w.Code, w.Header(), w.Body, want)
		}
		if want == 403 && !strings.Contains(w.Body.String(), "--hosts") {
			t.Errorf("%s: %s does not say what is allowed", host, w.Body)
		}
	}
}
