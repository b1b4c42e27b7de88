package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"eventstream/event"
	"eventstream/internal/check/cluster"
	"eventstream/internal/check/judge"
	"eventstream/wire"
)

// client is a WebSocket client that knows the documented protocol and nothing
// else. It comes and goes: at any time about a fifth of the clients are away.
type client struct {
	check *run
	chain *judge.Chain
	rng   *rand.Rand

	mu     sync.Mutex
	cursor string // the last one, to resume from
}

func newClient(r *run, i int) *client {
	s := r.subscribers[r.plan.clients[i]]
	return &client{
		check: r, rng: r.plan.rng(streamClients + uint64(i)),
		chain: &judge.Chain{Name: fmt.Sprintf("client-%d", i), Subscriber: s.plan.name, Filters: &s.filters},
	}
}

// run connects and leaves until home is closed; then it stays, until ctx ends.
func (c *client) run(ctx context.Context, home <-chan struct{}) {
	http := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var old *session // left open until the next one is there
	for ctx.Err() == nil {
		s, err := c.connect(ctx, http)
		if old != nil {
			old.leave(leaveFIN)
			old = nil
		}
		if err != nil {
			pause(ctx, between(c.rng, 50*time.Millisecond, 300*time.Millisecond))
			continue
		}
		how := c.stay(ctx, s, home)
		if how == leaveOpen {
			old = s
			continue
		}
		s.leave(how)
		c.stayAway(ctx, home)
	}
	if old != nil {
		old.leave(leaveFIN)
	}
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
	leave := time.After(between(c.rng, 500*time.Millisecond, 13*time.Second))
	slow := make(<-chan time.Time)
	if c.rng.IntN(4) == 0 {
		slow = time.After(between(c.rng, 0, 6*time.Second))
	}
	how, slowFor := leaving(c.rng.IntN(int(leaveEnded))), between(c.rng, 500*time.Millisecond, 4*time.Second)
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
			err := s.ws.Ping(ping)
			cancel()
			if err != nil {
				return leaveRST
			}
		}
	}
}

// session is one connection.
type session struct {
	client *client
	ws     *websocket.Conn
	raw    net.Conn
	seen   *judge.Conn
	ended  chan struct{}
	slow   atomic.Int64 // when to read on, Unix nanoseconds
}

// dialLimit bounds the handshake, and then the wait for hello.
const dialLimit = 8 * time.Second

// connect connects to one of the gateways with the last cursor, and waits for hello.
func (c *client) connect(ctx context.Context, client *http.Client) (*session, error) {
	gateways := c.check.cluster.Gateways()
	g := gateways[c.rng.IntN(len(gateways))]
	c.mu.Lock()
	cursor := c.cursor
	c.mu.Unlock()
	used, err := parseCursor(cursor)
	if err != nil {
		return nil, err
	}
	s := &session{client: c, ended: make(chan struct{})}
	s.seen = c.chain.Dial(c.check.clock.Now(), g.Name, used)
	if err := s.dial(ctx, client, g, cursor); err != nil {
		s.seen.Did(c.check.clock.Now(), "not connected: "+err.Error())
		return nil, err
	}
	greeted := make(chan struct{})
	go s.read(greeted)
	select {
	case <-greeted:
		return s, nil
	case <-s.ended:
		return nil, errors.New("connection ended before hello")
	case <-time.After(dialLimit):
	case <-ctx.Done():
	}
	s.leave(leaveRST)
	return nil, errors.New("no hello")
}

func (s *session) dial(ctx context.Context, client *http.Client, g *cluster.Service, cursor string) error {
	q := url.Values{"subscriber_id": {s.client.chain.Subscriber}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { s.raw = info.Conn },
	})
	var err error
	s.ws, _, err = websocket.Dial(ctx, "ws://"+g.Clients.Addr()+"/ws?"+q.Encode(), &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return err
	}
	s.ws.SetReadLimit(64 << 20)
	return nil
}

// slowly stops reading for a while.
func (s *session) slowly(d time.Duration) {
	s.seen.Did(s.client.check.clock.Now(), "read slowly")
	s.slow.Store(time.Now().Add(d).UnixNano())
}

// leave ends the connection and waits for what it still brings.
func (s *session) leave(how leaving) {
	s.seen.Did(s.client.check.clock.Now(), leavings[how])
	s.slow.Store(0)
	switch how {
	case leaveClose:
		stop := time.AfterFunc(time.Second, func() { s.raw.Close() })
		s.ws.Close(websocket.StatusNormalClosure, "")
		stop.Stop()
	case leaveRST:
		if t, ok := s.raw.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
	}
	s.raw.Close()
	s.ws.CloseNow()
	<-s.ended
}

// read notes all that comes, until the connection ends. It closes greeted when
// there was a hello.
func (s *session) read(greeted chan struct{}) {
	defer close(s.ended)
	for {
		for until := s.slow.Load(); time.Now().UnixNano() < until; until = s.slow.Load() {
			time.Sleep(20 * time.Millisecond)
		}
		_, b, err := s.ws.Read(context.Background())
		if err != nil {
			s.seen.Did(s.client.check.clock.Now(), "lost its connection: "+err.Error())
			return
		}
		var m wire.Message
		if err := json.Unmarshal(b, &m); err != nil {
			s.seen.Event(s.client.check.clock.Now(), event.ID{}, -1)
			return
		}
		if err := s.got(&m); err != nil {
			s.seen.Did(s.client.check.clock.Now(), "did not understand: "+err.Error())
			return
		}
		if m.Type == wire.Hello {
			close(greeted)
		}
	}
}

// got notes one message.
func (s *session) got(m *wire.Message) error {
	at := s.client.check.clock.Now()
	cursor, err := parseCursor(m.Cursor)
	if err != nil {
		return err
	}
	for _, e := range m.Events {
		id, n, err := s.number(&e)
		if err != nil {
			return err
		}
		s.seen.Event(at, id, n)
		s.client.check.flows.delivered.moved()
	}
	switch {
	case m.Type == wire.Hello:
		s.seen.Hello(at, m.Resumed, cursor)
	case m.Type == wire.Gap:
		err = s.gap(at, m)
	case cursor != nil:
		s.seen.Cursor(at, cursor)
	}
	if cursor != nil && err == nil {
		s.client.mu.Lock()
		s.client.cursor = m.Cursor
		s.client.mu.Unlock()
	}
	return err
}

func (s *session) gap(at judge.Seq, m *wire.Message) error {
	from, err := parseCursor(m.From)
	if err != nil {
		return err
	}
	to, err := parseCursor(m.To)
	if err != nil {
		return err
	}
	s.seen.Gap(judge.Gap{At: at, Reason: m.Reason, From: from, To: to, Missing: m.Missing})
	return nil
}

// number returns an event's id, and the number it was produced with, -1 if it is
// none of ours or not as it was.
func (s *session) number(e *wire.Event) (event.ID, int, error) {
	id, err := event.ParseID(e.ID)
	if err != nil {
		return id, 0, err
	}
	var data struct {
		ID string `json:"event_id"`
	}
	if json.Unmarshal(e.Data, &data) != nil {
		return id, -1, nil
	}
	n, err := strconv.Atoi(data.ID)
	if err != nil || !s.client.check.events.Same(n, e.Data) {
		return id, -1, nil
	}
	return id, n, nil
}

func parseCursor(s string) (*event.Cursor, error) {
	if s == "" {
		return nil, nil
	}
	return event.ParseCursor(s)
}
