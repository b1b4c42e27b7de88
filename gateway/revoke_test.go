package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/store"
	"eventstream/wire"
)

// minted makes a token, and tells what it says.
func minted(t testing.TB, subscriber string) (string, auth.Claims) {
	t.Helper()
	keys, _ := auth.ParseSecrets(testSecret)
	s, err := auth.NewSigner(keys, auth.Terms{Audience: []string{"events"}})
	if err != nil {
		t.Fatal(err)
	}
	token, claims, err := s.Sign(subscriber, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token, claims
}

func revocationOf(r auth.Revocation) lane.Order {
	r.Expires = time.Now().Add(time.Hour)
	return lane.Order{Task: lane.TaskRevoke, Revocation: &r}
}

// order gives an order and waits until the gateways have carried it out.
func (w *world) order(o lane.Order) []lane.Answer {
	w.t.Helper()
	answers, silent, err := w.store.Ask(context.Background(), o, 10*time.Second)
	if err != nil || len(silent) > 0 {
		w.t.Fatalf("order %+v: silent %v, %v", o, silent, err)
	}
	return answers
}

// A revocation takes effect on open sockets, whichever way it comes, and on those
// alone that it concerns.
func TestRevoke(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		way  func(w *world, s *store.Memory, r auth.Revocation)
	}{
		{"as an order", func(w *world, _ *store.Memory, r auth.Revocation) { w.order(revocationOf(r)) }},
		{"in the database", func(w *world, s *store.Memory, r auth.Revocation) {
			s.Revoke(context.Background(), *revocationOf(r).Revocation)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, s := newWorld(t, 1), &store.Memory{}
			g, token := guarded(t, w, Config{Revocations: s})
			one, claims := minted(t, "user_1")
			first, second := connectToken(t, g, one, ""), connectToken(t, g, token("user_1", time.Hour), "")
			other := connectURL(t, "http://"+g.addr+"/ws?token="+token("user_2", time.Hour), "user_2")

			tt.way(w, s, auth.Revocation{TokenID: claims.ID})
			if code := first.untilClose(8 * time.Second); code != wire.CloseNotAllowed {
				t.Errorf("the token was revoked: closed with %d", code)
			}
			resp, problem := askRaw(t, g, withToken("token="+one, ""))
			if resp.StatusCode != 401 || !strings.Contains(fmt.Sprint(problem["detail"]), "revoked") || !strings.Contains(resp.Header.Get("WWW-Authenticate"), "invalid_token") {
				t.Errorf("connecting with it again: %d %v", resp.StatusCode, problem)
			}
			second.send(`{"type":"token","token":"` + one + `"}`)
			if m := second.untilType(wire.Error); m.Code != "bad_token" || !strings.Contains(m.Text, "revoked") {
				t.Errorf("going over to it: %+v", m)
			}

			old := token("user_1", time.Hour)
			tt.way(w, s, auth.Revocation{Subscriber: "user_1", At: time.Now()})
			if code := second.untilClose(8 * time.Second); code != wire.CloseNotAllowed {
				t.Errorf("the subscriber was revoked: closed with %d", code)
			}
			if resp, _ := askRaw(t, g, withToken("token="+old, "")); resp.StatusCode != 401 {
				t.Errorf("connecting with a token from before: %d", resp.StatusCode)
			}
			testUntil(t, time.Now().Add(2*time.Millisecond)) // tokens say when they were issued to the millisecond
			again := connectToken(t, g, token("user_1", time.Hour), second.cursor)
			id := w.publish(0, "user_1", "user_2")
			again.untilEvent(id)
			other.untilEvent(id)
			if got := metric(t, g, "revoked_clients_closed_total"); got != "revoked_clients_closed_total 2" {
				t.Error(got)
			}
		})
	}
}

// A token that was put in the place of another is the one that counts.
func TestRevokeAfterRenewal(t *testing.T) {
	w := newWorld(t, 1)
	g, _ := guarded(t, w, Config{})
	one, before := minted(t, "user_1")
	two, after := minted(t, "user_1")
	c := connectToken(t, g, one, "")
	c.untilType(wire.Token)
	c.send(`{"type":"token","token":"` + two + `"}`)
	c.untilType(wire.Token)
	w.order(revocationOf(auth.Revocation{TokenID: before.ID}))
	c.untilEvent(w.publish(0, "user_1"))
	w.order(revocationOf(auth.Revocation{TokenID: after.ID}))
	if code := c.untilClose(5 * time.Second); code != wire.CloseNotAllowed {
		t.Errorf("closed with %d", code)
	}
}

// slowDoor is a store that does something while a client joins.
type slowDoor struct {
	*lane.Memory
	joins func()
}

func (s *slowDoor) Announce(ctx context.Context, a lane.Announcement) (lane.ControlID, error) {
	if len(a.Joined) > 0 {
		s.joins()
	}
	return s.Memory.Announce(ctx, a)
}

// A handshake that has shown its token, and is not through yet, is concerned too.
func TestRevokeDuringHandshake(t *testing.T) {
	w := newWorld(t, 1)
	token, claims := minted(t, "user_1")
	door := &slowDoor{w.store, func() { w.order(revocationOf(auth.Revocation{TokenID: claims.ID})) }}
	keys, _ := auth.ParseSecrets(testSecret)
	verifier, err := auth.NewVerifier(auth.Config{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, Config{Tokens: verifier}, door)
	c := connectToken(t, g, token, "")
	if code := c.untilClose(5 * time.Second); code != wire.CloseNotAllowed {
		t.Errorf("closed with %d", code)
	}
	noneOpen(t, g)
}

// late is a database that can't be read at first.
type late struct {
	store.Memory
	there atomic.Bool
}

func (l *late) RevocationsSince(ctx context.Context, m filter.Mark, each func(auth.Revocation) error) (filter.Mark, error) {
	if !l.there.Load() {
		return "", errors.New("connection refused")
	}
	return l.Memory.RevocationsSince(ctx, m, each)
}

// A gateway takes nobody before it knows which tokens are revoked; one that knows
// goes on without the database.
func TestRevocationsAtStart(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t, 1), &late{}
	token, claims := minted(t, "user_1")
	s.Revoke(t.Context(), auth.Revocation{TokenID: claims.ID, Expires: time.Now().Add(time.Hour)})
	keys, _ := auth.ParseSecrets(testSecret)
	verifier, err := auth.NewVerifier(auth.Config{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	g := launchGateway(t, Config{Tokens: verifier, Revocations: s}, w.store)
	testenv.Eventually(t, 5*time.Second, func() error {
		if err := g.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "which tokens are revoked") {
			return fmt.Errorf("Ready = %v", err)
		}
		return nil
	})
	good, _ := minted(t, "user_1")
	if resp, _ := askRaw(t, g, withToken("token="+good, "")); resp.StatusCode != 503 {
		t.Errorf("status %d before it knows, want 503", resp.StatusCode)
	}
	s.there.Store(true)
	started(g)
	s.there.Store(false)
	if resp, _ := askRaw(t, g, withToken("token="+token, "")); resp.StatusCode != 401 {
		t.Errorf("a revoked token: %d", resp.StatusCode)
	}
	connectToken(t, g, good, "")
}

// Where nobody is asked for a token, none can be revoked.
func TestRevokeWithoutTokens(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "")
	w.order(revocationOf(auth.Revocation{Subscriber: "user_1", At: time.Now()}))
	c.untilEvent(w.publish(0, "user_1"))
}

func TestListAndDisconnect(t *testing.T) {
	w := newWorld(t, 1)
	began := time.Now().Unix()
	g, token := guarded(t, w, Config{})
	expiring, claims := minted(t, "user_1")
	a, b := connectToken(t, g, expiring, ""), connectToken(t, g, token("user_1", time.Hour), "")
	other := connectURL(t, "http://"+g.addr+"/ws?token="+token("user_2", time.Hour), "user_2")
	gone := connectToken(t, g, token("user_1", time.Hour), "")
	gone.ws.CloseNow()
	testenv.Eventually(t, 10*time.Second, func() error {
		if n := g.gate.open.Load(); n != 3 {
			return fmt.Errorf("%d are open", n)
		}
		return nil
	})

	list := func(subscriber string) []lane.Connection {
		t.Helper()
		answers := w.order(lane.Order{Task: lane.TaskList, Subscriber: subscriber})
		if len(answers) != 1 || answers[0].Gateway != g.id || answers[0].Total != len(answers[0].Connections) {
			t.Fatalf("answers %+v", answers)
		}
		return answers[0].Connections
	}
	open := list("user_1")
	slices.SortFunc(open, func(a, b lane.Connection) int { return int(a.Seat) - int(b.Seat) })
	if len(open) != 2 {
		t.Fatalf("listed %+v, want the two that are open", open)
	}
	now := time.Now().Unix()
	if c := open[0]; c.Subscriber != "user_1" || c.Opened < began || c.Opened > now || c.Heard < began || c.Heard > now || c.Expires != claims.Expires.Unix() {
		t.Errorf("listed %+v, at %d", c, now)
	}
	if got := list("user_3"); len(got) != 0 {
		t.Errorf("nobody's: %+v", got)
	}

	closing := func(o lane.Order, want int) {
		t.Helper()
		o.Task = lane.TaskClose
		if answers := w.order(o); len(answers) != 1 || answers[0].Total != want {
			t.Errorf("%+v: answers %+v, want %d closed", o, answers, want)
		}
	}
	at := func(seat event.Seat) lane.Order {
		return lane.Order{Address: &event.Address{Gateway: g.id, Seat: seat}}
	}
	closing(at(open[0].Seat), 1)
	closing(at(open[0].Seat), 0)
	closing(at(12345), 0)
	wantOperator(t, a)
	closing(lane.Order{Subscriber: "user_1"}, 1)
	wantOperator(t, b)
	closing(lane.Order{Subscriber: "user_1"}, 0)
	other.untilEvent(w.publish(0, "user_2"))
	connectToken(t, g, token("user_1", time.Hour), a.cursor) // its token still counts
	if answers := w.order(lane.Order{Task: "dance", Subscriber: "user_1"}); len(answers) != 1 || answers[0].Total != 0 {
		t.Errorf("a task that is not known: %+v", answers)
	}
}

func wantOperator(t *testing.T, c *wsClient) {
	t.Helper()
	_, err := c.read(5 * time.Second)
	for err == nil {
		_, err = c.read(5 * time.Second)
	}
	closed, ok := errors.AsType[websocket.CloseError](err)
	if !ok || closed.Code != wire.CloseNotAllowed || !strings.Contains(closed.Reason, "operator") {
		t.Errorf("closed with %v", err)
	}
}

// A stream of server-sent events ends with the same code, and its EventSource, which
// comes back by itself, gets an answer that ends that.
func TestRevokeStream(t *testing.T) {
	w := newWorld(t, 1)
	g, _ := guarded(t, w, Config{})
	one, claims := minted(t, "user_1")
	c, _ := sseConnect(t, g, "token="+one, "")
	if answers := w.order(lane.Order{Task: lane.TaskList, Subscriber: "user_1"}); len(answers) != 1 || answers[0].Total != 1 {
		t.Errorf("listed %+v", answers)
	}
	w.order(revocationOf(auth.Revocation{TokenID: claims.ID}))
	if m := c.until("close", func(m wire.Message) bool { return m.Type == wire.Close }); m.CloseCode != wire.CloseNotAllowed {
		t.Errorf("closed with %+v", m)
	}
	if c := sseAsk(t, g, sseRequest("token="+one, "Last-Event-ID: "+c.Last)); c.resp.StatusCode != 401 {
		t.Errorf("coming back: %d, want 401", c.resp.StatusCode)
	}
}
