package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/internal/testenv"
	"eventstream/store"
	"eventstream/wire"
)

// brittleAcks fails on demand.
type brittleAcks struct {
	store.Memory
	mu   sync.Mutex
	fail error
}

func (b *brittleAcks) set(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

func (b *brittleAcks) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fail
}

func (b *brittleAcks) SaveAcks(ctx context.Context, acks []event.Ack) error {
	if err := b.failure(); err != nil {
		return err
	}
	return b.Memory.SaveAcks(ctx, acks)
}

func (b *brittleAcks) Acked(ctx context.Context, subscriber string) (event.Ack, error) {
	if err := b.failure(); err != nil {
		return event.Ack{}, err
	}
	return b.Memory.Acked(ctx, subscriber)
}

func durableWorld(t *testing.T) (*world, *brittleAcks) {
	w := newWorld(t, 2).replayed()
	w.beats()
	acks := &brittleAcks{}
	w.acks = acks
	return w, acks
}

func (i *instance) durable(t *testing.T, subscriber string) *wsClient {
	t.Helper()
	return connectURL(t, i.url(subscriber, "")+"&durable=true", subscriber)
}

func (c *wsClient) ack(cursor string) {
	c.t.Helper()
	c.send(fmt.Sprintf(`{"type":"ack","cursor":%q}`, cursor))
}

func TestAck(t *testing.T) {
	t.Parallel()
	w, _ := durableWorld(t)
	g, other := w.gateway(Config{}), w.gateway(Config{Heartbeat: time.Second})
	c := g.durable(t, "user_1")
	if c.hello.Resumed {
		t.Errorf("first connect: hello %+v, want none to resume from", c.hello)
	}
	first := w.publish(0, "user_1")
	c.untilEvent(first)
	c.ws.CloseNow()

	// Nothing was acknowledged: all comes again, also elsewhere.
	c = other.durable(t, "user_1")
	c.untilEvent(first)
	second := w.publish(1, "user_1")
	c.untilEvent(second)
	cursor := c.untilType(wire.Cursor).Cursor // comes with the heartbeat, and is of after both
	c.ack(cursor)
	if got := c.untilType(wire.Acked).Cursor; got != cursor {
		t.Errorf("acked %q, want %q", got, cursor)
	}
	third := w.publish(0, "user_1")
	c.untilEvent(third)
	c.ws.CloseNow()

	c = g.durable(t, "user_1")
	c.untilEvent(third)
	wantIDs(t, c, third)
	if c.check(); !c.hello.Resumed {
		t.Errorf("hello %+v, want resumed", c.hello)
	}
	// Who isn't durable gets nothing of before.
	plain := connect(t, g, "user_1", "")
	fourth := w.publish(0, "user_1")
	plain.untilEvent(fourth)
	wantIDs(t, plain, fourth)
}

// A durable subscriber that was away for longer than the resume window, while
// Redis lost everything, goes on from Kafka.
func TestAckOutlivesRedis(t *testing.T) {
	t.Parallel()
	w, _ := durableWorld(t)
	g := w.gateway(Config{ResumeWindow: time.Second})
	c := g.durable(t, "user_1")
	w.forget(g, c)
	var want []string
	for i := range 20 {
		want = append(want, w.publish(i%2, "user_1"))
	}
	c = g.durable(t, "user_1")
	for len(c.seen) < len(want) {
		c.untilType(wire.Events)
	}
	wantIDs(t, c, want...)
	if c.check(); !c.hello.Resumed || len(c.gaps) > 0 {
		t.Errorf("hello %+v, gaps %+v; want resumed without a gap", c.hello, c.gaps)
	}
}

func TestAckRefused(t *testing.T) {
	t.Parallel()
	w, _ := durableWorld(t)
	g := w.gateway(Config{})
	c := g.durable(t, "user_1")
	cur, err := event.ParseCursor(c.cursor)
	if err != nil {
		t.Fatal(err)
	}
	future, foreign := *cur, *cur
	future.Next = []int64{1 << 40, 0}
	foreign.Topic[0]++
	for _, tt := range []struct{ cursor, want string }{
		{"x", "malformed cursor"},
		{foreign.String(), "of another topic"},
		{future.String(), "were not sent yet"},
	} {
		c.ack(tt.cursor)
		if m := c.untilType(wire.Error); m.Code != "bad_ack" || !strings.Contains(m.Text, tt.want) {
			t.Errorf("ack of %.20s: got %+v, want bad_ack with %q", tt.cursor, m, tt.want)
		}
	}
	bare := connect(t, startGateway(t, Config{}, w.store), "user_1", "")
	bare.ack(cur.String())
	if m := bare.untilType(wire.Error); !strings.Contains(m.Text, "no database") {
		t.Errorf("ack without a database: got %+v", m)
	}
}

// While the database is down, acknowledgements wait, and durable clients are asked
// to come again; others notice nothing.
func TestAckWithoutDatabase(t *testing.T) {
	t.Parallel()
	w, acks := durableWorld(t)
	g := w.gateway(Config{})
	c := g.durable(t, "user_1")
	acks.set(errors.New("connection refused"))
	c.ack(c.hello.Cursor)
	id := w.publish(0, "user_1")
	c.untilEvent(id)
	connect(t, g, "user_2", "")
	if _, resp, err := dialURL(g.url("user_3", "") + "&durable=true"); err == nil || resp.StatusCode != 503 {
		t.Errorf("a durable client joined without a database: %v", err)
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		if strings.HasSuffix(metric(t, g, "ack_failures_total"), " 0") {
			return errors.New("no failure counted")
		}
		return nil
	})
	acks.set(nil)
	c.untilType(wire.Acked)
}
