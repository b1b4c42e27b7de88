package check

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"eventstream/event"
	"eventstream/internal/check/cluster"
	"eventstream/internal/check/judge"
	"eventstream/wire"
)

// session is one connection.
type session struct {
	client *client
	stream stream
	raw    net.Conn
	seen   *judge.Conn
	acks   *rand.Rand // which cursors are acknowledged
	at     place      // only read's
	ended  chan struct{}
	slow   atomic.Int64 // when to read on, Unix nanoseconds
	forgot int          // of the client, when the connection began
}

// dialLimit bounds the handshake, and then the wait for hello.
const dialLimit = 8 * time.Second

// connect connects to one of the gateways with the last cursor, and waits for hello.
func (c *client) connect(ctx context.Context, client *http.Client) (*session, error) {
	gateways := c.check.cluster.Gateways()
	g := gateways[c.rng.IntN(len(gateways))]
	from, forgot := c.place()
	used, err := parseCursor(from.cursor)
	if err != nil {
		return nil, err
	}
	s := &session{client: c, acks: rand.New(rand.NewPCG(c.rng.Uint64(), 0)), ended: make(chan struct{}), forgot: forgot}
	s.seen = c.chain.Dial(c.check.clock.Now(), g.Name, used)
	s.seen.Has(from.since)
	patience := c.patience()
	if err := s.dial(ctx, client, g, from, patience); err != nil {
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
	case <-time.After(patience):
	case <-ctx.Done():
	}
	s.leave(leaveRST)
	return nil, errors.New("no hello")
}

func (s *session) dial(ctx context.Context, client *http.Client, g *cluster.Service, from place, limit time.Duration) error {
	q := url.Values{"subscriber_id": {s.client.chain.Subscriber}}
	h := s.client.habit
	switch {
	case h.durable:
		q.Set("durable", "true") // goes on from what was acknowledged
	case from.cursor != "":
		q.Set("cursor", from.cursor)
		if seen := from.seen(); seen != "" {
			q.Set("seen", seen)
		}
	case h.since:
		q.Set("since", s.client.begin.Format(time.RFC3339Nano))
	}
	if h.takes > 0 {
		q.Set("max_message", strconv.Itoa(h.takes))
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { s.raw = info.Conn },
	})
	open := openWebSocket
	if h.sse {
		open = openSSE
	}
	var err error
	s.stream, err = open(ctx, client, g.Clients.Addr(), q, cmp.Or(h.takes, maxMessage), limit)
	return err
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
		s.stream.close()
		stop.Stop()
	case leaveRST:
		if t, ok := s.raw.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
	}
	s.raw.Close()
	s.stream.closeNow()
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
		b, err := s.stream.read()
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
	at, exact, text := s.client.check.clock.Now(), s.client.habit.exact, m.Cursor
	if id := s.stream.id(); id != "" && exact {
		text = id
	}
	cursor, err := parseCursor(text)
	if err != nil {
		return err
	}
	for _, e := range m.Events {
		id, n, err := s.number(&e)
		if err != nil {
			return err
		}
		s.seen.Event(at, id, n)
		if exact && s.at.cursor != "" {
			s.at = s.at.with(id)
		}
		s.client.check.flows.delivered.moved()
		s.client.check.newest.came(id.Partition, n)
	}
	switch {
	case m.Type == wire.Hello:
		s.seen.Hello(at, m.Resumed, cursor)
	case m.Type == wire.Gap:
		err = s.gap(at, m)
	case m.Type == wire.Acked:
	case cursor != nil:
		s.seen.Cursor(at, cursor)
	}
	if err != nil {
		return err
	}
	return s.keep(m, text)
}

// keep notes where the client is after a message, or acknowledges that.
func (s *session) keep(m *wire.Message, cursor string) error {
	if m.Type == wire.Acked {
		since, err := parseSeen(m.Seen)
		s.client.acknowledged(place{m.Cursor, since}, s.forgot)
		return err
	}
	if cursor != "" {
		s.at = place{cursor: cursor}
	} else if len(m.Events) == 0 || !s.client.habit.exact || s.at.cursor == "" {
		return nil
	}
	if !s.client.habit.durable {
		s.client.saw(s.at)
	} else if m.Type != wire.Hello && s.acks.IntN(3) == 0 {
		s.stream.ack(s.at)
	}
	return nil
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

func parseSeen(s string) ([]int64, error) {
	if s == "" {
		return nil, nil
	}
	return event.ParseSeen(s)
}
