package acks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
	"eventstream/store"
)

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

// client has read everything up to at, and keeps its answers.
type client struct {
	subscriber string
	at         []int64
	answers    []string
}

func (c *client) Subscriber() string { return c.subscriber }
func (c *client) Positions() []int64 { return c.at }
func (c *client) Answer(text []byte) { c.answers = append(c.answers, string(text)) }

func newTest(s Store) *Acks {
	counter := func() prometheus.Counter { return prometheus.NewCounter(prometheus.CounterOpts{}) }
	return New(s, Config{
		Timeout: 5 * time.Second, Topic: func() event.TopicID { return event.TopicID{} },
		Check: func(*event.Cursor, string) error { return nil },
		Saved: counter(), Failures: counter(), Refused: counter(),
	}, slog.New(slog.DiscardHandler))
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
		a := newTest(b)
		for i := range tt.subscribers {
			c := &client{subscriber: fmt.Sprint("user_", i)}
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

// A client that is there hears that its acknowledgement was saved. One that has gone is
// kept by nobody, whether it goes before its acknowledgement is looked at or after.
func TestGone(t *testing.T) {
	b := &batches{fail: 1}
	a := newTest(b)
	cursor := event.Cursor{Issued: time.Now(), Next: []int64{3}}
	stays, early, late := &client{subscriber: "s", at: []int64{3}}, &client{subscriber: "s", at: []int64{3}}, &client{subscriber: "s", at: []int64{3}}
	for _, c := range []*client{stays, early, late} {
		if err := a.Take(c, Asked{Cursor: cursor.String()}); err != nil {
			t.Fatal(err)
		}
	}
	a.Gone(early)
	if err := a.save(t.Context()); err == nil || a.Waiting() != 1 {
		t.Fatalf("save: %v, %d wait; want it to fail, and one", err, a.Waiting())
	}
	a.Gone(late)
	if asked := a.due["s"].asked; len(asked) != 1 {
		t.Errorf("%d clients are to be told, want the one that is there", len(asked))
	}
	b.fail = 0
	if err := a.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(stays.answers) != 1 || len(early.answers)+len(late.answers) > 0 || a.Bytes() != 0 {
		t.Errorf("answers %q, %q, %q, and %d bytes; want one for the client that is there", stays.answers, early.answers, late.answers, a.Bytes())
	}
}
