package client

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eventstream/event"
	"eventstream/internal/bubble"
	"eventstream/wire"
)

func TestEventsInOrder(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t, script(t, func(s *seat) {
			s.hello("c1", false)
			s.events("", "0-1", "1-1", "0-5")
			s.events("c2", "1-2")
			s.events("", "0-6")
			s.wait()
		}))
		f := follow(g, Config{})
		synctest.Wait()
		wantEqual(t, "events", f.got(), []string{"0-1", "1-1", "0-5", "1-2", "0-6"})
		wantEqual(t, "states", f.statuses(), []Status{Connected})
		if got := f.Cursor(); got != "c2" {
			t.Errorf("Cursor = %q, want c2", got)
		}
		for _, e := range f.events {
			if want := `{"n":"` + e.ID.String() + `"}`; string(e.Data) != want {
				t.Errorf("%s: Data = %s, want %s", e.ID, e.Data, want)
			}
			if want := time.UnixMilli(e.ID.Offset * 1000); !e.Time.Equal(want) {
				t.Errorf("%s: Time = %s, want %s", e.ID, e.Time, want)
			}
		}
		if q := g.requested()[0].query; q.Get("subscriber_id") != "user_1" || q.Has("cursor") {
			t.Errorf("query = %v, want the subscriber and no cursor", q)
		}
	})
}

func TestReady(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t, script(t, func(s *seat) {
			time.Sleep(time.Second)
			s.hello("c1", false)
			s.wait()
		}))
		f := follow(g, Config{})
		synctest.Wait()
		select {
		case <-f.Ready():
			t.Error("Ready before the hello")
		default:
		}
		began := time.Now()
		<-f.Ready()
		if got := time.Since(began); got != time.Second {
			t.Errorf("Ready after %s, want 1s", got)
		}
	})
}

func TestResume(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t,
			script(t, func(s *seat) {
				s.hello("c1", false)
				s.events("c2", "0-1", "0-2")
				s.events("", "0-3", "1-1")
			}), // cut off
			script(t, func(s *seat) {
				s.hello("c2b", true)
			}),
			script(t, func(s *seat) {
				s.hello("c2c", true)
				s.events("c3", "0-3", "1-1", "0-4")
				s.wait()
			}))
		f := follow(g, Config{})
		time.Sleep(time.Second)
		wantEqual(t, "events", f.got(), []string{"0-1", "0-2", "0-3", "1-1", "0-4"})
		wantEqual(t, "cursors", g.cursors(), []string{"", "c2", "c2b"})
		wantEqual(t, "states", f.statuses(), []Status{Connected, Disconnected, Resumed, Disconnected, Resumed})
		if f.Cursor() != "c3" || f.Duplicates() != 2 {
			t.Errorf("Cursor = %q, Duplicates = %d, want c3, 2", f.Cursor(), f.Duplicates())
		}
	})
}

// A saved cursor says what its holder has seen.
func TestSavedCursor(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		saved := (&event.Cursor{Issued: time.Now(), Next: []int64{10, 0, 7}}).String()
		g := newGateway(t, script(t, func(s *seat) {
			s.hello("c1", true)
			s.events("", "0-9", "0-10", "1-0", "2-6", "2-7", "3-0")
			s.wait()
		}))
		f := follow(g, Config{Cursor: saved})
		synctest.Wait()
		wantEqual(t, "cursors", g.cursors(), []string{saved})
		wantEqual(t, "events", f.got(), []string{"0-10", "1-0", "2-7", "3-0"})
	})
}

func TestGap(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t,
			script(t, func(s *seat) {
				s.hello("c1", false) // and cut off before the gap
			}),
			script(t, func(s *seat) {
				s.hello("c2", false)
				s.send(wire.AppendGap(nil, "old", "c2", wire.GapTrimmed, nil))
				s.events("", "0-5")
			}),
			script(t, func(s *seat) {
				s.hello("c3", true)
				s.wait()
			}))
		f := follow(g, Config{Cursor: "old"})
		time.Sleep(time.Second)
		wantEqual(t, "cursors", g.cursors(), []string{"old", "old", "c2"})
		wantEqual(t, "states", f.statuses(),
			[]Status{Connected, Disconnected, Connected, Gap, Disconnected, Resumed})
		if got := f.told()[3]; got.Reason != wire.GapTrimmed || got.From != "old" || got.To != "c2" {
			t.Errorf("gap = %+v, want trimmed, from old to c2", got)
		}
	})
}

// In a topic that was made again offsets begin again.
func TestGapOtherTopic(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t, script(t, func(s *seat) {
			s.hello("c1", false)
			s.events("c2", "0-100")
			s.send(wire.AppendGap(nil, "c2", "c3", wire.GapOtherTopic, nil))
			s.events("", "0-0", "0-1")
			s.wait()
		}))
		f := follow(g, Config{})
		synctest.Wait()
		wantEqual(t, "events", f.got(), []string{"0-100", "0-0", "0-1"})
	})
}

func TestHandlerError(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		serve := func(s *seat) {
			s.hello("c1", true)
			s.events("c2", "0-1", "0-2", "0-3")
			s.wait()
		}
		g := newGateway(t, script(t, serve))
		f := followWith(g, Config{}, func(e Event) error {
			if e.ID.Offset == 2 {
				return errHandler
			}
			return nil
		})
		if err := <-f.done; !errors.Is(err, errHandler) {
			t.Fatalf("Run = %v, want %v", err, errHandler)
		}
		if got := f.Cursor(); got != "c1" {
			t.Errorf("Cursor = %q, want c1: 0-2 has not been handed over", got)
		}
		f.start(nil)
		synctest.Wait()
		wantEqual(t, "events", f.got(), []string{"0-1", "0-2", "0-3"})
		wantEqual(t, "cursors", g.cursors(), []string{"", "c1"})
	})
}

// A handler that returns the error of the ended context has not failed.
func TestHandlerReturnsContextError(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t, script(t, func(s *seat) {
			s.hello("c1", false)
			s.events("c2", "0-1", "0-2")
			s.wait()
		}))
		stopped := make(chan struct{})
		f := followWith(g, Config{}, func(Event) error {
			<-stopped
			return context.Canceled
		})
		synctest.Wait()
		f.cancel()
		close(stopped)
		if err := <-f.done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		if got := f.Cursor(); got != "c1" {
			t.Errorf("Cursor = %q, want c1", got)
		}
	})
}

func TestUnknownIsIgnored(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t, script(t, func(s *seat) {
			s.hello("c1", false)
			s.send([]byte(`{"type":"weather","cursor":"no","events":[{"id":"0-9"}]}`))
			s.send([]byte(`{"type":"events","new":{"a":[1]},"events":[{"id":"0-1","ts":1,"data":{},"x":1}]}`))
			s.send([]byte(wire.PongMessage))
			s.send(wire.AppendError(nil, "bad_request", "what?"))
			s.send(wire.AppendCursor(nil, "c2"))
			s.wait()
		}))
		f := follow(g, Config{})
		synctest.Wait()
		wantEqual(t, "events", f.got(), []string{"0-1"})
		wantEqual(t, "states", f.statuses(), []Status{Connected})
		if got := f.Cursor(); got != "c2" {
			t.Errorf("Cursor = %q, want c2", got)
		}
	})
}

func TestMalformedMessage(t *testing.T) {
	for _, message := range []string{`{"type":`, `[]`, `{"type":"events","events":[{"id":"x"}]}`} {
		bubble.Test(t, func(t *testing.T) {
			g := newGateway(t,
				script(t, func(s *seat) {
					s.hello("c1", false)
					s.send([]byte(message))
					s.wait()
				}),
				script(t, func(s *seat) {
					s.hello("c1", true)
					s.wait()
				}))
			f := follow(g, Config{})
			time.Sleep(time.Second)
			wantEqual(t, message, f.statuses(), []Status{Connected, Disconnected, Resumed})
		})
	}
}

func TestLargeMessage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		data := big(3 << 20)
		g := newGateway(t, script(t, func(s *seat) {
			s.hello("c1", false)
			b := wire.AppendEvent(wire.AppendEventsHead(nil), event.ID{}, 0, data)
			s.send(wire.AppendEventsTail(b, "c2"))
			s.events("", "0-1")
			s.wait()
		}))
		f := follow(g, Config{})
		synctest.Wait()
		wantEqual(t, "events", f.got(), []string{"0-0", "0-1"})
		if got := len(f.events[0].Data); got != len(data) {
			t.Errorf("%d bytes of data, want %d", got, len(data))
		}
	})
}

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want string // the URL, or part of the error
	}{
		{Config{URL: "localhost:8003", SubscriberID: "u"}, "ws://localhost:8003/ws?subscriber_id=u"},
		{Config{URL: "127.0.0.1:8003", SubscriberID: "a&b é"}, "ws://127.0.0.1:8003/ws?subscriber_id=a%26b+%C3%A9"},
		{Config{URL: "http://h", SubscriberID: "u"}, "http://h/ws?subscriber_id=u"},
		{Config{URL: "https://h/", SubscriberID: "u"}, "https://h/ws?subscriber_id=u"},
		{Config{URL: "wss://h/live/ws?x=1", SubscriberID: "u"}, "wss://h/live/ws?subscriber_id=u&x=1"},
		{Config{URL: "h/ws?token=t"}, "ws://h/ws?token=t"},
		{Config{URL: "h", Header: http.Header{"Authorization": {"Bearer t"}}}, "ws://h/ws"},
		{Config{URL: "h"}, "subscriber id required"},
		{Config{URL: "", SubscriberID: "u"}, "no host"},
		{Config{URL: "ftp://h", SubscriberID: "u"}, `scheme "ftp"`},
		{Config{URL: "ws://h:x", SubscriberID: "u"}, "it can't be parsed"},
		{Config{URL: "h", SubscriberID: "u", MinBackoff: -1}, "negative"},
	} {
		c, err := New(tt.cfg, nil)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = c.url.String()
		}
		if !strings.Contains(got, tt.want) || err == nil && got != tt.want {
			t.Errorf("New(%q): got %s, want %s", tt.cfg.URL, got, tt.want)
		}
	}
}

// Over real sockets, and with the HTTP client that New provides.
func TestSockets(t *testing.T) {
	srv := httptest.NewServer(script(t, func(s *seat) {
		s.hello("c1", false)
		s.events("c2", "0-1")
		if got := s.wait(); got != 1000 {
			t.Errorf("close code = %d, want 1000", got)
		}
	}))
	defer srv.Close()
	c, err := New(Config{URL: srv.URL, SubscriberID: "user_1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	n := 0
	err = c.Run(ctx, func(Event) error {
		n++
		time.AfterFunc(time.Millisecond, cancel)
		return nil
	})
	if err != nil || n != 1 || c.Cursor() != "c2" {
		t.Errorf("Run = %v with %d events up to %q, want nil, 1, c2", err, n, c.Cursor())
	}
}
