package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/gateway/framing/framingtest"
	"eventstream/gateway/position"
	"eventstream/internal/testenv"
	"eventstream/wire"
)

// sseClient is an EventSource, except that it comes back only when it is told to.
type sseClient struct {
	*rawConn
	resp *http.Response
	framingtest.Parser
	got wsClient // what came, noted like a WebSocket's
}

func sseRequest(query string, headers ...string) string {
	return "GET /sse?" + query + " HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n" + strings.Join(append(headers, "", ""), "\r\n")
}

func sseAsk(t testing.TB, g *instance, request string) *sseClient {
	t.Helper()
	c := &sseClient{rawConn: rawConnect(t, g)}
	c.sendBytes([]byte(request))
	var err error
	if c.resp, err = http.ReadResponse(c.rawConn.r, nil); err != nil {
		t.Fatalf("answer: %v", err)
	}
	c.Parser.R = bufio.NewReader(c.resp.Body)
	c.got = wsClient{t: t, seen: make(map[string]int)}
	return c
}

// sseConnect connects and reads the hello. last is the last event ID, or "".
func sseConnect(t testing.TB, g *instance, query, last string) (*sseClient, wire.Message) {
	t.Helper()
	var headers []string
	if last != "" {
		headers = []string{"Last-Event-ID: " + last}
	}
	c := sseAsk(t, g, sseRequest(query, headers...))
	if ct := c.resp.Header.Get("Content-Type"); c.resp.StatusCode != 200 || ct != "text/event-stream" || c.resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("answer: %d %v", c.resp.StatusCode, c.resp.Header)
	}
	hello := c.message()
	if hello.Type != wire.Hello {
		t.Fatalf("first message: %+v, want hello", hello)
	}
	return c, hello
}

// message reads one event and holds it to what a WebSocket's message would be.
func (c *sseClient) message() wire.Message {
	c.t.Helper()
	before := c.Last
	e, err := c.Next()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	var m wire.Message
	if err := json.Unmarshal([]byte(e.Data), &m); err != nil {
		c.t.Fatalf("data %.200q: %v", e.Data, err)
	}
	if m.Type != e.Kind {
		c.t.Errorf("event: %s, of a message %s", e.Kind, m.Type)
	}
	want := before
	switch {
	case m.Type == wire.Hello && e.ID == before: // and a gap follows
	case m.Cursor != "":
		want = m.Cursor
	case m.To != "":
		want = m.To
	case m.Type == wire.Events:
		c.past(before, e.ID, m.Events)
		want = e.ID
	}
	if e.ID != want {
		c.t.Errorf("last event ID after %s: %q, want %q", m.Type, e.ID, want)
	}
	c.got.note(m)
	return m
}

// past checks that an id is past the one before, and past the events that it stands at.
func (c *sseClient) past(before, id string, events []wire.Event) {
	c.t.Helper()
	next := nextOf(c.t, id)
	if before != "" && position.Below(next, nextOf(c.t, before)) >= 0 {
		c.t.Errorf("last event ID goes back from %v to %v", nextOf(c.t, before), next)
	}
	for _, e := range events {
		if of, err := event.ParseID(e.ID); err != nil || of.Offset >= position.Of(next, of.Partition) {
			c.t.Errorf("last event ID is at %v with event %s, %v", next, e.ID, err)
		}
	}
}

func (c *sseClient) until(what string, done func(wire.Message) bool) wire.Message {
	c.t.Helper()
	for {
		if m := c.message(); done(m) {
			return m
		}
	}
}

func (c *sseClient) untilEvent(id string) {
	c.t.Helper()
	for c.got.seen[id] == 0 {
		c.message()
	}
}

// A client that goes on with its last event ID loses nothing, and gets nothing
// twice but at the seam; what its URL says of the beginning is over then.
func TestSSE(t *testing.T) {
	w := newWorld(t, 2)
	w.beats()
	g := w.gateway(Config{})
	c, hello := sseConnect(t, g, "subscriber_id=user_1&cursor=", "")
	if hello.Resumed || hello.SubscriberID != "user_1" || c.Last != hello.Cursor || c.Retry < 1000 || c.Retry > 2000 {
		t.Errorf("hello %+v, last event ID %q, retry %d", hello, c.Last, c.Retry)
	}
	var want []string
	for i := range 20 {
		want = append(want, w.publish(i%2, "user_1"))
		w.publish(i%2, "user_2")
	}
	c.untilEvent(want[18])
	c.untilEvent(want[19])
	c.got.check()
	wantIDs(t, &c.got, want...)
	c.nc.Close()

	missed := []string{w.publish(0, "user_1"), w.publish(1, "user_1")}
	again, hello := sseConnect(t, g, "subscriber_id=user_1&since=1h&cursor="+c.Last[:8], c.Last)
	if !hello.Resumed {
		t.Errorf("hello %+v, want resumed", hello)
	}
	again.untilEvent(missed[0])
	again.untilEvent(missed[1])
	again.got.check()
	seen := slices.Concat(c.got.order, again.got.order)
	slices.Sort(seen)
	if got := slices.Compact(seen); len(got) != 22 {
		t.Errorf("%d events over both connections, want 22", len(got))
	}
	open := func(want string) {
		t.Helper()
		testenv.Eventually(t, 5*time.Second, func() error {
			if got := metric(t, g, "event_streams"); got != "event_streams "+want {
				return fmt.Errorf("%s, want %s", got, want)
			}
			return nil
		})
	}
	open("1")
	again.nc.Close()
	open("0")
	noneOpen(t, g)
}

// Each end is told: an EventSource stops where coming back is of no use, and
// comes back where it is.
func TestSSERefusals(t *testing.T) {
	w := newWorld(t, 1)
	g, token := guarded(t, w, Config{Origins: origins(t, "https://app.example.org"), MaxPerSubscriber: 1})
	good := "token=" + token("user_1", time.Hour)
	first := sseAsk(t, g, sseRequest("token="+token("full", time.Hour)))
	first.message()
	for _, tt := range []struct {
		name, request string
		status        int
		cors, code    string
	}{
		{"query", sseRequest(good), 200, "", ""},
		{"header", sseRequest("", "Authorization: Bearer "+good[6:]), 200, "", ""},
		{"allowed origin", sseRequest(good, "Origin: https://app.example.org"), 200, "https://app.example.org", ""},
		{"own origin", sseRequest(good, "Origin: http://localhost"), 200, "http://localhost", ""},
		{"HTTP/1.0", strings.Replace(sseRequest(good), "HTTP/1.1", "HTTP/1.0", 1), 200, "", ""},
		{"question of a browser", strings.Replace(sseRequest("", "Origin: https://app.example.org"), "GET", "OPTIONS", 1), 204, "https://app.example.org", ""},

		{"foreign origin", sseRequest(good, "Origin: https://evil.example"), 403, "", "origin-not-allowed"},
		{"question from elsewhere", strings.Replace(sseRequest("", "Origin: https://evil.example"), "GET", "OPTIONS", 1), 403, "", "origin-not-allowed"},
		{"no token", sseRequest(""), 401, "", "unauthorized"},
		{"another's token", sseRequest("token="+mint(t, strings.Repeat("x", 40), "events", "user_1", time.Hour), "Origin: https://app.example.org"), 401, "https://app.example.org", "unauthorized"},
		{"bad last event ID", sseRequest(good, "Last-Event-ID: abc"), 400, "", "bad-cursor"},
		{"bad cursor", sseRequest(good + "&cursor=abc"), 400, "", "bad-cursor"},
		{"POST", strings.Replace(sseRequest(good), "GET", "POST", 1), 405, "", "method-not-allowed"},
		{"body", sseRequest(good, "Content-Length: 1") + "x", 400, "", "bad-request"},
		{"too many, of a program", strings.Replace(sseRequest("token="+token("full", time.Hour)), "Accept: text/event-stream", "Accept: */*", 1), 429, "", "too-many-connections"},
		{"too many, of an EventSource", sseRequest("token=" + token("full", time.Hour)), 200, "", "too_many_connections"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := sseAsk(t, g, tt.request)
			defer c.nc.Close()
			if got := c.resp.Header.Get("Access-Control-Allow-Origin"); c.resp.StatusCode != tt.status || got != tt.cors {
				t.Fatalf("got %d %v, want %d, and origin %q", c.resp.StatusCode, c.resp.Header, tt.status, tt.cors)
			}
			if got := c.resp.Header.Get("Access-Control-Allow-Credentials"); (got == "true") != (tt.cors != "") {
				t.Errorf("credentials: %q, for origin %q", got, tt.cors)
			}
			switch {
			case tt.status == 204:
			case tt.status != 200:
				body, _ := io.ReadAll(c.resp.Body)
				if !strings.Contains(string(body), "urn:eventstream:problem:"+tt.code) {
					t.Errorf("got %s, want %s", body, tt.code)
				}
			case tt.code != "":
				if m := c.message(); m.Type != wire.Error || m.Code != tt.code || c.Retry < 10_000 || c.Last != "" {
					t.Errorf("got %+v, retry %d, id %q; want %s", m, c.Retry, c.Last, tt.code)
				}
				if _, err := c.Next(); err != io.EOF {
					t.Errorf("then %v, want the end", err)
				}
			default:
				if m := c.message(); m.Type != wire.Hello {
					t.Errorf("got %+v, want hello", m)
				}
				testenv.Eventually(t, 5*time.Second, func() error { // what one has left is open to the next
					c.nc.Close()
					if n := g.gate.open.Load(); n > 1 {
						return fmt.Errorf("%d open", n)
					}
					return nil
				})
			}
		})
	}
	first.nc.Close()
	noneOpen(t, g)
}

// A page whose name was pointed at this machine asks without an Origin: it is of
// the same host, as its browser sees it. So does <script src> on any page.
func TestSSEOfPages(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{Origins: origins(t, "https://app.example.org")})
	for _, tt := range []struct {
		host, lines string
		status      int
	}{
		{"evil.example", "", 403},
		{"evil.example", "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n", 403},
		{"localhost", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n", 403},
		{"localhost", "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n", 403},
		{"localhost", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", 403},
		{"localhost", "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n", 200}, // an EventSource
		{"localhost", "Origin: https://app.example.org\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n", 200},
		{"localhost", "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", 200}, // typed in
	} {
		r := strings.Replace(sseRequest("subscriber_id=user_1"), "Host: localhost\r\n", "Host: "+tt.host+"\r\n"+tt.lines, 1)
		c := sseAsk(t, g, r)
		if c.resp.StatusCode != tt.status {
			t.Errorf("host %s, %q: got %d, want %d", tt.host, tt.lines, c.resp.StatusCode, tt.status)
		}
		c.nc.Close()
	}
	noneOpen(t, g)
}

// A stream's end names its reason, and then the connection ends.
func TestSSEEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g, token := guarded(t, w, Config{})
	short := "token=" + token("user_1", 2*time.Second)
	c, _ := sseConnect(t, g, short, "")
	c.until("token", func(m wire.Message) bool { return m.Type == wire.Token })
	m := c.until("close", func(m wire.Message) bool { return m.Type == wire.Close })
	if m.CloseCode != wire.CloseExpired || m.Reason == "" || c.Last == "" {
		t.Errorf("got %+v, last event ID %q; want %d and a cursor", m, c.Last, wire.CloseExpired)
	}
	if _, err := c.Next(); err != io.EOF {
		t.Errorf("then %v, want the end", err)
	}
	if c := sseAsk(t, g, sseRequest(short, "Last-Event-ID: "+c.Last)); c.resp.StatusCode != 401 {
		t.Errorf("with the same token again: %d, want 401, which an EventSource takes for an answer", c.resp.StatusCode)
	}
	stays, _ := sseConnect(t, g, "token="+token("user_1", time.Hour), c.Last)
	stays.Retry = -1
	go g.stop()
	if m := stays.until("close", func(m wire.Message) bool { return m.Type == wire.Close }); m.CloseCode != wire.CloseDrain || stays.Retry < 0 {
		t.Errorf("got %+v, retry %d; want %d, and when to come back", m, stays.Retry, wire.CloseDrain)
	}
	if _, err := stays.Next(); err != io.EOF {
		t.Errorf("then %v, want the end", err)
	}
}

// Whatever the client says, or that it says no more, ends a stream.
func TestSSEClientSays(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	for name, say := range map[string]func(c *sseClient){
		"bytes":           func(c *sseClient) { c.sendBytes([]byte("x")) },
		"another request": func(c *sseClient) { c.sendBytes([]byte(sseRequest("subscriber_id=user_1"))) },
		"half-close": func(c *sseClient) {
			if err := c.nc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		c, _ := sseConnect(t, g, "subscriber_id=user_1", "")
		say(c)
		if err := c.ended(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	noneOpen(t, g)
}

// A quiet stream has comments and cursors; nobody answers them, and it stays open.
func TestSSEQuiet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.beats()
	g := w.gateway(Config{Heartbeat: time.Second})
	c, _ := sseConnect(t, g, "subscriber_id=user_1", "")
	other := w.publish(0, "user_2")
	at, _ := event.ParseID(other)
	beats := 0
	c.until("cursors", func(m wire.Message) bool {
		if m.Type == wire.Cursor {
			beats++
		}
		return beats == 5 // twice as long as a dead client would be kept
	})
	if cur, err := event.ParseCursor(c.Last); err != nil || cur.Next[0] != at.Offset+1 {
		t.Errorf("cursor %+v, %v; want after %s", cur, err, other)
	}
	if !slices.Contains(c.Lines, ":") {
		t.Errorf("no comment among %q", c.Lines)
	}
}
