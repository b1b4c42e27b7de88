package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// A parameter that is not known may be a misspelt wish: it is refused, by name.
func TestUnknownParameters(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	for _, tt := range []struct{ query, ws, sse string }{ // what is wrong; "" for nothing
		{"subscriber_id=user_1", "", ""},
		{"subscriber_id=user_1&cursor=&since=&durable=false", "", ""},
		{"subscriber_id=user_1&sinse=1h", `"sinse" is not known`, `"sinse" is not known`},
		{"subscriber_id=user_1&Cursor=x", `"Cursor" is not known`, `"Cursor" is not known`},
		{"subscriber_id=user_1&=x", "is not known", "is not known"},
		{"subscriber_id=user_1&subscriber_id=user_2", "2 times", "2 times"},
		{"subscriber_id=user_1&cursor=&cursor=", "2 times", "2 times"},
		{"subscriber_id=user_1;cursor=x", "semicolon", "semicolon"},
		{"subscriber_id=%zz", "escape", "escape"},
		{"subscriber_id=user_1&lastEventId=", `"lastEventId" is not known`, ""},
		{"subscriber_id=user_1&lastEventId=abc", `"lastEventId" is not known`, "query parameter lastEventId"},
	} {
		for _, at := range []struct{ path, wrong string }{{"/ws", tt.ws}, {"/sse", tt.sse}} {
			text, good := strings.Replace(request("user_1", ""), "/ws?subscriber_id=user_1", "/ws?"+tt.query, 1), http.StatusSwitchingProtocols
			if at.path == "/sse" {
				text, good = sseRequest(tt.query), http.StatusOK
			}
			c := sseAsk(t, g, text)
			if at.wrong == "" {
				if c.resp.StatusCode != good {
					t.Errorf("%s?%s: %s", at.path, tt.query, c.resp.Status)
				}
			} else if body, _ := io.ReadAll(c.resp.Body); c.resp.StatusCode != http.StatusBadRequest || !strings.Contains(strings.ReplaceAll(string(body), `\"`, `"`), at.wrong) {
				t.Errorf("%s?%s: %s %s, want 400 with %q", at.path, tt.query, c.resp.Status, body, at.wrong)
			}
			c.nc.Close()
		}
	}
}

// A client that can send no header passes the last id in the URL that it had, whatever
// that said of where to begin. A header is newer still.
func TestLastEventIDInQuery(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := sseAsk(t, g, sseRequest("subscriber_id=user_1"))
	c.message()
	start := c.Last
	first := w.publish(0, "user_1")
	c.message()
	if c.Last == start {
		t.Fatal("no cursor came with the event")
	}
	c.nc.Close()
	second := w.publish(0, "user_1")
	for _, tt := range []struct {
		query, header, want string
	}{
		{"lastEventId=" + start, "", first},
		{"lastEventID=" + c.Last, "", second},
		{"Last-Event-ID=" + c.Last, "", second},
		{"cursor=" + start + "&lastEventId=" + c.Last, "", second},
		{"cursor=nonsense&lastEventId=" + c.Last, "", second},
		{"since=1h&lastEventId=" + c.Last, "", second},
		{"lastEventId=" + start, "Last-Event-ID: " + c.Last, second},
	} {
		var headers []string
		if tt.header != "" {
			headers = append(headers, tt.header)
		}
		r := sseAsk(t, g, sseRequest("subscriber_id=user_1&"+tt.query, headers...))
		if m := r.message(); !m.Resumed {
			body, _ := io.ReadAll(r.resp.Body)
			t.Errorf("%s, %s: %+v %s, want resumed", tt.query, tt.header, m, body)
		}
		if m := r.message(); len(m.Events) == 0 || m.Events[0].ID != tt.want {
			t.Errorf("%s, %s: %+v, want %s", tt.query, tt.header, m, tt.want)
		}
		r.nc.Close()
	}
}
