package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"eventstream/internal/ops"
	"eventstream/internal/testenv"
	"eventstream/wire"
)

// What clients acknowledged who have gone is saved when the database is back, and
// takes no more room meanwhile than one acknowledgement for each subscriber.
func TestAcksOfThoseWhoHaveGone(t *testing.T) {
	t.Parallel()
	w, acks := durableWorld(t)
	g := w.gateway(Config{})
	first := connect(t, g, "user_1", "") // not durable: those wait for the database
	acks.set(errors.New("connection refused"))
	cursor := first.hello.Cursor
	for range 50 {
		c := connect(t, g, "user_1", "")
		cursor = c.hello.Cursor
		c.ack(cursor)
		c.send(`{"type":"ping"}`)
		c.untilType(wire.Pong) // so the gateway has the acknowledgement
		c.ws.CloseNow()
	}
	testenv.Eventually(t, 30*time.Second, func() error {
		if n, bytes := g.acks.Waiting(), g.acks.Bytes(); n != 1 || bytes > 2<<10 {
			return fmt.Errorf("%d wait, of %d bytes; want one", n, bytes)
		}
		return nil
	})
	if got := metric(t, g, "acks_waiting"); got != "acks_waiting 1" {
		t.Errorf("metric %q", got)
	}
	testenv.Eventually(t, 30*time.Second, func() error {
		if err := g.Ready(t.Context()); !ops.IsDegraded(err) || !strings.Contains(err.Error(), "connection refused") {
			return fmt.Errorf("ready: %v; want degraded, with the reason", err)
		}
		return nil
	})
	acks.set(nil)
	testenv.Eventually(t, 30*time.Second, func() error {
		a, err := acks.Acked(t.Context(), "user_1")
		if err == nil && !slices.Equal(a.Cursor.Next, nextOf(t, cursor)) { // of several from there, any
			return fmt.Errorf("acknowledged is %v, want %v", a.Cursor.Next, nextOf(t, cursor))
		}
		return err
	})
	testenv.Eventually(t, 30*time.Second, func() error {
		if n, bytes := g.acks.Waiting(), g.acks.Bytes(); n > 0 || bytes != 0 {
			return fmt.Errorf("%d wait, of %d bytes", n, bytes)
		}
		return g.Ready(t.Context())
	})
	for text, times := range map[string]int{"acknowledgements can't be saved": 1, "acknowledgements can be saved again": 1} {
		if n := strings.Count(g.logs.String(), text); n != times {
			t.Errorf("%q is %d times in the log, want %d:\n%s", text, n, times, g.logs)
		}
	}
}

// Where there is no more room, clients are told, and it is over when there is.
func TestAcksAreFull(t *testing.T) {
	t.Parallel()
	w, acks := durableWorld(t)
	g := w.gateway(Config{maxAckBytes: 2 << 10}) // one fits
	c, other := connect(t, g, "user_1", ""), connect(t, g, "user_2", "")
	acks.set(errors.New("connection refused"))
	other.ack(other.hello.Cursor)
	other.send(`{"type":"ping"}`)
	other.untilType(wire.Pong) // so the gateway has the acknowledgement
	c.ack(c.hello.Cursor)
	if m := c.untilType(wire.Error); m.Code != "ack_later" || !strings.Contains(m.Text, "acknowledge again later") {
		t.Errorf("an acknowledgement too many: %+v", m)
	}
	if got := metric(t, g, "acks_refused_total"); got != "acks_refused_total 1" {
		t.Errorf("metric %q", got)
	}
	acks.set(nil)
	other.untilType(wire.Acked)
	c.ack(c.hello.Cursor)
	c.untilType(wire.Acked)
}
