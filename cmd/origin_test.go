package cmd_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// ownAddress returns an address of this machine that is not loopback: services on
// it meet requests as those in a container do.
func ownAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has only loopback addresses")
	return ""
}

// page is a request as the browser of a web page makes it.
func page(method, target, host string, lines ...string) string {
	head := method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n"
	return head + strings.Join(append(lines, "", ""), "\r\n")
}

// Services as in docker-compose.yml: nobody is asked who they are, and they listen
// on an address that is not loopback. No web page of others can use any of their
// ports, by whatever name it comes.
func TestPages(t *testing.T) {
	t.Parallel()
	ip := ownAddress(t)
	p := newPipeline(t)
	p.env = append(p.env, "EVENTSTREAM_INSECURE=true", "EVENTSTREAM_HOSTS=ours.example.org,*.svc.example.org")
	free := func() string {
		_, port, _ := net.SplitHostPort(testenv.Addr(t))
		return net.JoinHostPort(ip, port)
	}
	api, filter, gateway, pages, admin := free(), free(), free(), free(), testenv.Addr(t)
	many, manyPages := free(), free()
	p.start("filter", "--listen", filter)
	p.start("api", "--listen", api, "--filter-url", "http://"+filter)
	p.start("gateway", "--listen", gateway, "--filter-url", "http://"+filter, "--pages", pages, "--admin", admin)
	p.start("gateway", "--listen", many, "--filter-url", "http://"+filter, "--pages", manyPages, "--processes", "2")
	for _, addr := range []string{api, filter, gateway, manyPages} {
		testenv.Eventually(t, 60*time.Second, func() error { return get("http://" + addr + "/readyz") })
	}
	const spec = `{"subscriber_id":"user_1","event_types":["purchase"]}`
	post := []string{"Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(spec))}
	socket := []string{"Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	for _, tt := range []struct {
		addr, method, target string
		lines                []string
		body                 string
		good                 int // what it is answered where it may come
	}{
		{api, "POST", "/filters", post, spec, 201},
		{api, "GET", "/filters", nil, "", 200},
		{api, "GET", "/filters:export", nil, "", 200},
		{api, "DELETE", "/filters?subscriber_id=user_1", nil, "", 200},
		{api, "GET", "/metrics", nil, "", 200},
		{api, "GET", "/readyz", nil, "", 200},
		{api, "GET", "/docs", nil, "", 200},
		{filter, "POST", "/replay", []string{"Content-Length: 2"}, "{}", 400},
		{filter, "GET", "/metrics", nil, "", 200},
		{filter, "GET", "/readyz", nil, "", 200},
		{filter, "GET", "/replay", nil, "", 405},
		{gateway, "GET", "/sse?subscriber_id=user_1", nil, "", 200},
		{gateway, "GET", "/ws?subscriber_id=user_1", socket, "", 101},
		{gateway, "GET", "/metrics", nil, "", 200},
		{gateway, "GET", "/readyz", nil, "", 200},
		{gateway, "GET", "/", nil, "", 404},
		{pages, "GET", "/metrics", nil, "", 200},
		{admin, "GET", "/debug/pprof/cmdline", nil, "", 200},
		{many, "GET", "/ws?subscriber_id=user_1", socket, "", 101},
		{manyPages, "GET", "/metrics", nil, "", 200},
	} {
		_, port, _ := net.SplitHostPort(tt.addr)
		ask := func(want int, host string, lines ...string) {
			t.Helper()
			lines = append(lines, tt.lines...)
			text := page(tt.method, tt.target, host, lines...)
			if tt.lines != nil && tt.lines[0] == "Upgrade: websocket" {
				text = strings.Replace(text, "Connection: close", "Connection: Upgrade", 1)
			}
			status, header, body := raw(t, tt.addr, text+tt.body)
			if status != want {
				t.Errorf("%s %s, host %s, %q: %d %.300s, want %d", tt.method, tt.target, host, lines, status, body, want)
			}
			if status == 403 && header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %s: header %v", tt.method, tt.target, header)
			}
			if status == 403 && lines == nil && !strings.Contains(body, "--hosts") {
				t.Errorf("%s %s: %s does not say how to allow it", tt.method, tt.target, body)
			}
		}
		evil := "evil.example:" + port
		ask(403, evil)
		ask(403, evil, "Origin: http://"+evil)
		ask(403, evil, "Origin: http://"+evil, "Sec-Fetch-Site: same-origin")
		ask(403, "ours.example.org.evil.example")
		if tt.target != "/docs" && (tt.addr != api || tt.target != "/readyz") { // to these, others may link
			ask(403, tt.addr, "Origin: http://evil.example")
			ask(403, tt.addr, "Origin: http://"+tt.addr, "Origin: http://evil.example")
			ask(403, tt.addr, "Sec-Fetch-Site: cross-site")
			ask(403, "localhost", "Sec-Fetch-Site: same-site")
		}
		for _, host := range []string{tt.addr, "localhost:" + port, "127.0.0.1:" + port, "ours.example.org", "a.svc.example.org:" + port} {
			ask(tt.good, host)
		}
		ask(tt.good, "ours.example.org", "Origin: http://ours.example.org", "Sec-Fetch-Site: same-origin")
	}
}

// Every answer of every port says that its type is not to be guessed, and that it
// is not to be framed.
func TestHeaders(t *testing.T) {
	t.Parallel()
	f := newFortress(t)
	targets := map[string][]string{
		f.filter:  {"/livez", "/readyz", "/health", "/metrics", "/replay", "/nothing"},
		f.gateway: {"/livez", "/readyz", "/health", "/metrics", "/ws", "/sse", "/nothing", "/"},
		f.pages:   {"/livez", "/readyz", "/health", "/metrics", "/nothing"},
		f.api:     {"/nothing", "/filters/1/2", "/metrics"},
	}
	var document struct{ Paths map[string]any }
	_, _, body := raw(t, f.api, request("GET", "/openapi.json", ""))
	if err := json.Unmarshal([]byte(body), &document); err != nil || len(document.Paths) < 10 {
		t.Fatalf("%d paths, %v", len(document.Paths), err)
	}
	for path := range document.Paths {
		targets[f.api] = append(targets[f.api], path)
	}
	check := func(what string, status int, header http.Header) {
		t.Helper()
		if status == 0 || header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%s: %d %v", what, status, header)
		}
	}
	for addr, paths := range targets {
		for _, path := range paths {
			for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
				for _, key := range []string{"", f.admin} {
					status, header, _ := raw(t, addr, request(method, path, "", "Authorization: Bearer "+key))
					check(fmt.Sprintf("%s %s%s", method, addr, path), status, header)
				}
			}
		}
	}
	for _, bad := range []string{"nonsense\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n", "GET /filters HTTP/2.0\r\nHost: x\r\n\r\n"} {
		status, header, _ := raw(t, f.api, bad)
		check(bad, status, header)
	}
}
