package api_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp/fasthttputil"

	"eventstream/api"
	"eventstream/filter"
	"eventstream/filter/expr"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/store"
)

// FuzzRequests: whatever the bytes of a request are, it is answered as openapi.json
// says, and never with 500. A filter that is created is what was asked for.
func FuzzRequests(f *testing.F) {
	const ndjson = "Content-Type: application/x-ndjson"
	full := `{"subscriber_id":"ada","min_amount":1,"expr":"a == 1 || b in [true, \"x\"]","where":{"c.d":{"between":[1,2],"ne":1.5}},"any":[{"e":{"exists":true}}]}`
	for _, r := range []request{
		{"POST", "/filters", "", "Content-Type: application/json", []byte(adas)},
		{"POST", "/filters", "", "Idempotency-Key: k", []byte(full)},
		{"POST", "/filters", "", "", []byte(`{"subscriber_id":"a\u0000","event_types":["x","x",""],"min_amount":1e999,"y":NaN}`)},
		{"GET", "/filters", "subscriber_id=ada&limit=10&cursor=01890a5d-ac96-774b-bcce-b302099a8057", "", nil},
		{"DELETE", "/filters", "subscriber_id=ada", "", nil},
		{"GET", "/filters/{id}", "", `If-None-Match: "2", W/"1"`, nil},
		{"PUT", "/filters/{id}", "", `If-Match: "1"`, []byte(full)},
		{"PATCH", "/filters/{id}", "", "Content-Type: application/merge-patch+json", []byte(`{"event_types":null,"where":{"a":{"gt":1}}}`)},
		{"DELETE", "/filters/{id}", "", "If-Match: *", nil},
		{"GET", nobodys, "", "", nil},
		{"POST", "/filters:import", "", ndjson, []byte(adas + "\n" + full + "\n")},
		{"POST", "/filters:import", "", ndjson, []byte(adas + "\n{\"x\":1}\n\xff\n")},
		{"GET", "/filters:export", "subscriber_id=ada", "", nil},
		{"POST", "/filters:test", "", "", []byte(`{"filters":[` + full + `],"events":[{"event_type":"x","a":[1,null]}]}`)},
		{"GET", "/subscribers", "durable=true&limit=1&cursor=ada", "", nil},
		{"GET", "/subscribers/ada/explain", "event=" + anEvent, "", nil},
		{"GET", "/subscribers/a%2Fb%00/ack", "", "", nil},
		{"DELETE", "/subscribers/ada/ack", "", "Origin: https://evil.example", nil},
		{"GET", "/subscribers/ada/events", "since=1h&until=2026-01-02T03:04:05+01:00", "", nil},
		{"POST", "/subscribers/ada/tokens", "", "Authorization: Bearer es_1", []byte(`{"expires_in":60}`)},
		{"HEAD", "/readyz", "", "", nil},
		{"OPTIONS", "/docs", "", "", nil},
		{"BREW", "/metrics", "", "", nil},
		{"GET", "/openapi.json/../health", "%zz", "\x00", nil},
	} {
		f.Add(r.method, r.path, r.query, r.headers, r.body)
	}
	var doc *contract
	f.Fuzz(func(t *testing.T, method, path, query, headers string, body []byte) {
		s := newInMemory(t)
		if doc == nil {
			doc = parseContract(t, s.do(request{method: "GET", path: "/openapi.json"}).body)
		}
		made := s.do(request{method: "POST", path: "/filters", body: []byte(adas)}).header.Get("Location")
		r := clean(request{method, strings.ReplaceAll(path, "/filters/{id}", made), query, headers, body})
		a := s.do(r)
		if err := doc.flawOf(r, a); err != nil {
			t.Errorf("%s: %d %.2000q: %v", r.bytes(), a.status, a.body, err)
		}
		if r.method == "POST" && r.path == "/filters" && a.status == http.StatusCreated {
			s.wantCreated(r, a)
		}
	})
}

// request is an HTTP request, with its headers as lines.
type request struct {
	method, path, query, headers string
	body                         []byte
}

var (
	notInMethod = regexp.MustCompile(`\s`)
	notInPath   = regexp.MustCompile(`^/+|[\s?#]`)
	framing     = regexp.MustCompile(`(?im)^.*(content-length|transfer-encoding|expect).*$|\r`)
	emptyLine   = regexp.MustCompile(`\n+`)
)

// clean takes out what would make r several requests, or one without an end.
func clean(r request) request {
	r.method = notInMethod.ReplaceAllString(r.method, "")
	r.path = "/" + notInPath.ReplaceAllString(r.path, "")
	r.query = notInPath.ReplaceAllString(r.query, "")
	r.headers = emptyLine.ReplaceAllString("\n"+framing.ReplaceAllString(r.headers, "")+"\n", "\r\n")
	return r
}

func (r request) bytes() []byte {
	return fmt.Appendf(nil, "%s %s?%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d%s\r\n%s",
		r.method, r.path, r.query, len(r.body), cmp.Or(r.headers, "\r\n"), r.body)
}

// inMemory is a Server without a network.
type inMemory struct {
	t      *testing.T
	server *api.Server
}

// newInMemory makes a Server for one request, which can't leave anything for the next.
func newInMemory(t *testing.T) inMemory {
	return inMemory{t, api.New(api.Config{}, &store.Memory{}, &publisher{}, lane.NewMemory(), noReplays{}, prometheus.NewRegistry(), discard)}
}

type noReplays struct{}

func (noReplays) Explain(context.Context, replay.Question) ([]replay.Live, error) {
	return nil, &replay.Unavailable{}
}

func (noReplays) Open(context.Context, replay.Request) (*replay.Stream, error) {
	return nil, &replay.Unavailable{}
}

func (s inMemory) do(r request) answer {
	s.t.Helper()
	pipe := fasthttputil.NewPipeConns()
	conn := pipe.Conn1()
	var served sync.WaitGroup
	served.Go(func() { s.server.ServeConn(pipe.Conn2()) })
	defer served.Wait()
	defer conn.Close()
	if _, err := conn.Write(r.bytes()); err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: r.method})
	if err != nil {
		s.t.Fatalf("%s: %v", r.bytes(), err)
	}
	return read(s.t, resp)
}

// anywhere are the problems that any request may have.
var anywhere = map[string]int{"bad-request": 400, "forbidden": 403, "no-such-route": 404, "method-not-allowed": 405, "headers-too-large": 431, "http-version-not-supported": 505}

// flawOf returns what the document says against the answer to a request.
func (c *contract) flawOf(r request, a answer) error {
	if a.header.Get("X-Request-Id") == "" {
		return errors.New("no X-Request-Id")
	}
	if r.method == http.MethodOptions && a.status == http.StatusNoContent && a.header.Get("Allow") != "" {
		return nil
	}
	var p struct {
		Type   string
		Status int
	}
	json.Unmarshal([]byte(a.body), &p) // what is no problem has no type
	if status, ok := anywhere[strings.TrimPrefix(p.Type, "urn:eventstream:problem:")]; ok {
		if a.status != status || p.Status != status || a.header.Get("Content-Type") != "application/problem+json" {
			return fmt.Errorf("want %d and application/problem+json", status)
		}
		return nil
	}
	if r.method == http.MethodHead && a.status != http.StatusInternalServerError { // as GET, without what to look at
		return nil
	}
	for operation := range c.documented {
		if ok, _ := path.Match(strings.ReplaceAll(operation, "{id}", "*"), r.method+" "+r.path); ok {
			return c.flaw(operation, a)
		}
	}
	return errors.New("nothing is documented there")
}

// wantCreated: what was created is what the request asked for, can be read, and
// says the same when it is sent again.
func (s inMemory) wantCreated(r request, created answer) {
	s.t.Helper()
	asked, err := filter.ParseSpec(r.body, expr.Translate)
	if err != nil {
		s.t.Fatalf("%s was accepted: %v", r.body, err)
	}
	at := created.header.Get("Location")
	got := s.do(request{method: "GET", path: at})
	want(s.t, "GET what was created", got.body, created.body)
	want(s.t, "ETag", got.header.Get("ETag"), `"1"`)
	var f filter.Filter
	if err := unmarshal(got.body, &f); err != nil || !reflect.DeepEqual(f.Spec, asked) {
		s.t.Errorf("%s was stored as %s, %v", r.body, got.body, err)
	}
	asked.ExprAny = nil // is made from expr
	again := s.do(request{method: "PUT", path: at, body: []byte(marshal(asked))})
	want(s.t, "PUT what was read", again.body, strings.Replace(created.body, `"revision":1`, `"revision":2`, 1))
}
