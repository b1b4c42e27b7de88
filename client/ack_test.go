package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"eventstream/internal/bubble"
	"eventstream/wire"
)

// ledger is what a gateway was told and asked to save.
type ledger struct {
	mu     sync.Mutex
	told   []string
	closed int // code of the close frame after that
}

func (l *ledger) acks() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.told)
}

// take reads until the client goes, and answers what it acknowledges.
func (s *seat) take(l *ledger, answer bool) {
	for {
		_, b, err := s.ws.Read(context.Background())
		if err != nil {
			l.mu.Lock()
			l.closed = int(websocket.CloseStatus(err))
			l.mu.Unlock()
			return
		}
		r, err := wire.ParseRequest(b)
		if err != nil || r.Type != wire.Ack {
			s.t.Errorf("gateway got %s: %v", b, err)
		}
		l.mu.Lock()
		l.told = append(l.told, r.Cursor)
		l.mu.Unlock()
		if answer {
			s.send(wire.AppendAcked(nil, r.Cursor, r.Seen))
		}
	}
}

func wantAcked(t *testing.T, f *follower, l *ledger, acked string, told ...string) {
	t.Helper()
	wantEqual(t, "acknowledged", l.acks(), told)
	if got := f.Acked(); got != acked {
		t.Errorf("Acked = %q, want %q", got, acked)
	}
}

func TestDurable(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, more := &ledger{}, make(chan struct{})
		g := newGateway(t, script(t, func(s *seat) {
			s.hello("c1", true)
			s.events("c2", "0-1")
			go func() {
				<-more
				s.events("c3", "0-2")
				s.events("c4", "0-3")
				s.events("", "0-4")
			}()
			s.take(l, true)
		}))
		f := follow(g, Config{Durable: true})
		synctest.Wait()
		wantAcked(t, f, l, "")
		time.Sleep(time.Second)
		synctest.Wait()
		wantAcked(t, f, l, "c2", "c2")
		time.Sleep(5500 * time.Millisecond) // between two times
		wantAcked(t, f, l, "c2", "c2")      // once is enough
		close(more)
		time.Sleep(time.Second)
		synctest.Wait()
		wantAcked(t, f, l, "c4", "c2", "c4") // and the newest
		if q := g.requested()[0].query; q.Get("durable") != "true" || q.Has("cursor") || q.Has("since") {
			t.Errorf("query = %v, want durable=true alone", q)
		}
	})
}

// What was handled since the last time is acknowledged at the end.
func TestDurableStops(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := &ledger{}
		g := newGateway(t, script(t, func(s *seat) {
			s.hello("c1", true)
			s.events("c2", "0-1")
			s.take(l, true)
		}))
		f := follow(g, Config{Durable: true})
		synctest.Wait()
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantEqual(t, "acknowledged", l.acks(), []string{"c2"})
		if l.closed != 1000 {
			t.Errorf("after that close code = %d, want 1000", l.closed)
		}
	})
}

// An event is handled when its handler has returned, which may be after the stop.
func TestDurableStopsWhileHandling(t *testing.T) {
	for _, tt := range []struct {
		what string
		err  error
		want []string
	}{
		{"handled", nil, []string{"c1", "c2"}},
		{"not handled", errHandler, []string{"c1"}},
		{"given up", context.Canceled, []string{"c1"}},
	} {
		bubble.Test(t, func(t *testing.T) {
			l, release := &ledger{}, make(chan struct{})
			g := newGateway(t, script(t, func(s *seat) {
				s.hello("c1", true)
				s.events("c2", "0-1", "0-2")
				s.take(l, false)
			}))
			f := followWith(g, Config{Durable: true}, func(e Event) error {
				if e.ID.Offset == 1 {
					return nil
				}
				<-release
				return tt.err
			})
			time.Sleep(2 * time.Second)
			wantEqual(t, tt.what+": acknowledged while it is handled", l.acks(), []string{"c1"})
			f.cancel()
			synctest.Wait()
			close(release)
			if err := <-f.done; tt.err == errHandler && !errors.Is(err, errHandler) {
				t.Errorf("%s: Run = %v", tt.what, err)
			}
			synctest.Wait()
			wantEqual(t, tt.what+": acknowledged in all", l.acks(), tt.want)
		})
	}
}

// Not even when all of it takes no time: what is ready first is up to chance.
func TestHandlerErrorIsNotAcknowledged(t *testing.T) {
	for range 20 {
		bubble.Test(t, func(t *testing.T) {
			l := &ledger{}
			g := newGateway(t, script(t, func(s *seat) {
				s.hello("c1", true)
				s.events("c2", "0-1")
				s.events("c3", "0-2", "0-3")
				s.take(l, false)
			}))
			f := followWith(g, Config{Durable: true}, func(e Event) error {
				if e.ID.Offset == 3 {
					return errHandler
				}
				return nil
			})
			if err := <-f.done; !errors.Is(err, errHandler) {
				t.Fatalf("Run = %v, want %v", err, errHandler)
			}
			synctest.Wait()
			wantEqual(t, "acknowledged", l.acks(), []string{"c2"})
		})
	}
}

// What was not confirmed is acknowledged again by the next connection, and only that.
func TestDurableReconnects(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		first, second, third := &ledger{}, &ledger{}, &ledger{}
		g := newGateway(t,
			script(t, func(s *seat) {
				s.hello("c1", true)
				s.events("c2", "0-1")
				time.AfterFunc(1500*time.Millisecond, func() { s.ws.CloseNow() })
				s.take(first, false)
			}),
			script(t, func(s *seat) {
				s.hello("c2", true)
				time.AfterFunc(2500*time.Millisecond, func() { s.ws.CloseNow() })
				s.take(second, true)
			}),
			script(t, func(s *seat) {
				s.hello("c2", true)
				s.take(third, true)
			}))
		f := follow(g, Config{Durable: true})
		time.Sleep(20 * time.Second)
		wantEqual(t, "to the first", first.acks(), []string{"c2"})
		wantAcked(t, f, second, "c2", "c2")
		wantEqual(t, "to the third, when it is confirmed", third.acks(), nil)
		wantEqual(t, "cursors", g.cursors(), []string{"", "c2", "c2"})
	})
}

// A durable client that has no cursor and can't be resumed waits for the gap:
// till then it neither acknowledges nor asks for less than before.
func TestDurableGap(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		lost, told := &ledger{}, &ledger{}
		g := newGateway(t,
			script(t, func(s *seat) {
				s.hello("c8", false)
				time.AfterFunc(3*time.Second, func() { s.ws.CloseNow() })
				s.take(lost, true)
			}),
			script(t, func(s *seat) {
				s.hello("c9", false)
				s.send(wire.AppendGap(nil, "", "c9", wire.GapTrimmed, []wire.Missing{{Partition: 3, From: 100, To: 250}}))
				s.take(told, true)
			}))
		f := follow(g, Config{Durable: true, Since: "1h"})
		time.Sleep(10 * time.Second)
		wantEqual(t, "acknowledged before the gap", lost.acks(), nil)
		wantAcked(t, f, told, "c9", "c9")
		wantEqual(t, "cursors", g.cursors(), []string{"", ""})
		gap := f.told()[3]
		if gap.Status != Gap || !slices.Equal(gap.Missing, []wire.Missing{{Partition: 3, From: 100, To: 250}}) {
			t.Errorf("gap = %+v, want the missing events", gap)
		}
	})
}

func TestAckByHand(t *testing.T) {
	for _, cfg := range []Config{{}, {Durable: true, AckEvery: -1}} {
		bubble.Test(t, func(t *testing.T) {
			l := &ledger{}
			g := newGateway(t, script(t, func(s *seat) {
				s.hello("c1", true)
				s.events("c2", "0-1")
				s.events("c3", "0-2")
				s.take(l, true)
			}))
			var f *follower
			handle := make(chan struct{})
			f = followWith(g, cfg, func(e Event) error {
				<-handle
				f.Ack() // all before this one
				return nil
			})
			time.Sleep(5 * time.Second)
			wantAcked(t, f, l, "")
			handle <- struct{}{}
			synctest.Wait()
			wantAcked(t, f, l, "", "c1") // the answer waits behind 0-2
			handle <- struct{}{}
			synctest.Wait()
			wantAcked(t, f, l, "c2", "c1", "c2")
			f.Ack()
			synctest.Wait()
			wantAcked(t, f, l, "c3", "c1", "c2", "c3")
			f.Ack()
			time.Sleep(5 * time.Second)
			f.stop()
			wantAcked(t, f, l, "c3", "c1", "c2", "c3")
		})
	}
}

// A connection that is dead is not acknowledged into.
func TestAckOnADeadConnection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t,
			script(t, func(s *seat) {
				s.hello("c1", true)
				time.Sleep(time.Hour) // reads nothing, and so blocks the pipe
			}),
			script(t, func(s *seat) {
				s.hello("c1", true)
				s.wait()
			}))
		f := follow(g, Config{Durable: true})
		time.Sleep(time.Minute)
		wantEqual(t, "cursors", g.cursors(), []string{"", "c1"})
		f.stop()
		time.Sleep(time.Hour)
	})
}

func TestSince(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t,
			refuse(503, "7", "not yet"),
			script(t, func(s *seat) { s.hello("c1", true) }),
			script(t, func(s *seat) { s.hello("c2", true); s.wait() }))
		f := follow(g, Config{Since: "1h30m", MinBackoff: 1})
		time.Sleep(time.Minute)
		var asked []string
		for _, r := range g.requested() {
			asked = append(asked, r.query.Get("since")+"/"+r.query.Get("cursor"))
		}
		wantEqual(t, "since and cursor", asked, []string{"1h30m0s/", "1h30m7s/", "/c1"})
		f.stop()
	})
}

func TestParseSince(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"},
		{"2026-01-02T03:04:05.5+02:00", "2026-01-02T03:04:05.5+02:00"},
		{"1h", "1h0m0s"},
		{"90s", "1m30s"},
		{"0s", "refused"},
		{"-1h", "refused"},
		{"1d", "refused"},
		{"yesterday", "refused"},
		{"2026-01-02", "refused"},
	} {
		s, err := parseSince(tt.in)
		now := time.Now()
		s.begin(now)
		if got := s.text(now); err == nil && got != tt.want || (err != nil) != (tt.want == "refused") {
			t.Errorf("%q: got %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
	if _, err := New(Config{URL: "h", SubscriberID: "u", Since: "1d"}, nil); err == nil {
		t.Error("New with since 1d = nil, want an error")
	}
}
