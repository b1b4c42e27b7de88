package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
	"eventstream/internal/ops"
	"eventstream/internal/testenv"
	"eventstream/store"
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
		g.acks.mu.Lock()
		defer g.acks.mu.Unlock()
		if len(g.acks.fresh) > 0 || len(g.acks.due) != 1 || len(g.acks.due["user_1"].asked) > 0 {
			return fmt.Errorf("%d fresh, %d due; want one due, of which nobody is told", len(g.acks.fresh), len(g.acks.due))
		}
		if parsed, err := event.ParseCursor(cursor); err != nil || g.acks.bytes != size("user_1", parsed) {
			return fmt.Errorf("%d bytes, %v", g.acks.bytes, err)
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
		g.acks.mu.Lock()
		defer g.acks.mu.Unlock()
		if len(g.acks.due) > 0 || g.acks.bytes != 0 {
			return fmt.Errorf("%d due, %d bytes", len(g.acks.due), g.acks.bytes)
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
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "")
	acks.set(errors.New("connection refused"))
	grow := func(bytes int) {
		g.acks.mu.Lock()
		defer g.acks.mu.Unlock()
		g.acks.bytes += bytes
	}
	grow(maxAckBytes)
	c.ack(c.hello.Cursor)
	if m := c.untilType(wire.Error); m.Code != "ack_later" || !strings.Contains(m.Text, "acknowledge again later") {
		t.Errorf("an acknowledgement too many: %+v", m)
	}
	if got := metric(t, g, "acks_refused_total"); got != "acks_refused_total 1" {
		t.Errorf("metric %q", got)
	}
	grow(-maxAckBytes)
	c.ack(c.hello.Cursor)
	acks.set(nil)
	c.untilType(wire.Acked)
}

// batches remembers how many acknowledgements were saved together.
type batches struct {
	store.Memory
	sizes []int
	fail  int // from which one on it fails; 0 for never
}

func (b *batches) SaveAcks(ctx context.Context, acks []event.Ack) error {
	if b.sizes = append(b.sizes, len(acks)); b.fail > 0 && len(b.sizes) >= b.fail {
		return errors.New("connection lost")
	}
	return b.Memory.SaveAcks(ctx, acks)
}

// However many wait, they are saved some at a time, and what was saved does not come
// again when the rest fails.
func TestAcksAreSavedInBatches(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		subscribers, positions int
		most                   int // in one statement
	}{
		{"many", 2500, 12, saveAcks},
		{"large", 200, 4096, saveBytes/(8*4096) + 1},
	} {
		b := &batches{fail: 2}
		g := New(Config{}, nil, nil, b, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		a := g.acks
		for i := range tt.subscribers {
			c := &conn{subscriber: fmt.Sprint("user_", i)}
			a.merge(c, acked{cursor: &event.Cursor{Next: make([]int64, tt.positions)}, gone: true}, time.Now())
		}
		if err := a.save(t.Context()); err == nil {
			t.Fatalf("%s: save does not fail", tt.name)
		}
		if len(b.sizes) != 2 || len(a.due) != tt.subscribers-b.sizes[0] {
			t.Errorf("%s: %d of %d are left after %v were saved in two batches, of which the second failed", tt.name, len(a.due), tt.subscribers, b.sizes)
		}
		b.fail = 0
		if err := a.save(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, n := range b.sizes {
			if n > tt.most || n == 0 {
				t.Errorf("%s: batches of %v, want %d at most", tt.name, b.sizes, tt.most)
			}
		}
		totals, err := b.AckTotals(t.Context(), event.TopicID{}, nil)
		if err != nil || totals.Subscribers != int64(tt.subscribers) || len(a.due) > 0 || a.bytes != 0 {
			t.Errorf("%s: %d saved, %d due, %d bytes, %v; want all saved", tt.name, totals.Subscribers, len(a.due), a.bytes, err)
		}
	}
}
