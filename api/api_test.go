package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/api"
	"eventstream/auth"
	"eventstream/filter"
	"eventstream/lane"
	"eventstream/store"
)

var (
	_ api.Store     = (*store.Postgres)(nil)
	_ api.Store     = (*store.Memory)(nil)
	_ api.Publisher = (*lane.Redis)(nil)
	_ api.Publisher = (*lane.Memory)(nil)
	_ api.Lanes     = (*lane.Redis)(nil)
	_ api.Lanes     = (*lane.Memory)(nil)
)

// publisher is a Publisher that remembers, and fails when told to.
type publisher struct {
	mu      sync.Mutex
	err     error
	pingErr error
	changes []filter.Change
	bulk    int
	hook    func(context.Context, filter.Change) // called with each
}

func (p *publisher) PublishFilter(ctx context.Context, c filter.Change) (lane.ControlID, error) {
	if p.hook != nil {
		p.hook(ctx, c)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return lane.ControlID{}, p.err
	}
	p.changes = append(p.changes, c)
	return lane.ControlID{Ms: 1}, nil
}

func (p *publisher) PublishBulk(context.Context) (lane.ControlID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return lane.ControlID{}, p.err
	}
	p.bulk++
	return lane.ControlID{Ms: 1}, nil
}

func (p *publisher) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *publisher) Ping(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pingErr
}

func (p *publisher) TryWrite(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *publisher) failPing(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pingErr = err
}

// service is a running Server and its surroundings.
type service struct {
	t         *testing.T
	url       string
	addr      string
	server    *api.Server
	publisher *publisher
	log       *logBuffer
	stop      context.CancelFunc
	stopped   chan error
}

func start(t *testing.T, cfg api.Config, s api.Store) *service {
	t.Helper()
	return startWith(t, cfg, s, &publisher{})
}

func startWith(t *testing.T, cfg api.Config, s api.Store, p *publisher) *service {
	t.Helper()
	return startAll(t, cfg, s, p, lane.NewMemory(), nil)
}

func startBeside(t *testing.T, cfg api.Config, s api.Store, p *publisher, l api.Lanes) *service {
	t.Helper()
	return startAll(t, cfg, s, p, l, nil)
}

func startAll(t *testing.T, cfg api.Config, s api.Store, p *publisher, l api.Lanes, r api.Replays) *service {
	t.Helper()
	svc := serve(t, func(log *slog.Logger) *api.Server {
		return api.New(cfg, s, p, l, r, prometheus.NewRegistry(), log)
	})
	svc.publisher = p
	return svc
}

// serve runs what is made until the test ends.
func serve(t *testing.T, build func(*slog.Logger) *api.Server) *service {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	svc := &service{t: t, addr: ln.Addr().String(), url: "http://" + ln.Addr().String(), log: &logBuffer{}, stopped: make(chan error, 1)}
	svc.server = build(slog.New(slog.NewTextHandler(svc.log, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	svc.stop = cancel
	go func() { svc.stopped <- svc.server.Run(ctx, ln); close(svc.stopped) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-svc.stopped; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return svc
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// answer is a response whose body was read.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request. Headers are pairs of name and value.
func (s *service) do(method, path, body string, headers ...string) answer {
	s.t.Helper()
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return read(s.t, resp)
}

func read(t *testing.T, resp *http.Response) answer {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// create stores a filter and returns its path and its ID.
func (s *service) create(body string) (path string, id filter.ID) {
	s.t.Helper()
	a := s.do("POST", "/filters", body)
	path = a.header.Get("Location")
	if a.status != 201 || path == "" {
		s.t.Fatalf("POST /filters %s: %d %s", body, a.status, a.body)
	}
	return path, filter.ID(strings.TrimPrefix(path, "/filters/"))
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

var discard = slog.New(slog.DiscardHandler)

const adas = `{"subscriber_id":"ada","event_types":["purchase"]}`

// TestPredecessorsRequest is what users of the predecessor send, unchanged:
// curl -d says that JSON is a form.
func TestPredecessorsRequest(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	a := s.do("POST", "/filters", `{"subscriber_id":"user_1","event_types":["purchase"],"user_tiers":["premium"],"min_amount":100}`,
		"Content-Type", "application/x-www-form-urlencoded")
	want(t, "status", a.status, 201)
	id := strings.TrimPrefix(a.header.Get("Location"), "/filters/")
	want(t, "body", a.body, `{"id":"`+id+`","revision":1,"subscriber_id":"user_1","event_types":["purchase"],"user_tiers":["premium"],"min_amount":100}`+"\n")
	want(t, "ETag", a.header.Get("ETag"), `"1"`)
	want(t, "Content-Type", a.header.Get("Content-Type"), "application/json")
}

func TestLifeOfAFilter(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	path, id := s.create(adas)
	first := `{"id":"` + string(id) + `","revision":1,"subscriber_id":"ada","event_types":["purchase"]}` + "\n"
	second := strings.Replace(strings.Replace(first, "purchase", "refund", 1), ":1,", ":2,", 1)
	for _, tt := range []struct {
		method, path, body    string
		status                int
		wantBody, etag, allow string
	}{
		{"GET", path, "", 200, first, `"1"`, ""},
		{"HEAD", path, "", 200, "", `"1"`, ""},
		{"GET", "/filters", "", 200, `{"filters":[` + strings.TrimSpace(first) + `],"next_cursor":null}` + "\n", "", ""},
		{"HEAD", "/filters", "", 200, "", "", ""},
		{"OPTIONS", "/filters", "", 204, "", "", "DELETE, GET, HEAD, OPTIONS, POST"},
		{"OPTIONS", path, "", 204, "", "", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"},
		{"PUT", path, `{"subscriber_id":"ada","event_types":["refund"]}`, 200, second, `"2"`, ""},
		{"GET", path, "", 200, second, `"2"`, ""},
		{"GET", "/filters/%" + hex(path[9]) + path[10:], "", 200, second, `"2"`, ""}, // percent-encoded
		{"GET", "/filters/" + strings.ToUpper(string(id)), "", 200, second, `"2"`, ""},
		{"DELETE", path, "", 204, "", "", ""},
	} {
		a := s.do(tt.method, tt.path, tt.body)
		want(t, tt.method+" "+tt.path+": status", a.status, tt.status)
		want(t, tt.method+" "+tt.path+": body", a.body, tt.wantBody)
		want(t, tt.method+" "+tt.path+": ETag", a.header.Get("ETag"), tt.etag)
		want(t, tt.method+" "+tt.path+": Allow", a.header.Get("Allow"), tt.allow)
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		a := s.do(method, path, adas)
		want(t, method+" after DELETE", a.status, 404)
	}
	var told []string
	for _, c := range s.publisher.changes {
		b, _ := json.Marshal(c)
		told = append(told, string(b))
	}
	third := strings.Replace(strings.TrimSpace(second), ":2,", ":3,", 1)
	want(t, "published", strings.Join(told, "\n"), first+second+strings.TrimSuffix(third, "}")+`,"deleted":true}`)
}

func hex(b byte) string { return string("0123456789abcdef"[b>>4]) + string("0123456789abcdef"[b&15]) }

func TestProblems(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	path, _ := s.create(adas)
	const json = "application/json"
	type problem struct {
		Type, Title, Detail, Instance string
		Status                        int
		Errors                        []filter.Problem
	}
	for _, tt := range []struct {
		name, method, path, contentType, body string
		status                                int
		kind, detail                          string
		errors                                []filter.Problem
	}{
		{"empty body", "POST", "/filters", json, "", 400, "malformed-json", "malformed JSON: want a JSON object", nil},
		{"cut off", "POST", "/filters", json, `{"subscriber_id":`, 400, "malformed-json", "malformed JSON at byte 17: unexpected end of JSON input", nil},
		{"a form", "POST", "/filters", "application/x-www-form-urlencoded", "subscriber_id=ada", 400, "malformed-json", "malformed JSON: want a JSON object", nil},
		{"XML", "POST", "/filters", "text/xml; charset=utf-8", "<a/>", 415, "unsupported-media-type", `Content-Type "text/xml; charset=utf-8" is not supported; send application/json`, nil},
		{"a file", "PUT", path, "multipart/form-data; boundary=x", adas, 415, "unsupported-media-type", `Content-Type "multipart/form-data; boundary=x" is not supported; send application/json`, nil},
		{"no filter", "POST", "/filters", json, `{}`, 422, "invalid-filter", `/subscriber_id: required; no condition: this filter would match every event; give event_types, user_tiers, user_ids, countries, min_amount, max_amount, where, any or expr, or confirm with "match_all": true`, []filter.Problem{
			{Field: "/subscriber_id", Detail: "required"},
			{Field: "", Detail: `no condition: this filter would match every event; give event_types, user_tiers, user_ids, countries, min_amount, max_amount, where, any or expr, or confirm with "match_all": true`},
		}},
		{"unknown field", "PUT", path, json, `{"subscriber_id":"ada","event_type":"purchase"}`, 422, "invalid-filter", "/event_type: unknown field; allowed are subscriber_id, event_types, user_tiers, user_ids, countries, min_amount, max_amount, where, any, expr, match_all; did you mean event_types?", []filter.Problem{
			{Field: "/event_type", Detail: "unknown field; allowed are subscriber_id, event_types, user_tiers, user_ids, countries, min_amount, max_amount, where, any, expr, match_all; did you mean event_types?"},
		}},
		{"too large", "POST", "/filters", json, strings.Repeat(" ", 512<<10) + "x", 413, "body-too-large", "the body has 524289 bytes; at most 524288 are allowed", nil},
		{"other subscriber", "PUT", path, json, `{"subscriber_id":"bob","event_types":["purchase"]}`, 409, "other-subscriber", "a filter stays with its subscriber; delete it, and create another", []filter.Problem{
			{Field: "/subscriber_id", Detail: "differs from that of the stored filter"},
		}},
		{"no UUID", "GET", "/filters/7", "", "", 404, "filter-not-found", `"7" can't be a filter's id: those are UUIDs, such as 01890a5d-ac96-774b-bcce-b302099a8057`, nil},
		{"encoded slash", "GET", "/filters/a%2Fb", "", "", 404, "filter-not-found", `"a/b" can't be a filter's id: those are UUIDs, such as 01890a5d-ac96-774b-bcce-b302099a8057`, nil},
		{"UUID in braces", "DELETE", "/filters/%7B01890a5d-ac96-774b-bcce-b302099a8057%7D", "", "", 404, "filter-not-found", `"{01890a5d-ac96-774b-bcce-b302099a8057}" can't be a filter's id: those are UUIDs, such as 01890a5d-ac96-774b-bcce-b302099a8057`, nil},
		{"nobody's UUID", "PUT", "/filters/01890a5d-ac96-774b-bcce-b302099a8057", json, adas, 404, "filter-not-found", "it was deleted, or never existed", nil},
		{"no route", "GET", "/filter", "", "", 404, "no-such-route", "this exists: " + routes, nil},
		{"trailing slash", "GET", "/filters/", "", "", 404, "no-such-route", "this exists: " + routes, nil},
		{"root", "POST", "/", "", "", 404, "no-such-route", "this exists: " + routes, nil},
		{"no method", "POST", path, json, `{}`, 405, "method-not-allowed", "allowed are DELETE, GET, HEAD, OPTIONS, PATCH, PUT", nil},
		{"odd method", "BREW", "/filters", "", "", 405, "method-not-allowed", "allowed are DELETE, GET, HEAD, OPTIONS, POST", nil},
		{"misspelt parameter", "GET", "/filters?subscriberid=ada&limit=0&cursor=x&limit=1", "", "", 400, "bad-query", "", []filter.Problem{
			{Field: "?subscriberid", Detail: "unknown; allowed are subscriber_id, limit, cursor"},
			{Field: "?limit", Detail: `"0": want a number from 1 to 1000`},
			{Field: "?cursor", Detail: `"x": want the next_cursor of the page before`},
			{Field: "?limit", Detail: "given twice"},
		}},
		{"no subscriber", "GET", "/filters?subscriber_id=", "", "", 400, "bad-query", "", []filter.Problem{{Field: "?subscriber_id", Detail: "required"}}},
		{"limit too high", "GET", "/filters?limit=1001", "", "", 400, "bad-query", "", []filter.Problem{{Field: "?limit", Detail: `"1001": want a number from 1 to 1000`}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do(tt.method, tt.path, tt.body, "Content-Type", tt.contentType)
			var got problem
			if err := unmarshal(a.body, &got); err != nil {
				t.Fatalf("%v in %s", err, a.body)
			}
			want(t, "status", a.status, tt.status)
			want(t, "status in the body", got.Status, tt.status)
			want(t, "Content-Type", a.header.Get("Content-Type"), "application/problem+json")
			want(t, "type", got.Type, "urn:eventstream:problem:"+tt.kind)
			want(t, "detail", got.Detail, tt.detail)
			want(t, "instance", got.Instance, strings.Split(tt.path, "?")[0])
			if got.Title == "" || a.header.Get("X-Request-Id") == "" {
				t.Errorf("no title or X-Request-Id: %s %v", a.body, a.header)
			}
			if gotErrs, wantErrs := marshal(got.Errors), marshal(tt.errors); gotErrs != wantErrs {
				t.Errorf("errors:\n got %s\nwant %s", gotErrs, wantErrs)
			}
			if _, allow := a.header["Allow"]; allow != (tt.status == 405) {
				t.Errorf("Allow: %q", a.header.Get("Allow"))
			}
		})
	}
	want(t, "published changes", len(s.publisher.changes), 1)
}

const routes = "DELETE /connections, DELETE /connections/{id}, DELETE /filters, DELETE /filters/{id}, DELETE /subscribers, DELETE /subscribers/{id}/ack, DELETE /subscribers/{id}/tokens, DELETE /tokens/{id}, GET /connections, GET /docs, GET /filters, GET /filters/{id}, GET /filters:export, " +
	"GET /health, GET /livez, GET /metrics, GET /openapi.json, GET /readyz, GET /subscribers, GET /subscribers/{id}/ack, " +
	"GET /subscribers/{id}/events, GET /subscribers/{id}/explain, PATCH /filters/{id}, POST /filters, POST /filters:import, POST /filters:test, POST /subscribers/{id}/tokens, PUT /filters/{id}"

func unmarshal(s string, v any) error { return json.Unmarshal([]byte(s), v) }

func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestContentTypes(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	for _, ct := range []string{"", "application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/x-www-form-urlencoded; charset=UTF-8"} {
		want(t, "Content-Type "+ct, s.do("POST", "/filters", adas, "Content-Type", ct).status, 201)
	}
	for _, ct := range []string{"text/plain", "application/jsonx", "application", "json", "application/json; ="} {
		a := s.do("POST", "/filters", adas, "Content-Type", ct)
		want(t, "Content-Type "+ct, a.status, 415)
		want(t, "Accept", a.header.Get("Accept"), "application/json")
	}
	want(t, "Content-Encoding gzip", s.do("POST", "/filters", adas, "Content-Encoding", "gzip").status, 415)
}

func TestRequestID(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	for _, id := range []string{"abc-1", strings.Repeat("x", 128)} {
		want(t, "X-Request-Id", s.do("GET", "/livez", "", "X-Request-Id", id).header.Get("X-Request-Id"), id)
	}
	for _, id := range []string{"", "a b", "ä", strings.Repeat("x", 129)} {
		got := s.do("GET", "/nowhere", "", "X-Request-Id", id).header.Get("X-Request-Id")
		if len(got) != 36 || got == id {
			t.Errorf("X-Request-Id for %q is %q, want a new UUID", id, got)
		}
	}
}

// TestNotHTTP sends what fasthttp refuses before any handler sees it.
func TestNotHTTP(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	for _, tt := range []struct {
		name, raw string
		status    int
		kind      string
	}{
		{"garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400, "bad-request"},
		{"no such version", "GET / HTTX\r\n\r\n", 400, "bad-request"},
		{"HTTP/2", "GET /filters HTTP/2.0\r\nHost: localhost\r\n\r\n", 505, "http-version-not-supported"},
		{"HTTP/1.9", "GET /livez HTTP/1.9\r\nHost: localhost\r\n\r\n", 505, "http-version-not-supported"},
		{"HTTP/0.9", "GET /livez HTTP/0.9\r\nHost: localhost\r\n\r\n", 505, "http-version-not-supported"},
		{"bad length", "POST /filters HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400, "bad-request"},
		{"bad chunk", "POST /filters HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad-request"},
		{"huge header", "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n\r\n", 431, "headers-too-large"},
		{"huge body", "POST /filters HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n" + strings.Repeat("x", 2000000), 413, "body-too-large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, tt.raw); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			a := read(t, resp)
			want(t, "status", a.status, tt.status)
			want(t, "Content-Type", a.header.Get("Content-Type"), "application/problem+json")
			if !strings.Contains(a.body, `"urn:eventstream:problem:`+tt.kind+`"`) {
				t.Errorf("body %s, want type %s", a.body, tt.kind)
			}
		})
	}
}

// Whether a body is wanted is told before it comes. Whoever would be refused is not
// asked for one, and counts for his address.
func TestExpect(t *testing.T) {
	keys := &keyring{}
	reader, writer := keys.create(t, auth.ScopeRead), keys.create(t, auth.ScopeWrite)
	asks := startGuarded(t, api.Config{}, keys)
	open := start(t, api.Config{}, &store.Memory{})
	few := startGuarded(t, api.Config{Limits: api.LimitConfig{PerAddress: 1}}, keys)
	const head = "POST /filters HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
	for _, tt := range []struct {
		name, addr, lines string
		first, then       int // then: after the body has come
	}{
		{"good key", asks.addr, "Authorization: Bearer " + writer + "\r\n", 100, 201},
		{"key of another scope", asks.addr, "Authorization: Bearer " + reader + "\r\n", 100, 403},
		{"no key", asks.addr, "", 417, 0},
		{"wrong key", asks.addr, "Authorization: Bearer " + writer + "x\r\n", 417, 0},
		{"two keys", asks.addr, "Authorization: Bearer " + writer + "\r\nAuthorization: Bearer " + writer + "\r\n", 417, 0},
		{"wrong key, counted", few.addr, "Authorization: Bearer x\r\n", 417, 0},
		{"nobody is asked", open.addr, "", 100, 201},
		{"another site's page", open.addr, "Origin: https://evil.example\r\n", 417, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", tt.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(conn, "%s%sContent-Length: %d\r\n\r\n", head, tt.lines, len(adas))
			r := bufio.NewReader(conn)
			line, err := r.ReadString('\n')
			if want := fmt.Sprintf("HTTP/1.1 %d ", tt.first); err != nil || !strings.HasPrefix(line, want) {
				t.Fatalf("first %q, %v; want %s", line, err, want)
			}
			if tt.then == 0 {
				rest, err := io.ReadAll(r)
				if err != nil || strings.Contains(string(rest), "HTTP/1.1") {
					t.Errorf("then %q, %v; want the end", rest, err)
				}
				if tt.addr == few.addr && !strings.Contains(strings.ToLower(string(rest)), `ratelimit: "address";r=0`) {
					t.Errorf("then %q; want it counted", rest)
				}
				return
			}
			r.ReadString('\n')
			io.WriteString(conn, adas)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if a := read(t, resp); a.status != tt.then {
				t.Errorf("then %d %s, want %d", a.status, a.body, tt.then)
			}
		})
	}
}

func TestPreconditions(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	path, _ := s.create(adas)
	s.do("PUT", path, adas) // now revision 2
	for _, tt := range []struct {
		method, header, value string
		status                int
	}{
		{"GET", "If-None-Match", `"2"`, 304},
		{"GET", "If-None-Match", `W/"2"`, 304},
		{"GET", "If-None-Match", `"1", "2"`, 304},
		{"GET", "If-None-Match", `*`, 304},
		{"HEAD", "If-None-Match", `"2"`, 304},
		{"GET", "If-None-Match", `"1"`, 200},
		{"GET", "If-None-Match", `"02"`, 200},
		{"GET", "If-None-Match", `2`, 400},
		{"GET", "If-None-Match", `"2`, 400},
		{"PUT", "If-Match", `"1"`, 412},
		{"PUT", "If-Match", `"9"`, 412},
		{"PUT", "If-Match", `"0"`, 412},
		{"PUT", "If-Match", `"-1"`, 412},
		{"PUT", "If-Match", `"abc"`, 412},
		{"PUT", "If-Match", `W/"2"`, 412}, // weak tags never match here
		{"PUT", "If-Match", `"1", "3"`, 412},
		{"PUT", "If-Match", `"1" "2"`, 400},
		{"PUT", "If-Match", ``, 400},
		{"PUT", "If-Match", `2`, 400},
		{"PUT", "If-None-Match", `*`, 400},
		{"DELETE", "If-Match", `"1"`, 412},
		{"PUT", "If-Match", `"2"`, 200},       // 3
		{"PUT", "If-Match", `*`, 200},         // 4
		{"PUT", "If-Match", ` "1" ,"4"`, 200}, // 5
		{"DELETE", "If-Match", `"4"`, 412},
		{"DELETE", "If-Match", `"5"`, 204},
		{"DELETE", "If-Match", `"6"`, 404},
		{"PUT", "If-Match", `"5", "6"`, 404},
	} {
		a := s.do(tt.method, path, adas, tt.header, tt.value)
		want(t, tt.method+" "+tt.header+": "+tt.value, a.status, tt.status)
		if a.status == 304 && (a.body != "" || a.header.Get("ETag") != `"2"`) {
			t.Errorf("304 with body %q and ETag %s, want none and \"2\"", a.body, a.header.Get("ETag"))
		}
	}
}

// TestLostUpdate has many clients replace one filter, each bound to the
// revision that all have read: one may win.
func TestLostUpdate(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	path, _ := s.create(adas)
	statuses := make([]int, 8)
	var wg sync.WaitGroup
	for i := range statuses {
		wg.Go(func() { statuses[i] = s.do("PUT", path, adas, "If-Match", `"1"`).status })
	}
	wg.Wait()
	count := make(map[int]int)
	for _, status := range statuses {
		count[status]++
	}
	if count[200] != 1 || count[412] != len(statuses)-1 {
		t.Errorf("statuses %v, want 200 once and 412 else", count)
	}
}

func TestListInPages(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	var all []filter.ID
	for i := range 7 {
		_, id := s.create(strings.Replace(adas, "ada", []string{"ada", "b%&ö"}[i%2], 1))
		all = append(all, id)
	}
	for _, tt := range []struct {
		query string
		pages int
		want  []filter.ID
	}{
		{"", 1, all},
		{"limit=7", 1, all},
		{"limit=3", 3, all},
		{"limit=1000", 1, all},
		{"subscriber_id=ada&limit=2", 2, []filter.ID{all[0], all[2], all[4], all[6]}},
		{"subscriber_id=b%25%26%C3%B6", 1, []filter.ID{all[1], all[3], all[5]}},
		{"subscriber_id=nobody", 1, nil},
	} {
		var got []filter.ID
		pages, cursor := 0, ""
		for more := true; more; pages++ {
			a := s.do("GET", "/filters?"+tt.query+cursor, "")
			var page struct {
				Filters    []filter.Filter
				NextCursor *string `json:"next_cursor"`
			}
			if err := unmarshal(a.body, &page); err != nil || a.status != 200 || page.Filters == nil {
				t.Fatalf("%d %s: %v", a.status, a.body, err)
			}
			for _, f := range page.Filters {
				got = append(got, f.ID)
			}
			if more = page.NextCursor != nil; more {
				cursor = "&cursor=" + *page.NextCursor
			}
		}
		want(t, tt.query+": filters", marshal(got), marshal(tt.want))
		want(t, tt.query+": pages", pages, tt.pages)
	}
}

// TestStoredThenPublishedThenAnswered is what makes a filter apply to every
// event after the answer.
func TestStoredThenPublishedThenAnswered(t *testing.T) {
	var mem store.Memory
	p := &publisher{hook: func(ctx context.Context, c filter.Change) {
		f, err := mem.Get(ctx, c.ID)
		if err != nil || f.Revision != c.Revision {
			t.Errorf("published %+v while the store has %+v, %v", c, f, err)
		}
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("publishing has no deadline")
		}
	}}
	s := startWith(t, api.Config{}, &mem, p)
	path, _ := s.create(adas)
	s.do("PUT", path, adas)
	want(t, "published when answered", len(p.changes), 2)
}

func TestPublishFails(t *testing.T) {
	s := start(t, api.Config{PublishTimeout: 50 * time.Millisecond}, &store.Memory{})
	path, id := s.create(adas)
	s.publisher.fail(errors.New("redis is away"))
	const detail = `"applied":false,"detail":"stored, but the filter service could not be told; it will apply this by itself, as soon as Redis is back"}` + "\n"

	a := s.do("POST", "/filters", adas)
	made := strings.TrimPrefix(a.header.Get("Location"), "/filters/")
	want(t, "POST", a.status, 202)
	want(t, "POST: body", a.body, `{"id":"`+made+`","revision":1,"subscriber_id":"ada","event_types":["purchase"],`+detail)
	want(t, "POST: ETag", a.header.Get("ETag"), `"1"`)
	want(t, "GET what was created", s.do("GET", "/filters/"+made, "").status, 200)

	a = s.do("PUT", path, adas)
	want(t, "PUT", a.status, 202)
	want(t, "PUT: body", a.body, `{"id":"`+string(id)+`","revision":2,"subscriber_id":"ada","event_types":["purchase"],`+detail)

	a = s.do("DELETE", path, "")
	want(t, "DELETE", a.status, 202)
	want(t, "DELETE: body", a.body, `{"id":"`+string(id)+`","revision":3,"subscriber_id":"ada","event_types":["purchase"],"deleted":true,`+detail)
	want(t, "GET what was deleted", s.do("GET", path, "").status, 404)

	if n := strings.Count(s.log.String(), "filter service can't be told"); n != 1 {
		t.Errorf("%d warnings for one outage, want 1:\n%s", n, s.log)
	}
	if got := s.do("GET", "/metrics", "").body; !strings.Contains(got, "publish_failures_total 3\n") {
		t.Errorf("metrics lack 3 publish failures:\n%s", got)
	}
	s.publisher.fail(nil)
	want(t, "POST when it is back", s.do("POST", "/filters", adas).status, 201)
	s.readyAs("ok") // it is tried again after two seconds
	s.wantLogged("filter service can be told of changes again", 1)
}

// TestSlowPublish has Redis hang: the answer comes within the deadline.
func TestSlowPublish(t *testing.T) {
	p := &publisher{}
	p.hook = func(ctx context.Context, _ filter.Change) { <-ctx.Done(); p.fail(ctx.Err()) }
	s := startWith(t, api.Config{PublishTimeout: 20 * time.Millisecond}, &store.Memory{}, p)
	want(t, "POST", s.do("POST", "/filters", adas).status, 202)
}

func TestMetrics(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	path, _ := s.create(adas)
	s.do("GET", path, "")
	s.do("GET", "/filters/7", "")
	s.do("GET", "/a/b", "")
	s.do("BREW", "/filters", "")
	got := s.do("GET", "/metrics", "").body
	for _, line := range []string{
		`requests_total{route="POST /filters",status="201"} 1`,
		`requests_total{route="GET /filters/{id}",status="200"} 1`,
		`requests_total{route="GET /filters/{id}",status="404"} 1`,
		`requests_total{route="other",status="404"} 1`,
		`requests_total{route="other",status="405"} 1`,
		`request_seconds_count{route="GET /filters/{id}"} 2`,
		`publish_failures_total 0`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("metrics lack %s:\n%s", line, got)
		}
	}
}
