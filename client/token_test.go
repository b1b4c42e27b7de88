package client

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"eventstream/internal/bubble"
	"eventstream/wire"
)

// A token that ends is followed by the next one; one that is refused is not.
func TestToken(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		shown := make(chan string, 8)
		showing := func(next http.HandlerFunc) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				shown <- r.Header.Get("Authorization")
				next(w, r)
			}
		}
		g := newGateway(t,
			showing(script(t, func(s *seat) { s.hello("", false); s.close(wire.CloseExpired, "the token has expired") })),
			showing(refuse(401, "", "no")))
		asked := 0
		f := follow(g, Config{Header: http.Header{"X-Other": {"1"}}, Token: func(context.Context) (string, error) {
			if asked++; asked == 2 {
				return "", errors.New("the issuer is down") // tried again
			}
			return strconv.Itoa(asked), nil
		}})
		time.Sleep(time.Minute)
		select {
		case err := <-f.done:
			if refused, ok := errors.AsType[*HandshakeError](err); !ok || refused.Status != 401 {
				t.Errorf("Run = %v, want a 401", err)
			}
		default:
			t.Fatal("Run goes on")
		}
		wantEqual(t, "tokens", []string{<-shown, <-shown}, []string{"Bearer 1", "Bearer 3"})
	})
}

// read returns the next message of the client, and its time.
func (s *seat) read() (wire.Request, time.Time) {
	_, b, err := s.ws.Read(context.Background())
	if err != nil {
		s.t.Errorf("gateway reads: %v", err)
	}
	r, err := wire.ParseRequest(b)
	if err != nil {
		s.t.Error(err)
	}
	return r, time.Now()
}

// The next token is sent before the one in use ends, over the same connection.
func TestTokenRenewed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		asked := 0
		g := newGateway(t, script(t, func(s *seat) {
			s.hello("c1", false)
			for _, tt := range []struct {
				life, after time.Duration // of the token that it has
				want        string
			}{
				{10 * time.Minute, 9 * time.Minute, "2"},
				{20 * time.Second, 16 * time.Second, "3"},
				{25 * time.Hour, 25*time.Hour - 12*time.Second, "5"}, // the issuer is down when it asks for 4
			} {
				began := time.Now()
				s.send(wire.AppendToken(nil, began.Add(tt.life).Unix()))
				r, at := s.read()
				if took := at.Sub(began); r.Type != wire.Token || r.Token != tt.want || took != tt.after {
					t.Errorf("a token of %v: got %+v after %v, want %s after %v", tt.life, r, took, tt.want, tt.after)
				}
			}
			s.send(wire.AppendToken(nil, time.Now().Add(time.Minute).Unix()))
			s.send(wire.AppendToken(nil, time.Now().Add(time.Hour).Unix())) // the last word counts
			began := time.Now()
			if r, at := s.read(); r.Token != "6" || at.Sub(began) != 59*time.Minute {
				t.Errorf("got %+v after %v", r, at.Sub(began))
			}
			s.events("c2", "0-1")
			s.wait()
		}))
		f := follow(g, Config{Token: func(context.Context) (string, error) {
			if asked++; asked == 4 {
				return "", errors.New("the issuer is down")
			}
			return strconv.Itoa(asked), nil
		}})
		time.Sleep(48 * time.Hour)
		wantEqual(t, "events", f.got(), []string{"0-1"})
		wantEqual(t, "cursors", g.cursors(), []string{""})
	})
}

// A token that is no other one, or that the gateway refuses, is not sent again and
// again; in the end the gateway closes, and the next connection shows a token.
func TestTokenNotRenewed(t *testing.T) {
	for _, tt := range []struct {
		name          string
		tokens        func(asked int) string
		sent          []string
		least, atMost int // times it asks
	}{
		{"always the same", func(int) string { return "a" }, nil, 3, 8},
		{"a refused one", func(n int) string { return "ab"[min(n-1, 1):min(n, 2)] }, []string{"b"}, 3, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				asked := 0
				var sent []string
				g := newGateway(t,
					script(t, func(s *seat) {
						s.hello("c1", false)
						s.send(wire.AppendToken(nil, time.Now().Add(time.Hour).Unix()))
						time.AfterFunc(time.Hour, func() { s.close(wire.CloseExpired, "the token has expired") })
						for {
							_, b, err := s.ws.Read(context.Background())
							if err != nil {
								return
							}
							r, _ := wire.ParseRequest(b)
							sent = append(sent, r.Token)
							s.send(wire.AppendError(nil, "bad_token", "no"))
						}
					}),
					script(t, func(s *seat) {
						s.hello("c2", true)
						s.send(wire.AppendToken(nil, time.Now().Add(-time.Hour).Unix())) // clocks disagree: left as it is
						s.wait()
					}))
				follow(g, Config{Token: func(context.Context) (string, error) { asked++; return tt.tokens(asked), nil }})
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				wantEqual(t, "sent", sent, tt.sent)
				if asked < tt.least || asked > tt.atMost {
					t.Errorf("asked %d times for a token, want %d to %d", asked, tt.least, tt.atMost)
				}
				wantEqual(t, "cursors", g.cursors(), []string{"", "c1"})
			})
		})
	}
}

// Who was told to stay away does.
func TestNotAllowed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t, script(t, func(s *seat) { s.hello("c1", false); s.close(wire.CloseNotAllowed, "the token was revoked") }))
		f := follow(g, Config{Token: func(context.Context) (string, error) { return "a", nil }})
		time.Sleep(time.Hour)
		select {
		case err := <-f.done:
			if closed, ok := errors.AsType[*CloseError](err); !ok || closed.Code != wire.CloseNotAllowed {
				t.Errorf("Run = %v, want a close with 4003", err)
			}
		default:
			t.Fatal("Run goes on")
		}
		wantEqual(t, "cursors", g.cursors(), []string{""})
	})
}
