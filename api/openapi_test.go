package api_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"mime"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"eventstream/api"
	"eventstream/auth"
	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/store"
)

// contract is the OpenAPI document, and which of its answers were seen.
type contract struct {
	t          *testing.T
	document   any
	compiler   *jsonschema.Compiler
	responses  map[string]map[string]response // by operation, as "GET /filters", and status
	documented map[string]map[string]bool     // the same; true once seen
}

type response struct {
	Ref     string `json:"$ref"`
	Headers map[string]struct{ Required bool }
	Content map[string]struct{}

	at string // where it stands, as a JSON Pointer
}

// newContract reads the document from the server, as others would.
func newContract(t *testing.T, s *service) *contract {
	t.Helper()
	return parseContract(t, s.do("GET", "/openapi.json", "").body)
}

func parseContract(t *testing.T, text string) *contract {
	t.Helper()
	var d struct {
		OpenAPI    string
		Paths      map[string]map[string]struct{ Responses map[string]response }
		Components struct{ Responses map[string]response }
	}
	if err := unmarshal(text, &d); err != nil || d.OpenAPI != "3.1.0" {
		t.Fatalf("openapi.json: version %q, %v", d.OpenAPI, err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := &contract{t, doc, jsonschema.NewCompiler(), make(map[string]map[string]response), make(map[string]map[string]bool)}
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource("openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range d.Paths {
		for method, o := range methods {
			operation := strings.ToUpper(method) + " " + path
			c.responses[operation], c.documented[operation] = o.Responses, make(map[string]bool)
			for status, r := range o.Responses {
				r.at = "/paths/" + pointer(path) + "/" + method + "/responses/" + status
				if name, shared := strings.CutPrefix(r.Ref, "#/components/responses/"); shared {
					r = d.Components.Responses[name]
					r.at = "/components/responses/" + name
				}
				o.Responses[status], c.documented[operation][status] = r, false
			}
		}
	}
	return c
}

// pointer escapes a name for a JSON Pointer.
func pointer(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// flaw returns what the document says against an answer.
func (c *contract) flaw(operation string, a answer) error {
	r, ok := c.responses[operation][fmt.Sprint(a.status)]
	if !ok {
		return fmt.Errorf("%s: %d is not documented", operation, a.status)
	}
	for name, h := range r.Headers {
		if h.Required && a.header.Get(name) == "" {
			return fmt.Errorf("%s is missing", name)
		}
	}
	media, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	if len(r.Content) == 0 {
		if a.body != "" {
			return fmt.Errorf("a body, and none is documented")
		}
		return nil
	}
	if _, ok := r.Content[media]; !ok {
		return fmt.Errorf("Content-Type %q is not documented", media)
	}
	// Escaped twice: the pointer stands in a URL.
	schema, err := c.compiler.Compile("openapi.json#" + (&url.URL{Path: r.at + "/content/" + pointer(media) + "/schema"}).EscapedPath())
	if err != nil {
		return err
	}
	var body any = a.body
	if strings.HasSuffix(media, "json") && !strings.HasSuffix(media, "ndjson") {
		if body, err = jsonschema.UnmarshalJSON(strings.NewReader(a.body)); err != nil {
			return err
		}
	}
	return schema.Validate(body)
}

// see sends a request whose answer must be documented, and have a status.
func (c *contract) see(s *service, operation, path string, status int, body string, headers ...string) {
	c.t.Helper()
	method, _, _ := strings.Cut(operation, " ")
	a := s.do(method, path, body, headers...)
	if a.status != status {
		c.t.Errorf("%s %s: %d %s; want %d", method, path, a.status, a.body, status)
		return
	}
	if err := c.flaw(operation, a); err != nil {
		c.t.Errorf("%s %s: %d %s\n%v", method, path, a.status, a.body, err)
	}
	c.documented[operation][fmt.Sprint(status)] = true
}

// TestDocumentIsOpenAPI holds the document to OpenAPI's own schema, and what it says
// of JSON to that of JSON Schema.
func TestDocumentIsOpenAPI(t *testing.T) {
	c := newContract(t, start(t, api.Config{}, &store.Memory{}))
	schema, err := c.compiler.Compile("testdata/openapi-3.1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(c.document); err != nil {
		t.Error(err)
	}
	for name := range c.document.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any) {
		if _, err := c.compiler.Compile("openapi.json#/components/schemas/" + name); err != nil {
			t.Error(err)
		}
	}
}

// away is a Store that is down.
type away struct{ store.Memory }

func (*away) Create(context.Context, filter.Spec) (filter.Filter, error) {
	return filter.Filter{}, filter.ErrUnavailable
}
func (*away) Get(context.Context, filter.ID) (filter.Filter, error) {
	return filter.Filter{}, filter.ErrUnavailable
}
func (*away) List(context.Context, string, filter.ID, int) ([]filter.Filter, error) {
	return nil, filter.ErrUnavailable
}
func (*away) Update(context.Context, filter.ID, filter.Spec, int64) (filter.Filter, error) {
	return filter.Filter{}, filter.ErrUnavailable
}
func (*away) Delete(context.Context, filter.ID, int64) (filter.Filter, error) {
	return filter.Filter{}, filter.ErrUnavailable
}
func (*away) DeleteAll(context.Context, string) (int64, error) { return 0, filter.ErrUnavailable }
func (*away) Import(context.Context, iter.Seq2[filter.Spec, error]) (int64, error) {
	return 0, filter.ErrUnavailable
}
func (*away) Acked(context.Context, string) (event.Ack, error) {
	return event.Ack{}, filter.ErrUnavailable
}
func (*away) ForgetAck(context.Context, string) error { return filter.ErrUnavailable }
func (*away) ForgetAcks(context.Context, time.Time, int) (int64, error) {
	return 0, filter.ErrUnavailable
}
func (*away) Acks(context.Context, string, int) ([]event.Ack, error) {
	return nil, filter.ErrUnavailable
}
func (*away) Revoke(context.Context, auth.Revocation) error { return filter.ErrUnavailable }
func (*away) Ping(context.Context) error                    { return filter.ErrUnavailable }
func (*away) TryWrite(context.Context) error                { return filter.ErrUnavailable }

// TestContract holds the server to openapi.json, and the other way round: each
// route is in it, each status that it documents is answered by something, and
// each answer is as it says.
func TestContract(t *testing.T) {
	told := replays(t, func(_ context.Context, _ replay.Request, w *replay.Writer) error {
		return errors.Join(told(w), w.End())
	})
	s := startAll(t, api.Config{MaxImportLines: 10}, saved(t, ack("ada", 90, 50)), &publisher{}, oneShard(), told)
	c := newContract(t, s)
	c.wantRoutes(s)
	c.filters(s)
	c.others(s)

	untold := startWith(t, api.Config{}, &store.Memory{}, &publisher{})
	path, _ := untold.create(adas)
	untold.publisher.fail(errors.New("redis is away"))
	c.see(untold, "POST /filters", "/filters", 202, adas)
	c.see(untold, "PUT /filters/{id}", path, 202, adas)
	c.see(untold, "PATCH /filters/{id}", path, 202, `{}`)
	c.see(untold, "DELETE /filters/{id}", path, 202, "")
	c.see(untold, "DELETE /filters", "/filters?subscriber_id=ada", 202, "")
	c.see(untold, "POST /filters:import", "/filters:import", 202, adas)

	c.connections()
	c.quotas()
	stuck := serve(t, func(log *slog.Logger) *api.Server {
		srv := api.New(api.Config{}, &store.Memory{}, &publisher{}, lane.NewMemory(), nil, prometheus.NewRegistry(), log)
		srv.Stick()
		return srv
	})
	c.see(stuck, "GET /livez", "/livez", 503, "")
	c.down(startAll(t, api.Config{}, &away{}, &publisher{}, lane.NewMemory(), replays(t, func(context.Context, replay.Request, *replay.Writer) error {
		return &replay.Unavailable{}
	})))
	c.strangers()
	for _, operation := range slices.Sorted(maps.Keys(c.documented)) {
		for status, seen := range c.documented[operation] {
			if !seen {
				t.Errorf("%s: %s is documented, and nothing answers it", operation, status)
			}
		}
	}
}

// wantRoutes compares the document with the list that the server gives for what
// does not exist.
func (c *contract) wantRoutes(s *service) {
	var p struct{ Routes []string }
	if err := unmarshal(s.do("GET", "/nowhere", "").body, &p); err != nil {
		c.t.Fatal(err)
	}
	want(c.t, "documented", strings.Join(slices.Sorted(maps.Keys(c.documented)), "\n"), strings.Join(p.Routes, "\n"))
}

const (
	nobodys = "/filters/01890a5d-ac96-774b-bcce-b302099a8057"
	anEvent = "%7B%22event_type%22%3A%22login%22%7D"
)

func (c *contract) filters(s *service) {
	large := strings.Repeat(" ", 512<<10) + adas
	all := `{"subscriber_id":"ada","min_amount":1,"expr":"a == 1 || b in [true, \"x\"]","where":{"c.d":{"between":[1,2],"ne":1.5}},"any":[{"e":{"exists":true}}]}`
	c.see(s, "POST /filters", "/filters", 201, all, "Idempotency-Key", "k")
	c.see(s, "POST /filters", "/filters", 201, all, "Idempotency-Key", "k")
	c.see(s, "POST /filters", "/filters", 422, adas, "Idempotency-Key", "k")
	c.see(s, "POST /filters", "/filters", 400, adas, "Idempotency-Key", " ")
	path, _ := s.create(adas)
	const one = "/filters/{id}"
	for _, o := range []struct{ operation, path string }{{"POST /filters", "/filters"}, {"PUT " + one, path}, {"PATCH " + one, path}} {
		c.see(s, o.operation, o.path, 400, `{"a":`)
		c.see(s, o.operation, o.path, 413, large)
		c.see(s, o.operation, o.path, 415, adas, "Content-Type", "text/plain")
		c.see(s, o.operation, o.path, 422, `{"min_amount":"x","y":1}`)
	}
	for _, o := range []struct{ operation, body string }{{"PUT " + one, adas}, {"PATCH " + one, "{}"}, {"DELETE " + one, ""}} {
		c.see(s, o.operation, nobodys, 404, o.body)
		c.see(s, o.operation, path, 412, o.body, "If-Match", `"77"`)
		c.see(s, o.operation, path, 400, o.body, "If-Match", `77`)
	}
	bobs := strings.Replace(adas, "ada", "bob", 1)
	c.see(s, "PUT "+one, path, 409, bobs)
	c.see(s, "PATCH "+one, path, 409, bobs)
	c.see(s, "PUT "+one, path, 200, adas)
	c.see(s, "PATCH "+one, path, 200, `{"min_amount":7}`)
	c.see(s, "GET "+one, path, 200, "")
	c.see(s, "GET "+one, path, 304, "", "If-None-Match", `"3"`)
	c.see(s, "GET "+one, path, 400, "", "If-None-Match", `3`)
	c.see(s, "GET "+one, nobodys, 404, "")
	c.see(s, "GET /filters", "/filters?limit=1", 200, "")
	c.see(s, "GET /filters", "/filters?subscriber_id=ada", 200, "")
	c.see(s, "GET /filters", "/filters?limit=0", 400, "")
	c.see(s, "GET /subscribers/{id}/explain", "/subscribers/ada/explain?limit=1&event="+anEvent, 200, "")
	c.see(s, "GET /subscribers/{id}/explain", "/subscribers/ada/explain?live=true&event="+anEvent, 200, "")
	c.see(s, "GET /subscribers/{id}/explain", "/subscribers/ada/explain", 400, "")
	c.see(s, "GET /subscribers/{id}/explain", "/subscribers/ada/explain?live=1&event="+anEvent, 400, "")
	c.see(s, "DELETE "+one, path, 204, "")
	c.see(s, "POST /filters:import", "/filters:import", 200, adas)
	c.see(s, "POST /filters:import", "/filters:import", 200, adas, "Idempotency-Key", "k")
	c.see(s, "POST /filters:import", "/filters:import", 200, adas, "Idempotency-Key", "k")
	c.see(s, "POST /filters:import", "/filters:import", 422, all, "Idempotency-Key", "k")
	c.see(s, "POST /filters:import", "/filters:import", 400, adas, "If-Match", "*")
	c.see(s, "POST /filters:import", "/filters:import", 413, strings.Repeat(adas+"\n", 11))
	c.see(s, "POST /filters:import", "/filters:import", 415, adas, "Content-Encoding", "gzip")
	c.see(s, "POST /filters:import", "/filters:import", 422, "{\n"+`{"x":1}`)
	c.see(s, "GET /filters:export", "/filters:export", 200, "")
	c.see(s, "GET /filters:export", "/filters:export?x=1", 400, "")
	c.see(s, "DELETE /filters", "/filters?subscriber_id=ada", 200, "")
	c.see(s, "DELETE /filters", "/filters", 400, "")
	dry := `{"filters":[` + all + `],"events":[{"event_type":"x"}]}`
	c.see(s, "POST /filters:test", "/filters:test", 200, dry)
	c.see(s, "POST /filters:test", "/filters:test", 400, "")
	c.see(s, "POST /filters:test", "/filters:test", 413, large)
	c.see(s, "POST /filters:test", "/filters:test", 415, dry, "Content-Type", "text/xml")
	c.see(s, "POST /filters:test", "/filters:test", 422, `{"filters":[{}],"events":[{}]}`)
	release := s.server.HoldDryRuns()
	defer release()
	c.see(s, "POST /filters:test", "/filters:test", 503, heavyDryRun)
}

// quotas asks for more than a subscriber may have.
func (c *contract) quotas() {
	st := &store.Memory{}
	st.Limit(filter.Quota{Values: 2})
	s := start(c.t, api.Config{}, st)
	path, _ := s.create(adas)
	wide := strings.Replace(adas, `"purchase"`, `"a","b","c"`, 1)
	c.see(s, "POST /filters", "/filters", 422, wide)
	c.see(s, "POST /filters:import", "/filters:import", 422, wide)
	c.see(s, "PUT /filters/{id}", path, 422, wide)
	c.see(s, "PATCH /filters/{id}", path, 422, `{"event_types":["a","b","c"]}`)
}

func (c *contract) others(s *service) {
	c.see(s, "GET /subscribers", "/subscribers?durable=true&limit=1", 200, "")
	c.see(s, "GET /subscribers", "/subscribers", 400, "")
	c.see(s, "DELETE /subscribers", "/subscribers?acked_before=87600h", 200, "")
	c.see(s, "DELETE /subscribers", "/subscribers", 400, "")
	c.see(s, "GET /subscribers/{id}/ack", "/subscribers/ada/ack", 200, "")
	c.see(s, "GET /subscribers/{id}/ack", "/subscribers/ada/ack?x=1", 400, "")
	c.see(s, "GET /subscribers/{id}/ack", "/subscribers/bob/ack", 404, "")
	c.see(s, "DELETE /subscribers/{id}/ack", "/subscribers/ada/ack", 204, "")
	c.see(s, "DELETE /subscribers/{id}/ack", "/subscribers/ada/ack", 404, "")
	c.see(s, "DELETE /subscribers/{id}/ack", "/subscribers/a%20b/ack", 400, "")
	c.see(s, "GET /subscribers/{id}/events", "/subscribers/ada/events?since=1h", 200, "")
	c.see(s, "GET /subscribers/{id}/events", "/subscribers/ada/events", 400, "")
	c.see(s, "DELETE /tokens/{id}", "/tokens/t1?expires=32503680000", 204, "")
	c.see(s, "DELETE /tokens/{id}", "/tokens/t1?expires=x", 400, "")
	for _, path := range []string{"/health", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs"} {
		c.see(s, "GET "+path, path, 200, "")
	}
}

// connections asks gateways that answer, one that does not, and nobody.
func (c *contract) connections() {
	l := oneShard()
	s := startBeside(c.t, api.Config{}, &store.Memory{}, &publisher{}, l)
	l.answers = []lane.Answer{{Gateway: 1, Total: 1, Connections: []lane.Connection{{Seat: 3, Subscriber: "ada", Opened: 1, Heard: 2, Expires: 3}}}}
	const all, one = "/connections?subscriber_id=ada", "/connections/0000000000000001-3"
	c.see(s, "GET /connections", all, 200, "")
	c.see(s, "GET /connections", "/connections", 400, "")
	c.see(s, "DELETE /connections", all, 200, "")
	c.see(s, "DELETE /connections", "/connections", 400, "")
	c.see(s, "DELETE /connections/{id}", one, 204, "")
	c.see(s, "DELETE /connections/{id}", one+"?x=1", 400, "")
	c.see(s, "DELETE /connections/{id}", "/connections/3", 404, "")
	l.set(func(l *lanes) { l.silent = []event.Gateway{2} })
	c.see(s, "GET /connections", all, 200, "")
	c.see(s, "DELETE /connections", all, 202, "")
	l.set(func(l *lanes) { l.gateways.err = errors.New("redis is away") })
	c.see(s, "GET /connections", all, 503, "")
	c.see(s, "DELETE /connections", all, 503, "")
	c.see(s, "DELETE /connections/{id}", one, 503, "")
	c.see(s, "DELETE /tokens/{id}", "/tokens/t1", 202, "")
}

func (c *contract) down(s *service) {
	for _, o := range []struct{ operation, path, body string }{
		{"POST /filters", "/filters", adas}, {"GET /filters", "/filters", ""}, {"DELETE /filters", "/filters?subscriber_id=ada", ""},
		{"GET /filters/{id}", nobodys, ""}, {"PUT /filters/{id}", nobodys, adas}, {"PATCH /filters/{id}", nobodys, "{}"}, {"DELETE /filters/{id}", nobodys, ""},
		{"POST /filters:import", "/filters:import", adas}, {"GET /filters:export", "/filters:export", ""},
		{"GET /subscribers", "/subscribers?durable=true", ""}, {"DELETE /subscribers", "/subscribers?acked_before=24h", ""}, {"GET /subscribers/{id}/explain", "/subscribers/ada/explain?event=" + anEvent, ""},
		{"GET /subscribers/{id}/ack", "/subscribers/ada/ack", ""}, {"DELETE /subscribers/{id}/ack", "/subscribers/ada/ack", ""},
		{"GET /subscribers/{id}/events", "/subscribers/ada/events?since=1h", ""}, {"DELETE /tokens/{id}", "/tokens/t1", ""}, {"GET /health", "/health", ""}, {"GET /readyz", "/readyz", ""},
	} {
		c.see(s, o.operation, o.path, 503, o.body)
	}
}

// strangers asks without a key, with one that is not enough, from another site's
// page, and too often; and with the right one, for a token.
func (c *contract) strangers() {
	keys := &keyring{}
	read, admin := keys.create(c.t, auth.ScopeRead), keys.create(c.t, auth.ScopeAdmin)
	signing, _ := auth.ParseSecrets("a-secret-of-at-least-32-characters")
	signer, err := auth.NewSigner(signing, auth.Terms{})
	if err != nil {
		c.t.Fatal(err)
	}
	s := startGuarded(c.t, api.Config{Signer: signer}, keys)
	open := start(c.t, api.Config{}, &store.Memory{})
	hurried := start(c.t, api.Config{Limits: api.LimitConfig{PerAddress: 1}}, &store.Memory{})
	for operation, statuses := range c.documented {
		method, path, _ := strings.Cut(operation, " ")
		path = strings.Replace(path, "{id}", "ada", 1)
		if _, limited := statuses["429"]; limited {
			testenv.Eventually(c.t, 5*time.Second, func() error { return status(hurried.do(method, path, ""), 429) })
			c.see(hurried, operation, path, 429, "")
		}
		if _, guarded := statuses["401"]; !guarded {
			continue
		}
		c.see(s, operation, path, 401, "")
		c.see(open, operation, path, 403, "", "Origin", "https://evil.example")
	}
	const path = "/subscribers/ada/tokens"
	with := func(key string) []string { return []string{"Authorization", "Bearer " + key} }
	c.see(s, mint, path, 403, "", with(read)...)
	c.see(s, mint, path, 201, `{"expires_in":60}`, with(admin)...)
	c.see(s, mint, path, 400, `[60]`, with(admin)...)
	c.see(s, mint, path, 422, `{"expires_in":0,"x":1}`, with(admin)...)
	c.see(s, mint, path, 415, "{}", append(with(admin), "Content-Type", "text/plain")...)
	c.see(s, mint, path, 413, strings.Repeat(" ", 600<<10), with(admin)...)
	c.see(startGuarded(c.t, api.Config{}, keys), mint, path, 501, "", with(admin)...)
	c.see(s, revoke, path, 403, "", with(read)...)
	c.see(s, revoke, path, 204, "", with(admin)...)
	c.see(s, revoke, path+"?x=1", 400, "", with(admin)...)
	l := oneShard()
	l.gateways.err = errors.New("redis is away")
	c.see(startKept(c.t, keys, &store.Memory{}, l), revoke, path, 202, "", with(admin)...)
	c.see(startKept(c.t, keys, &away{}, l), revoke, path, 503, "", with(admin)...)
}

// startKept is startGuarded beside lanes.
func startKept(t *testing.T, keys *keyring, s api.Store, l api.Lanes) *service {
	t.Helper()
	svc := startBeside(t, api.Config{Keys: keys}, s, &publisher{}, l)
	testenv.Eventually(t, 5*time.Second, func() error { return status(svc.do("GET", "/filters", ""), 401) })
	return svc
}

const (
	mint   = "POST /subscribers/{id}/tokens"
	revoke = "DELETE /subscribers/{id}/tokens"
)

// TestContractSeesFlaws: answers that are not as documented are found.
func TestContractSeesFlaws(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	c := newContract(t, s)
	path, _ := s.create(adas)
	good := s.do("GET", path, "")
	for _, tt := range []struct{ old, new string }{
		{`"revision":1`, `"revision":"1"`}, {`"revision":1,`, ``}, {`"revision":1`, `"revision":1,"odd":1`}, {`"purchase"`, `7`}, {"application/json", "text/plain"},
		{"200", "418"},
	} {
		bad := good
		bad.body = strings.Replace(good.body, tt.old, tt.new, 1)
		bad.header = good.header.Clone()
		bad.header.Set("Content-Type", strings.Replace(good.header.Get("Content-Type"), tt.old, tt.new, 1))
		if tt.old == "200" {
			bad.status = 418
		}
		if c.flaw("GET /filters/{id}", bad) == nil {
			t.Errorf("%s for %s is no flaw to the document", tt.new, tt.old)
		}
	}
}

// TestDocs: the page has every operation, and asks for nothing from elsewhere.
func TestDocs(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	c := newContract(t, s)
	a := s.do("GET", "/docs", "")
	want(t, "Content-Type", a.header.Get("Content-Type"), "text/html; charset=utf-8")
	want(t, "Content-Security-Policy", a.header.Get("Content-Security-Policy"), "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	for operation := range c.documented {
		method, path, _ := strings.Cut(operation, " ")
		if !strings.Contains(a.body, `<h3><code><span class="method">`+method+`</span>`+path+`</code></h3>`) {
			t.Errorf("the page lacks %s", operation)
		}
	}
	for _, text := range []string{"<script", "http://", "https://", "$ref&#34;: &#34;#/components/responses", "<no value>"} {
		if strings.Contains(a.body, text) {
			t.Errorf("the page has %s", text)
		}
	}
	for _, text := range []string{"The filter store is unavailable.", "If-Match", "The next_cursor of the page before."} {
		if !strings.Contains(a.body, text) {
			t.Errorf("the page lacks %q", text)
		}
	}
}
