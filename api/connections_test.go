package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"eventstream/api"
	"eventstream/auth"
	"eventstream/event"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/store"
)

// gateways is what lanes answers for them.
type gateways struct {
	told    []lane.Order
	answers []lane.Answer
	silent  []event.Gateway
	err     error
}

func (l *lanes) Tell(_ context.Context, o lane.Order) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, o)
	return l.gateways.err
}

func (l *lanes) Ask(ctx context.Context, o lane.Order, _ time.Duration) ([]lane.Answer, []event.Gateway, error) {
	err := l.Tell(ctx, o)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers, l.silent, err
}

// orders returns what the gateways were told since the last time, as JSON.
func (l *lanes) orders() (text string) {
	l.set(func(l *lanes) {
		b, _ := json.Marshal(l.told)
		text, l.told = string(b), nil
	})
	return text
}

func TestConnections(t *testing.T) {
	l := oneShard()
	s := startBeside(t, api.Config{}, &store.Memory{}, &publisher{}, l)
	list := func(want string) {
		t.Helper()
		a := s.do("GET", "/connections?subscriber_id=ada", "")
		if a.status != 200 || strings.TrimSpace(a.body) != want {
			t.Errorf("GET /connections: %d %s\nwant %s", a.status, a.body, want)
		}
	}
	list(`{"connections":[],"total":0,"silent_gateways":[]}`)
	want(t, "order", l.orders(), `[{"task":"list","subscriber":"ada"}]`)
	l.set(func(l *lanes) {
		l.answers = []lane.Answer{
			{Gateway: 0xbeef, Total: 2000, Connections: []lane.Connection{{Seat: 12, Subscriber: "ada", Opened: 1767225600, Heard: 1767225700, Expires: 1767229200}}},
			{Gateway: 1, Total: 1, Connections: []lane.Connection{{Seat: 3, Subscriber: "ada", Opened: 1767225500, Heard: 1767225500}}},
		}
		l.silent = []event.Gateway{7}
	})
	list(`{"connections":[` +
		`{"id":"0000000000000001-3","subscriber_id":"ada","gateway":"0000000000000001","connected_at":"2025-12-31T23:58:20Z","heard_at":"2025-12-31T23:58:20Z"},` +
		`{"id":"000000000000beef-12","subscriber_id":"ada","gateway":"000000000000beef","connected_at":"2026-01-01T00:00:00Z","heard_at":"2026-01-01T00:01:40Z","token_expires":"2026-01-01T01:00:00Z"}],` +
		`"total":2001,"silent_gateways":["0000000000000007"]}`)

	l.orders()
	for _, tt := range []struct {
		name, path    string
		set           func(*lanes)
		status        int
		body, problem string
		order         string
	}{
		{"all of one, and one silent gateway", "/connections?subscriber_id=ada", func(*lanes) {}, 202, `{"disconnected":2001,"silent_gateways":["0000000000000007"]}`, "", `[{"task":"close","subscriber":"ada"}]`},
		{"one of a silent gateway", "/connections/000000000000beef-12", func(*lanes) {}, 503, "", "gateways-unreachable", `[{"task":"close","address":{"Gateway":48879,"Seat":12}}]`},
		{"one", "/connections/000000000000beef-12", func(l *lanes) { l.silent, l.answers = nil, l.answers[:1] }, 204, "", "", `[{"task":"close","address":{"Gateway":48879,"Seat":12}}]`},
		{"all of one", "/connections?subscriber_id=ada", func(*lanes) {}, 200, `{"disconnected":2000,"silent_gateways":[]}`, "", `[{"task":"close","subscriber":"ada"}]`},
		{"one that has ended", "/connections/000000000000beef-12", func(l *lanes) { l.answers = []lane.Answer{{Gateway: 0xbeef}} }, 404, "", "connection-not-found", `[{"task":"close","address":{"Gateway":48879,"Seat":12}}]`},
		{"one of a gateway that has ended", "/connections/000000000000beef-12", func(l *lanes) { l.answers = nil }, 404, "", "connection-not-found", `[{"task":"close","address":{"Gateway":48879,"Seat":12}}]`},
		{"no id", "/connections/12", func(*lanes) {}, 404, "", "connection-not-found", `null`},
		{"an odd spelling", "/connections/000000000000BEEF-12", func(*lanes) {}, 404, "", "connection-not-found", `null`},
		{"nobody's", "/connections", func(*lanes) {}, 400, "", "bad-query", `null`},
		{"of no subscriber", "/connections?subscriber_id=a%20b", func(*lanes) {}, 400, "", "bad-query", `null`},
		{"one, with a query", "/connections/000000000000beef-12?force=1", func(*lanes) {}, 400, "", "bad-query", `null`},
		{"Redis is away", "/connections?subscriber_id=ada", func(l *lanes) { l.gateways.err = errors.New("away") }, 503, "", "gateways-unreachable", `[{"task":"close","subscriber":"ada"}]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l.set(tt.set)
			a := s.do("DELETE", tt.path, "")
			if a.status != tt.status || tt.problem == "" && strings.TrimSpace(a.body) != tt.body || tt.problem != "" && !strings.Contains(a.body, `"urn:eventstream:problem:`+tt.problem+`"`) {
				t.Errorf("%d %s, want %d %s%s", a.status, a.body, tt.status, tt.body, tt.problem)
			}
			want(t, "order", l.orders(), tt.order)
		})
	}
}

func TestRevoke(t *testing.T) {
	l, kept := oneShard(), &store.Memory{}
	keys := &keyring{}
	admin := []string{"Authorization", "Bearer " + keys.create(t, auth.ScopeAdmin)}
	s := startAll(t, api.Config{Keys: keys}, kept, &publisher{}, l, nil)
	testenv.Eventually(t, 5*time.Second, func() error { return status(s.do("GET", "/filters", "", admin...), 200) })
	year := time.Now().Add(auth.MaxLifetime)
	for _, tt := range []struct {
		name, path string
		status     int
		says       string
		want       auth.Revocation // Expires: at least
	}{
		{"a subscriber", "/subscribers/k%C3%A4the/tokens", 204, "", auth.Revocation{Subscriber: "käthe", Expires: year}},
		{"a token", "/tokens/a%2Fb%20c", 204, "", auth.Revocation{TokenID: "a/b c", Expires: year}},
		{"a token whose end is known", "/tokens/t1?expires=32503680000", 204, "", auth.Revocation{TokenID: "t1", Expires: time.Unix(32503680000, 0)}},
		{"a token without end", "/tokens/t1?expires=253402300799", 204, "", auth.Revocation{TokenID: "t1", Expires: time.Unix(253402300799, 0)}},
		{"an end past all years", "/tokens/t1?expires=253402300800", 400, "Unix seconds", auth.Revocation{}},
		{"an end past all numbers", "/tokens/t1?expires=9223372036854775808", 400, "Unix seconds", auth.Revocation{}},
		{"an end before all", "/tokens/t1?expires=-1", 400, "Unix seconds", auth.Revocation{}},
		{"no subscriber", "/subscribers/a%20b/tokens", 400, "bad-subscriber", auth.Revocation{}},
		{"a subscriber, with a query", "/subscribers/ada/tokens?expires=1", 400, "bad-query", auth.Revocation{}},
		{"a control character", "/tokens/a%00b", 400, "bad-token-id", auth.Revocation{}},
		{"broken UTF-8", "/tokens/%ff", 400, "bad-token-id", auth.Revocation{}},
		{"long", "/tokens/" + strings.Repeat("a", 257), 400, "at most 256", auth.Revocation{}},
		{"an end that is none", "/tokens/t1?expires=tomorrow", 400, "Unix seconds", auth.Revocation{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do("DELETE", tt.path, "", admin...)
			if a.status != tt.status || !strings.Contains(a.body, tt.says) {
				t.Errorf("%d %s, want %d %s", a.status, a.body, tt.status, tt.says)
			}
			var orders []lane.Order
			l.set(func(l *lanes) { orders, l.told = l.told, nil })
			if tt.status != 204 {
				if len(orders) > 0 {
					t.Errorf("told %+v", orders)
				}
				return
			}
			if len(orders) != 1 || orders[0].Task != lane.TaskRevoke {
				t.Fatalf("told %+v", orders)
			}
			got := *orders[0].Revocation
			if got.Subscriber != tt.want.Subscriber || got.TokenID != tt.want.TokenID || got.Expires.Before(tt.want.Expires) || time.Since(got.At) > time.Minute {
				t.Errorf("told %+v, want %+v", got, tt.want)
			}
			if got.Expires.Location() != time.UTC && got.Expires.Year() == 9999 {
				t.Errorf("told %v: east of here that is a year that JSON can't have", got.Expires)
			}
			if !slices.Contains(revocations(t, kept), got) {
				t.Errorf("%+v is not stored", got)
			}
		})
	}

	l.set(func(l *lanes) { l.gateways.err = errors.New("away") })
	before := len(revocations(t, kept))
	if a := s.do("DELETE", "/tokens/t3", "", admin...); a.status != 202 || !strings.Contains(a.body, `"applied":false`) || len(revocations(t, kept)) != before+1 {
		t.Errorf("without Redis: %d %s", a.status, a.body)
	}
}

func revocations(t *testing.T, s *store.Memory) (all []auth.Revocation) {
	t.Helper()
	if _, err := s.RevocationsSince(t.Context(), "", func(r auth.Revocation) error { all = append(all, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}
