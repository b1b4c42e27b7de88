package client

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"eventstream/internal/bubble"
	"eventstream/wire"
)

func TestBackoff(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		down := refuse(http.StatusInternalServerError, "", "oops")
		g := newGateway(t, down, down, down, down, down, down, down, down,
			script(t, func(s *seat) { s.hello("c1", false) }),
			script(t, func(s *seat) { s.wait() }))
		f := follow(g, Config{MinBackoff: time.Second, MaxBackoff: 20 * time.Second})
		time.Sleep(5 * time.Minute)
		at := g.requested()
		states := f.told()
		most := []time.Duration{1, 2, 4, 8, 16, 20, 20, 20, 1} // seconds; a hello resets
		i := 0
		for _, s := range states {
			if s.Status != Disconnected || i == len(most) {
				continue
			}
			gap := at[i+1].at.Sub(at[i].at)
			if gap != s.Retry || gap > most[i]*time.Second {
				t.Errorf("attempt %d: after %s, announced %s, want at most %ds", i+1, gap, s.Retry, most[i])
			}
			i++
		}
		if i != len(most) {
			t.Errorf("%d disconnections, want %d: %v", i, len(most), states)
		}
		if got := states[0].Err.Error(); got != "gateway answered 500 Internal Server Error: oops" {
			t.Errorf("err = %q", got)
		}
	})
}

func TestPauseIsJittered(t *testing.T) {
	c, err := New(Config{URL: "h", SubscriberID: "u"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		attempt int
		most    time.Duration
	}{
		{0, 100 * time.Millisecond}, {3, 800 * time.Millisecond}, {7, 10 * time.Second}, {1 << 40, 10 * time.Second},
	} {
		low, high := time.Hour, time.Duration(0)
		for range 1000 {
			d := c.pause(tt.attempt, nil)
			low, high = min(low, d), max(high, d)
		}
		if low > tt.most/10 || high < tt.most*9/10 || high > tt.most {
			t.Errorf("attempt %d: pauses from %s to %s, want the whole of 0 to %s", tt.attempt, low, high, tt.most)
		}
	}
}

func TestAskedDelay(t *testing.T) {
	future := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for _, tt := range []struct {
		name   string
		script func(t *testing.T) http.HandlerFunc
		want   time.Duration
	}{
		{"seconds", func(*testing.T) http.HandlerFunc { return refuse(503, "7", "") }, 7 * time.Second},
		{"too many", func(*testing.T) http.HandlerFunc {
			return refuse(429, "3", `{"type":"urn:eventstream:problem:too-many-handshakes"}`)
		}, 3 * time.Second},
		{"date", func(*testing.T) http.HandlerFunc { return refuse(429, future(9*time.Second), "") }, 9 * time.Second},
		{"past", func(*testing.T) http.HandlerFunc { return refuse(503, future(-time.Hour), "") }, 0},
		{"nonsense", func(*testing.T) http.HandlerFunc { return refuse(503, "soon", "") }, 0},
		{"too long", func(*testing.T) http.HandlerFunc { return refuse(503, "1000000", "") }, maxAsked},
		{"drain", closing(1001, "draining, retry in 1.5s"), 1500 * time.Millisecond},
		{"drain at once", closing(1001, "draining"), 0},
		{"negative", closing(1001, "-5s"), 0},
		{"too slow", closing(wire.CloseTooSlow, "too slow: 5s"), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				g := newGateway(t, tt.script(t), script(t, func(s *seat) { s.wait() }))
				follow(g, Config{})
				time.Sleep(10 * time.Minute)
				at := g.requested()
				if gap := at[1].at.Sub(at[0].at); gap < tt.want || gap > tt.want+100*time.Millisecond {
					t.Errorf("next attempt after %s, want %s and at most 100ms more", gap, tt.want)
				}
			})
		})
	}
}

func closing(code int, reason string) func(t *testing.T) http.HandlerFunc {
	return func(t *testing.T) http.HandlerFunc {
		return script(t, func(s *seat) { s.close(code, reason) })
	}
}

func TestPermanent(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script func(*testing.T) http.HandlerFunc
		want   string // Run's error; empty if it goes on
	}{
		{"400", func(*testing.T) http.HandlerFunc { return refuse(400, "", "bad cursor\n") }, "gateway answered 400 Bad Request: bad cursor"},
		{"401", func(*testing.T) http.HandlerFunc { return refuse(401, "5", "") }, "gateway answered 401 Unauthorized"},
		{"403", func(*testing.T) http.HandlerFunc { return refuse(403, "", "no") }, "gateway answered 403 Forbidden: no"},
		{"404", func(*testing.T) http.HandlerFunc { return refuse(404, "", "") }, ""},
		{"200", func(*testing.T) http.HandlerFunc { return refuse(200, "", "a page") }, ""},
		{"4001", closing(wire.CloseBadRequest, "what?"), "gateway closed with 4001: what?"},
		{"4003", closing(wire.CloseNotAllowed, ""), "gateway closed with 4003"},
		{"4004", closing(wire.CloseExpired, "token"), "gateway closed with 4004: token"},
		{"4008", closing(wire.CloseTooSlow, ""), ""},
		{"4029", closing(wire.CloseTooMany, ""), ""},
		{"1000", closing(1000, ""), ""},
		{"1011", closing(1011, ""), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				g := newGateway(t, tt.script(t), script(t, func(s *seat) { s.wait() }))
				f := follow(g, Config{})
				time.Sleep(time.Second)
				if tt.want == "" {
					if n := len(g.requested()); n != 2 {
						t.Errorf("%d attempts, want 2", n)
					}
					return
				}
				select {
				case err := <-f.done:
					if err == nil || err.Error() != tt.want {
						t.Errorf("Run = %v, want %s", err, tt.want)
					}
				default:
					t.Error("Run goes on")
				}
			})
		})
	}
}

func TestDeadConnection(t *testing.T) {
	mute := &websocket.AcceptOptions{OnPingReceived: func(context.Context, []byte) bool { return false }}
	hello := func(s *seat) { s.send(wire.AppendHello(nil, "user_1", "c1", false, 2)) }
	alive := 5*time.Second + heartGrace // 2.5 heartbeats and the grace
	for _, tt := range []struct {
		name   string
		opts   *websocket.AcceptOptions
		script func(*seat)
		want   time.Duration // when it is given up, zero if never
		err    error
	}{
		{"answers pings", nil, func(s *seat) { hello(s); s.wait() }, 0, nil},
		{"no pong", mute, func(s *seat) { hello(s); s.wait() }, alive + probeTimeout, errDead},
		{"does not read", nil, func(s *seat) { hello(s); time.Sleep(5 * time.Minute) }, alive + probeTimeout, errDead},
		{"sends pings", mute, func(s *seat) {
			hello(s)
			s.ws.CloseRead(s.t.Context())
			for range 10 {
				time.Sleep(4 * time.Second)
				s.ws.Ping(s.t.Context())
			}
			time.Sleep(5 * time.Minute)
		}, 40*time.Second + alive + probeTimeout, errDead},
		{"no hello", nil, func(s *seat) { s.wait() }, 15 * time.Second, errNoHello},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				g := newGateway(t,
					scriptWith(t, tt.opts, tt.script),
					script(t, func(s *seat) { hello(s); s.wait() }))
				f := follow(g, Config{})
				time.Sleep(10 * time.Minute)
				at := g.requested()
				var after time.Duration
				if len(at) > 1 {
					after = at[1].at.Sub(at[0].at)
				}
				// The backoff is up to 100ms.
				if after < tt.want || after > tt.want+100*time.Millisecond {
					t.Errorf("next attempt after %s, want %s", after, tt.want)
				}
				for _, s := range f.told() {
					if s.Status == Disconnected && !errors.Is(s.Err, tt.err) {
						t.Errorf("err = %v, want %v", s.Err, tt.err)
					}
				}
			})
		})
	}
}

// A slow handler reads nothing, which is not the gateway's silence.
func TestSlowHandlerIsNotDead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t, script(t, func(s *seat) {
			s.hello("c1", false)
			s.events("", "0-1", "0-2")
			s.wait()
		}))
		f := followWith(g, Config{}, func(Event) error { time.Sleep(time.Hour); return nil })
		time.Sleep(3 * time.Hour)
		wantEqual(t, "events", f.got(), []string{"0-1", "0-2"})
		wantEqual(t, "states", f.statuses(), []Status{Connected})
	})
}

func TestStop(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script func(t *testing.T) http.HandlerFunc
		most   time.Duration
	}{
		{"connected", func(t *testing.T) http.HandlerFunc {
			return script(t, func(s *seat) {
				s.hello("c1", false)
				if got := s.wait(); got != 1000 {
					t.Errorf("close code = %d, want 1000", got)
				}
			})
		}, 0},
		{"gateway hangs", func(t *testing.T) http.HandlerFunc {
			return script(t, func(s *seat) { s.hello("c1", false); time.Sleep(time.Hour) })
		}, closeTimeout},
		{"handshake hangs", func(*testing.T) http.HandlerFunc {
			return func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		}, 0},
		{"in backoff", func(*testing.T) http.HandlerFunc { return refuse(503, "60", "") }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				f := follow(newGateway(t, tt.script(t)), Config{})
				synctest.Wait()
				began := time.Now()
				if err := f.stop(); err != nil {
					t.Errorf("Run = %v, want nil", err)
				}
				if took := time.Since(began); took > tt.most {
					t.Errorf("stopping took %s, want at most %s", took, tt.most)
				}
				time.Sleep(time.Hour)
			})
		})
	}
}

// Errors end up in logs, where tokens and cursors have no place.
func TestDialErrorHidesQuery(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		f := follow(g, Config{Cursor: "secret"})
		synctest.Wait()
		got := f.told()[0].Err.Error()
		if strings.Contains(got, "secret") || !strings.Contains(got, "connect to gateway.test") {
			t.Errorf("err = %q, want the host and not the query", got)
		}
	})
}
