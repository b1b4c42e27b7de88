package gateway

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"eventstream/auth"
	"eventstream/wire"
)

const testSecret = "a-secret-of-at-least-32-characters"

// guarded returns a gateway that asks for tokens, and a maker of them.
func guarded(t testing.TB, w *world, cfg Config) (*instance, func(subscriber string, life time.Duration) string) {
	t.Helper()
	keys, err := auth.ParseSecrets(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Tokens, err = auth.NewVerifier(auth.Config{Keys: keys, Terms: auth.Terms{Audience: []string{"events"}}}); err != nil {
		t.Fatal(err)
	}
	return w.gateway(cfg), func(subscriber string, life time.Duration) string {
		return mint(t, testSecret, "events", subscriber, life)
	}
}

func mint(t testing.TB, secret, audience, subscriber string, life time.Duration) string {
	t.Helper()
	keys, err := auth.ParseSecrets(secret)
	if err != nil {
		t.Fatal(err)
	}
	s, err := auth.NewSigner(keys, auth.Terms{Audience: []string{audience}})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := s.Sign(subscriber, life)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// withToken is request with a query and further header lines.
func withToken(query, header string) string {
	r := strings.Replace(request("x", ""), "/ws?subscriber_id=x", "/ws?"+query, 1)
	if header != "" {
		r = strings.Replace(r, "\r\n\r\n", "\r\n"+header+"\r\n\r\n", 1)
	}
	return r
}

func TestDoor(t *testing.T) {
	w := newWorld(t, 1)
	g, token := guarded(t, w, Config{})
	good := token("user_1", time.Hour)
	for _, tt := range []struct {
		name, request string
		status        int
		code, detail  string
	}{
		{"header", withToken("", "Authorization: Bearer "+good), 101, "", ""},
		{"header, odd case", withToken("", "authorization: bearer   "+good), 101, "", ""},
		{"query", withToken("token="+good, ""), 101, "", ""},
		{"subprotocol", withToken("", "Sec-WebSocket-Protocol: eventstream.v1, bearer."+good), 101, "", ""},
		{"subprotocol in two lines", withToken("", "Sec-WebSocket-Protocol: bearer."+good+"\r\nSec-WebSocket-Protocol: eventstream.v1"), 101, "", ""},
		{"own subscriber_id", withToken("subscriber_id=user_1&token="+good, ""), 101, "", ""},

		{"no token", withToken("subscriber_id=user_1", ""), 401, "unauthorized", "a token is needed"},
		{"empty token", withToken("token=", ""), 401, "unauthorized", "not a signed JWT"},
		{"no token in the header", withToken("", "Authorization: Bearer"), 401, "unauthorized", "want Bearer"},
		{"another scheme", withToken("", "Authorization: Basic dTpw"), 401, "unauthorized", "want Bearer"},
		{"no JWT", withToken("token=abc", ""), 401, "unauthorized", "not a signed JWT"},
		{"alg none", withToken("token=eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyXzEiLCJleHAiOjk5OTk5OTk5OTl9.", ""), 401, "unauthorized", "not a signed JWT"},
		{"another secret", withToken("token="+mint(t, strings.Repeat("x", 40), "events", "user_1", time.Hour), ""), 401, "unauthorized", "not signed by a key"},
		{"another audience", withToken("token="+mint(t, testSecret, "other", "user_1", time.Hour), ""), 401, "unauthorized", "aud"},
		{"a large token", withToken("token="+strings.Repeat("a", 30000), ""), 401, "unauthorized", "30000 bytes; at most 16384"},
		{"a page behind a proxy that asks for Basic", withToken("subscriber_id=user_2&token="+good, "Authorization: Basic YTpi"), 403, "other-subscriber", "another subscriber's"},
		{"Basic alone", withToken("", "Authorization: Basic YTpi"), 401, "unauthorized", "want Bearer"},
		{"two places", withToken("token="+good, "Authorization: Bearer "+good), 400, "bad-token", "2 tokens"},
		{"two headers", withToken("", "Authorization: Bearer "+good+"\r\nAuthorization: Bearer "+good), 400, "bad-token", "2 tokens"},
		{"two parameters", withToken("token="+good+"&token="+good, ""), 400, "bad-token", "2 tokens"},
		{"subprotocol without its name", withToken("", "Sec-WebSocket-Protocol: bearer."+good), 400, "bad-protocol", "eventstream.v1"},
		{"another subscriber", withToken("subscriber_id=user_2&token="+good, ""), 403, "other-subscriber", "another subscriber's"},
		{"another subscriber behind our own", withToken("subscriber_id=user_1&subscriber_id=user_2&token="+good, ""), 400, "bad-query", "2 times"},
		{"a sub that is no id", withToken("token="+token("user 1", time.Hour), ""), 403, "bad-subscriber", "can't be"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, problem := askRaw(t, g, tt.request)
			if resp.StatusCode != tt.status {
				t.Fatalf("status: got %d %v, want %d", resp.StatusCode, problem, tt.status)
			}
			if tt.status == 101 {
				if asked, got := strings.Contains(tt.request, "Protocol"), resp.Header.Get("Sec-WebSocket-Protocol"); asked != (got == "eventstream.v1") {
					t.Errorf("subprotocol %q, asked for one: %t", got, asked)
				}
				return
			}
			if detail, _ := problem["detail"].(string); problem["type"] != "urn:eventstream:problem:"+tt.code || !strings.Contains(detail, tt.detail) {
				t.Errorf("got %v, want %s, %q", problem, tt.code, tt.detail)
			}
			if tt.status == 401 && !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("WWW-Authenticate %q", resp.Header.Get("WWW-Authenticate"))
			}
		})
	}
	noneOpen(t, g)
	if logs := g.logs.String(); strings.Contains(logs, good[len(good)-20:]) {
		t.Errorf("a token is in the log:\n%s", logs)
	}
}

// connectToken connects with a token alone.
func connectToken(t testing.TB, g *instance, token, cursor string) *wsClient {
	t.Helper()
	q := url.Values{"token": {token}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return connectURL(t, "http://"+g.addr+"/ws?"+q.Encode(), "user_1")
}

func TestTokenExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g, token := guarded(t, w, Config{})
	c := connectToken(t, g, token("user_1", 2*time.Second), "")
	told := c.untilType(wire.Token)
	if left := time.Until(time.Unix(told.Expires, 0)); left > 2*time.Second || left < -time.Second {
		t.Errorf("told that the token ends in %v, want 2s at most", left)
	}
	id := w.publish(0, "user_1")
	c.untilEvent(id)
	if code := c.untilClose(8 * time.Second); code != wire.CloseExpired {
		t.Fatalf("closed with %d, want %d", code, wire.CloseExpired)
	}
	if late := time.Since(time.Unix(told.Expires, 0)); late < 0 || late > 3*time.Second {
		t.Errorf("closed %v after the end of the token", late)
	}
	// With the next token the client goes on where it was.
	missed := w.publish(0, "user_1")
	c = connectToken(t, g, token("user_1", time.Hour), c.cursor)
	c.untilEvent(missed)
}

func TestTokenRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g, token := guarded(t, w, Config{})
	c := connectToken(t, g, token("user_1", 2*time.Second), "")
	first := c.untilType(wire.Token).Expires
	for _, tt := range []struct{ name, token, want string }{
		{"no token", "abc", "not a signed JWT"},
		{"another's", token("user_2", time.Hour), "another subscriber's"},
		{"another key's", mint(t, strings.Repeat("x", 40), "events", "user_1", time.Hour), "not signed"},
	} {
		c.send(`{"type":"token","token":"` + tt.token + `"}`)
		if m := c.untilType(wire.Error); m.Code != "bad_token" || !strings.Contains(m.Text, tt.want) {
			t.Errorf("%s: %+v, want %q", tt.name, m, tt.want)
		}
	}
	c.send(`{"type":"token","token":"` + token("user_1", time.Hour) + `"}`)
	if got := c.untilType(wire.Token).Expires; got-first < 3000 {
		t.Errorf("the new token ends at %d, the old one at %d", got, first)
	}
	// Past the end of the first one events still come.
	testUntil(t, time.Unix(first+2, 0))
	c.untilEvent(w.publish(0, "user_1"))
}

// testUntil waits for a time to come, which nothing tells.
func testUntil(t testing.TB, at time.Time) {
	t.Helper()
	select {
	case <-time.After(time.Until(at)):
	case <-t.Context().Done():
	}
}

func TestTokenNotAsked(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "")
	c.send(`{"type":"token","token":"abc"}`)
	if m := c.untilType(wire.Error); !strings.Contains(m.Text, "asks for no tokens") {
		t.Errorf("%+v", m)
	}
}

// A cursor gives nothing of another subscriber's away.
func TestTokenAndAnothersCursor(t *testing.T) {
	w := newWorld(t, 1)
	w.beats()
	g, token := guarded(t, w, Config{})
	other := connectURL(t, "http://"+g.addr+"/ws?token="+token("user_2", time.Hour), "user_2")
	secret := w.publish(0, "user_2")
	cursor := other.hello.Cursor
	other.untilEvent(secret)
	c := connectToken(t, g, token("user_1", time.Hour), cursor)
	if c.hello.Resumed {
		t.Error("resumed from another's cursor")
	}
	id := w.publish(0, "user_1")
	c.untilEvent(id)
	wantIDs(t, c, id)
}

// A browser's way in: it can set no header but the subprotocols.
func TestTokenOfBrowser(t *testing.T) {
	w := newWorld(t, 1)
	g, token := guarded(t, w, Config{Origins: origins(t, "https://app.example.org")})
	ws, _, err := websocket.Dial(t.Context(), "http://"+g.addr+"/ws", &websocket.DialOptions{
		HTTPClient: oneShot, Subprotocols: []string{"eventstream.v1", "bearer." + token("user_1", time.Hour)},
		HTTPHeader: http.Header{"Origin": {"https://app.example.org"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if ws.Subprotocol() != "eventstream.v1" {
		t.Errorf("subprotocol %q", ws.Subprotocol())
	}
}

// Tokens that can't be checked now say nothing of whose they are.
func TestTokenNoKeysYet(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{Tokens: noKeys{}})
	resp, _ := askRaw(t, g, withToken("token=abc", ""))
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %d %v, want 503 with Retry-After", resp.StatusCode, resp.Header)
	}
}

type noKeys struct{}

func (noKeys) Verify(context.Context, string) (auth.Claims, error) {
	return auth.Claims{}, auth.ErrNoKeysYet
}
