package client

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"eventstream/event"
	"eventstream/internal/bubble"
	"eventstream/wire"
)

// seen returns what each request so far said to have since its cursor.
func (g *gateway) seen() []string {
	var all []string
	for _, r := range g.requested() {
		all = append(all, r.query.Get("cursor")+"+"+r.query.Get("seen"))
	}
	return all
}

// A client that comes back says what it has got since its cursor.
func TestSaysWhatItHas(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t,
			script(t, func(s *seat) {
				s.hello("c1", false)
				s.events("c2", "0-1", "0-2")
				s.events("", "0-3", "10-1")
				s.events("", "0-4")
			}),
			script(t, func(s *seat) {
				s.hello("c3", false) // and cut off before the gap
			}),
			script(t, func(s *seat) {
				s.hello("c4", true)
				s.events("", "2-8")
			}),
			script(t, func(s *seat) {
				s.hello("c5", true)
			}),
			script(t, func(s *seat) {
				s.hello("c6", true)
				s.wait()
			}))
		f := follow(g, Config{})
		time.Sleep(5 * time.Second)
		wantEqual(t, "said", g.seen(), []string{"+", "c2+0-4,10-1", "c2+0-4,10-1", "c4+2-8", "c5+"})
		if f.Duplicates() != 0 {
			t.Errorf("%d duplicates", f.Duplicates())
		}
	})
}

// What was not handled is not said to be there.
func TestSaysWhatWasHandled(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t,
			script(t, func(s *seat) {
				s.hello("c1", false)
				s.events("", "0-1", "0-2")
				s.wait()
			}),
			script(t, func(s *seat) {
				s.hello("c1b", true)
				s.events("", "0-2")
				s.wait()
			}))
		f := followWith(g, Config{}, func(e Event) error {
			if e.ID.Offset == 2 && len(g.requested()) == 1 {
				return errHandler
			}
			return nil
		})
		if err := <-f.done; err != errHandler {
			t.Fatalf("Run = %v, want %v", err, errHandler)
		}
		f.start(nil)
		synctest.Wait()
		wantEqual(t, "said", g.seen(), []string{"+", "c1+0-1"})
		wantEqual(t, "events", f.got(), []string{"0-1", "0-2"})
		f.stop()
	})
}

// A gateway that refuses what is said gets the cursor alone, and what comes again is dropped.
func TestSaysLess(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGateway(t,
			script(t, func(s *seat) {
				s.hello("c1", false)
				s.events("", "0-1", "1-1")
			}),
			refuse(400, "", `query parameter "seen" is not known`),
			script(t, func(s *seat) {
				s.hello("c1", true)
				s.events("", "0-1", "1-1", "0-2")
			}),
			refuse(503, "", "later"),
			refuse(400, "", `query parameter "seen" is not known`),
			refuse(400, "", "and the cursor is bad, too"))
		f := follow(g, Config{})
		err := <-f.done
		if err == nil || !strings.Contains(err.Error(), "and the cursor") {
			t.Errorf("Run = %v, want what is wrong without seen, too", err)
		}
		wantEqual(t, "said", g.seen(), []string{"+", "c1+0-1,1-1", "c1+", "c1+0-2,1-1", "c1+0-2,1-1", "c1+"})
		wantEqual(t, "events", f.got(), []string{"0-1", "1-1", "0-2"})
	})
}

// Of very many partitions some are named, as many as fit.
func TestSaysWhatFits(t *testing.T) {
	c := &Client{cursor: "c1"}
	for p := range int32(2000) {
		c.got(event.ID{Partition: p, Offset: 1e9})
	}
	seen := c.position().seen
	next, err := event.ParseSeen(seen)
	if err != nil || len(seen) > maxSeen || len(seen) < maxSeen-20 {
		t.Errorf("%d bytes, of %d partitions, %v; want nearly %d bytes", len(seen), len(next), err, maxSeen)
	}
}

func TestAcksWhatItHas(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		take := func(s *seat, n int) {
			for range n {
				_, b, err := s.ws.Read(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				r, err := wire.ParseRequest(b)
				if err != nil {
					t.Errorf("%s: %v", b, err)
				}
				mu.Lock()
				told = append(told, fmt.Sprintf("%s+%s", r.Cursor, r.Seen))
				mu.Unlock()
				s.send(wire.AppendAcked(nil, r.Cursor, r.Seen))
			}
		}
		g := newGateway(t,
			script(t, func(s *seat) {
				s.hello("c1", true)
				s.events("", "0-1", "1-7")
				take(s, 1)
				s.events("", "0-2")
				take(s, 1)
				s.events("c2", "0-3")
				take(s, 1)
				s.ws.Close(websocket.StatusGoingAway, "")
			}),
			script(t, func(s *seat) {
				s.hello("c3", true)
				take(s, 1)
				s.events("", "0-4")
				s.wait()
			}))
		f := follow(g, Config{Durable: true})
		time.Sleep(20 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		wantEqual(t, "acknowledged", told, []string{"c1+0-1,1-7", "c1+0-2,1-7", "c2+", "c3+"})
		if got := f.Acked(); got != "c3" {
			t.Errorf("Acked = %q, want c3", got)
		}
	})
}
