package check

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"eventstream/event"
	"eventstream/internal/check/judge"
)

// habit is how a client uses the documented protocol.
type habit struct {
	sse     bool // server-sent events, not a WebSocket
	durable bool // acknowledges, and comes back without a cursor
	since   bool // begins with the events since a time
	anew    bool // never uses a cursor
	flaps   bool // connects and leaves as fast as it can
	takes   int  // bytes of a message; it does not say if 0
	exact   bool // says what it has got since its cursor
}

func (h habit) String() string {
	s := "websocket"
	if h.sse {
		s = "sse"
	}
	for _, of := range []struct {
		is   bool
		name string
	}{{h.durable, "durable"}, {h.since, "since"}, {h.anew, "anew"}, {h.flaps, "flaps"}, {h.exact, "exact"}} {
		if of.is {
			s += " " + of.name
		}
	}
	if h.takes > 0 {
		s += fmt.Sprintf(" max_message=%d", h.takes)
	}
	return s
}

// client knows the documented protocol and nothing else. It comes and goes: at any
// time about a fifth of the clients are away.
type client struct {
	check *run
	name  string
	of    *subscriber
	habit habit
	rng   *rand.Rand
	chain *judge.Chain
	begin time.Time // where the chain begins; zero if with its hello

	mu     sync.Mutex
	last   place // to resume from
	forgot int   // how often the server forgot acknowledgements
}

// place is where a client has come to.
type place struct {
	cursor string
	since  []int64 // what came since that, as event.ParseSeen has it; never changed
}

// seen is how a client says what it has since its cursor.
func (p place) seen() string { return string(event.AppendSeen(nil, p.since)) }

// with returns the place of one that has got an event since.
func (p place) with(id event.ID) place {
	next := make([]int64, max(len(p.since), int(id.Partition)+1))
	copy(next, p.since)
	next[id.Partition] = max(next[id.Partition], id.Offset+1)
	return place{p.cursor, next}
}

func newClient(r *run, i int) *client {
	p := r.plan.clients[i]
	c := &client{
		check: r, name: fmt.Sprintf("client-%d (%s)", i, p.habit), of: r.subscribers[p.subscriber],
		habit: p.habit, rng: r.plan.rng(streamClients + uint64(i)),
	}
	c.restart()
	return c
}

// restart has the client forget what it got, as another client would.
func (c *client) restart() {
	if c.chain != nil {
		c.chain.Leave(c.check.clock.Now())
	}
	c.chain = &judge.Chain{Name: c.name, Subscriber: c.of.plan.name, Filters: &c.of.filters, Takes: c.habit.takes}
	c.saw(place{})
	if c.habit.since {
		c.begin = time.Now().Truncate(time.Millisecond) // as times in Kafka are
		c.chain.Since(c.check.clock.Now())
	}
	c.check.judged(c.chain)
}

// saw notes where to resume from.
func (c *client) saw(at place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = at
}

// acknowledged notes where a durable client comes back to, unless the server has forgotten
// it since the connection began.
func (c *client) acknowledged(at place, forgot int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forgot == forgot {
		c.last = at
	}
}

// forget has a durable client not know what it comes back to, as the server has forgotten
// what was acknowledged last.
func (c *client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgot++
	if c.habit.durable {
		c.last = place{}
	}
}

// place returns where to resume from, and how often the server had forgotten
// acknowledgements.
func (c *client) place() (place, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, c.forgot
}

// run connects and leaves until home is closed; then it stays, until ctx ends.
func (c *client) run(ctx context.Context, home <-chan struct{}) {
	http := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if c.habit.since {
		c.stayAway(ctx, home)
	}
	var old *session // left open until the next one is there
	for ctx.Err() == nil {
		s, err := c.connect(ctx, http)
		if old != nil {
			old.leave(leaveFIN)
			old = nil
		}
		if err != nil {
			pause(ctx, c.retry())
			continue
		}
		how := c.stay(ctx, s, home)
		if how == leaveOpen {
			old = s
			continue
		}
		s.leave(how)
		if c.habit.flaps {
			if c.habit.anew {
				c.restart()
			}
			continue
		}
		if c.habit.since && c.rng.IntN(4) == 0 {
			c.restart()
		}
		c.stayAway(ctx, home)
	}
	if old != nil {
		old.leave(leaveFIN)
	}
}

func (c *client) retry() time.Duration {
	if c.habit.flaps {
		return 10 * time.Millisecond
	}
	return between(c.rng, 50*time.Millisecond, 300*time.Millisecond)
}

// patience is how long the client waits for the handshake, and then for hello. One
// that flaps now and then leaves in the middle of them.
func (c *client) patience() time.Duration {
	if c.habit.flaps && c.rng.IntN(3) == 0 {
		return between(c.rng, 0, 10*time.Millisecond)
	}
	return dialLimit
}

// stayAway is mostly short, and now and then long.
func (c *client) stayAway(ctx context.Context, home <-chan struct{}) {
	away := between(c.rng, 0, 2*time.Second)
	if c.rng.IntN(8) == 0 {
		away = between(c.rng, 4*time.Second, 16*time.Second)
	}
	select {
	case <-ctx.Done():
	case <-home:
	case <-time.After(away):
	}
}

// leaving is how a connection is left.
type leaving int

const (
	leaveClose leaving = iota // as the protocol says
	leaveFIN                  // closed without a word
	leaveRST                  // reset
	leaveOpen                 // only after the next one is there
	leaveEnded                // it has ended by itself
)

var leavings = []string{"closed", "hung up", "reset", "moved on", "was cut off"}

// stay keeps a connection for some seconds, and may read slowly for a while.
func (c *client) stay(ctx context.Context, s *session, home <-chan struct{}) leaving {
	how, slowFor := leaving(c.rng.IntN(int(leaveEnded))), between(c.rng, 500*time.Millisecond, 4*time.Second)
	longest := between(c.rng, 500*time.Millisecond, 13*time.Second)
	if c.habit.flaps {
		how, longest = leaving(c.rng.IntN(int(leaveOpen))), time.Duration(c.rng.IntN(2))*10*time.Millisecond
	}
	leave := time.After(longest)
	slow := make(<-chan time.Time)
	if c.rng.IntN(4) == 0 {
		slow = time.After(between(c.rng, 0, 6*time.Second))
	}
	for {
		select {
		case <-slow:
			s.slowly(slowFor)
		case <-leave:
			return how
		case <-s.ended:
			return leaveEnded
		case <-home:
			return c.remain(ctx, s)
		case <-ctx.Done():
			return leaveFIN
		}
	}
}

// remain keeps the connection as long as it lives.
func (c *client) remain(ctx context.Context, s *session) leaving {
	for {
		select {
		case <-s.ended:
			return leaveEnded
		case <-ctx.Done():
			return leaveFIN
		case <-time.After(2 * time.Second):
			ping, cancel := context.WithTimeout(ctx, 5*time.Second)
			err := s.stream.ping(ping)
			cancel()
			if err != nil {
				return leaveRST
			}
		}
	}
}
