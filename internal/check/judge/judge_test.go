package judge

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/wire"
)

// world is a history that a test writes by hand. All events are of partition 0,
// and event n has offset n.
type world struct {
	t       *testing.T
	clock   Clock
	events  Events
	filters Filters
	chain   Chain
	conn    *Conn
	allowed bool
}

func newWorld(t *testing.T) *world {
	w := &world{t: t}
	w.chain = Chain{Name: "c", Subscriber: "s", Filters: &w.filters}
	return w
}

// send produces an event of a type, and has it acknowledged.
func (w *world) send(kind string) *Event {
	e := w.sendOnly(kind)
	w.events.Ack(e, w.clock.Now(), id(e.N))
	return e
}

func (w *world) sendOnly(kind string) *Event {
	w.t.Helper()
	e, err := w.events.Send(&w.clock, func(int) (value, means []byte) {
		value = fmt.Appendf(nil, `{"event_type":%q}`, kind)
		return value, value
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func id(n int) event.ID { return event.ID{Offset: int64(n)} }

func cursor(next int) *event.Cursor { return &event.Cursor{Next: []int64{int64(next)}} }

func of(kind string) *filter.Spec {
	return &filter.Spec{SubscriberID: "s", EventTypes: []string{kind}}
}

// filter makes a filter and waits for the answer.
func (w *world) filter(kind string) *Slot {
	s := w.filters.Slot()
	s.Ask(w.clock.Now(), of(kind)).Answer(w.clock.Now())
	return s
}

// connect connects from the offset, or without a cursor if that is negative.
func (w *world) connect(from, hello int) {
	var used *event.Cursor
	if from >= 0 {
		used = cursor(from)
	}
	w.conn = w.chain.Dial(w.clock.Now(), "gateway-0", used)
	w.conn.Hello(w.clock.Now(), from == hello, cursor(hello))
}

func (w *world) gets(events ...*Event) {
	for _, e := range events {
		w.conn.Event(w.clock.Now(), id(e.N), e.N)
	}
}

// long is a type that makes an event long.
var long = strings.Repeat("long", 25)

// tooLarge tells a gap of one event.
func (w *world) tooLarge(n int) {
	w.conn.Gap(Gap{
		At: w.clock.Now(), Reason: wire.GapTooLarge,
		Missing: []wire.Missing{{Partition: 0, From: int64(n), To: int64(n + 1)}},
	})
}

// restore puts filters back, which is followed at once.
func (w *world) restore(s *Saved) {
	for _, c := range s.Restore(w.clock.Now()) {
		c.Answer(w.clock.Now())
	}
}

func (w *world) cursor(next int) { w.conn.Cursor(w.clock.Now(), cursor(next)) }

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*world)
		want []string // kinds of violations, in order of time
	}{
		{"all came", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.gets(w.send("a"), w.send("a"))
		}, nil},
		{"what does not match need not come", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.send("b")
		}, nil},
		{"what was produced before hello need not come", func(w *world) {
			w.filter("a")
			w.send("a")
			w.connect(-1, 1)
		}, nil},
		{"lost", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.send("a")
			w.cursor(1)
		}, []string{Lost}},
		{"lost while no cursor is past it", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.send("a")
		}, []string{Lost}},
		{"lost between two connections", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.gets(w.send("a"))
			w.cursor(1)
			w.send("a")
			w.connect(1, 1)
			w.gets(w.send("a"))
			w.cursor(3)
		}, []string{Lost}},
		{"since: what was produced before hello is due", func(w *world) {
			w.filter("a")
			w.send("a")
			w.chain.Since(w.clock.Now())
			w.send("a")
			w.connect(-1, 2)
			w.cursor(2)
		}, []string{Lost}},
		{"since: nothing is due before the first hello", func(w *world) {
			w.filter("a")
			w.chain.Since(w.clock.Now())
			w.send("a")
		}, nil},
		{"who has left gets no more", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.gets(w.send("a"))
			w.send("a")
			w.chain.Leave(w.clock.Now())
			w.send("a")
		}, nil},
		{"who has left should have got what its cursor is past", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.send("a")
			w.cursor(1)
			w.chain.Leave(w.clock.Now())
		}, []string{Lost}},
		{"what was not acknowledged need not come", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.sendOnly("a")
		}, nil},
		{"what was not acknowledged may come", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.gets(w.sendOnly("a"))
		}, nil},
		{"extra", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.gets(w.send("b"))
		}, []string{Extra}},
		{"extra: not as it was produced", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.conn.Event(w.clock.Now(), id(0), -1)
		}, []string{Extra}},
		{"extra: under another id", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			e := w.send("a")
			w.conn.Event(w.clock.Now(), id(7), e.N)
		}, []string{Extra}},
		{"extra: its filter was deleted before", func(w *world) {
			s := w.filter("a")
			w.connect(-1, 0)
			s.Ask(w.clock.Now(), nil).Answer(w.clock.Now())
			w.gets(w.send("a"))
		}, []string{Extra}},
		{"extra: its filter was made after it came", func(w *world) {
			w.connect(-1, 0)
			w.gets(w.send("a"))
			w.filter("a")
		}, []string{Extra}},
		{"a filter that is made while the event waits may match it", func(w *world) {
			w.connect(-1, 0)
			e := w.send("a")
			w.filter("a")
			w.gets(e)
		}, nil},
		{"a filter that is made while the event waits need not match it", func(w *world) {
			w.connect(-1, 0)
			w.send("a")
			w.filter("a")
		}, nil},
		{"a filter that is deleted while the event waits may match it or not", func(w *world) {
			s := w.filter("a")
			w.connect(-1, 0)
			w.send("a")
			s.Ask(w.clock.Now(), nil).Answer(w.clock.Now())
			w.cursor(1)
		}, nil},
		{"a filter that is deleted after the client was past the event has to have matched it", func(w *world) {
			s := w.filter("a")
			w.connect(-1, 0)
			w.send("a")
			w.cursor(1)
			s.Ask(w.clock.Now(), nil).Answer(w.clock.Now())
		}, []string{Lost}},
		{"a filter that is asked for may match before the answer", func(w *world) {
			w.connect(-1, 0)
			c := w.filters.Slot().Ask(w.clock.Now(), of("a"))
			w.gets(w.send("a"))
			w.send("a")
			w.cursor(2)
			c.Answer(w.clock.Now())
		}, nil},
		{"a filter has to match what is produced after the answer", func(w *world) {
			w.connect(-1, 0)
			w.filters.Slot().Ask(w.clock.Now(), of("a")).Answer(w.clock.Now())
			w.send("a")
			w.cursor(1)
		}, []string{Lost}},
		{"a change without an answer leaves both", func(w *world) {
			s := w.filter("a")
			w.connect(-1, 0)
			s.Ask(w.clock.Now(), of("b"))
			w.gets(w.send("a"), w.send("b"))
			w.send("a")
			w.send("b")
			w.cursor(4)
		}, nil},
		{"a change that was refused changes nothing", func(w *world) {
			s := w.filter("a")
			w.connect(-1, 0)
			s.Refuse(s.Ask(w.clock.Now(), nil))
			w.send("a")
			w.cursor(1)
		}, []string{Lost}},
		{"a later answer settles what had none", func(w *world) {
			s := w.filter("a")
			w.connect(-1, 0)
			s.Ask(w.clock.Now(), of("b"))
			s.Ask(w.clock.Now(), of("c")).Answer(w.clock.Now())
			w.gets(w.send("b"))
			w.send("c")
			w.cursor(2)
		}, []string{Extra, Lost}},
		{"two filters that take turns: one matches at any time", func(w *world) {
			s := w.filter("a")
			w.connect(-1, 0)
			w.send("a")
			w.filter("a")
			s.Ask(w.clock.Now(), nil).Answer(w.clock.Now())
			w.cursor(1)
		}, []string{Lost}},
		{"repeated", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			e := w.send("a")
			w.gets(e, e)
		}, []string{Repeated}},
		{"repeated below the cursor", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			e := w.send("a")
			w.gets(e)
			w.cursor(1)
			w.connect(1, 1)
			w.gets(e)
		}, []string{Repeated}},
		{"a repeat at the seam", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			e := w.send("a")
			w.gets(e)
			w.connect(0, 0)
			w.gets(e)
		}, nil},
		{"a repeat of what the client said to have", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			first, second := w.send("a"), w.send("a")
			w.gets(first, second)
			w.connect(0, 0)
			w.conn.Has([]int64{1})
			w.gets(first, second)
		}, []string{Again}},
		{"what is before the event that it said to have comes after it", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			first, second := w.send("a"), w.send("a")
			w.gets(second)
			w.connect(0, 0)
			w.conn.Has([]int64{2})
			w.gets(first)
		}, []string{Late}},
		{"lost before what it said to have", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.send("a")
			second := w.send("a")
			w.gets(second)
			w.connect(0, 0)
			w.conn.Has([]int64{2})
			w.cursor(2)
		}, []string{Lost}},
		{"late", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			e := w.send("a")
			w.cursor(1)
			w.gets(e)
		}, []string{Late}},
		{"disorder", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			first, second := w.send("a"), w.send("a")
			w.gets(second, first)
		}, []string{Disorder}},
		{"a gap that is not allowed, and what is lost in it", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.send("a")
			w.connect(0, 1)
			w.conn.Gap(Gap{At: w.clock.Now(), Reason: wire.GapTrimmed, From: cursor(0), To: cursor(1)})
		}, []string{Lost, Unasked}},
		{"a gap that is allowed", func(w *world) {
			w.allowed = true
			w.filter("a")
			w.connect(-1, 0)
			w.send("a")
			w.connect(0, 1)
			w.conn.Gap(Gap{At: w.clock.Now(), Reason: wire.GapTrimmed, From: cursor(0), To: cursor(1)})
			w.send("a")
			w.cursor(2)
		}, []string{Lost}}, // the one after it
		{"a gap excuses only what it names", func(w *world) {
			w.allowed = true
			w.filter("a")
			w.connect(-1, 0)
			w.send("a")
			w.send("a")
			w.connect(0, 2)
			w.conn.Gap(Gap{
				At: w.clock.Now(), Reason: wire.GapTrimmed, From: cursor(0), To: cursor(2),
				Missing: []wire.Missing{{Partition: 0, From: 0, To: 1}},
			})
		}, []string{Lost}},
		{"too large for what the client takes", func(w *world) {
			w.chain.Takes = 300
			w.filter(long)
			w.connect(-1, 0)
			w.send(long)
			w.tooLarge(0)
			w.cursor(1)
		}, nil},
		{"too large, and there was room", func(w *world) {
			w.chain.Takes = 1000
			w.filter(long)
			w.connect(-1, 0)
			w.send(long)
			w.tooLarge(0)
			w.cursor(1)
		}, []string{Lost, Unasked}},
		{"too large for a client that takes all", func(w *world) {
			w.filter(long)
			w.connect(-1, 0)
			w.send(long)
			w.tooLarge(0)
			w.cursor(1)
		}, []string{Lost, Unasked}},
		{"too large is one of two", func(w *world) {
			w.chain.Takes = 300
			w.filter(long)
			w.filter("a")
			w.connect(-1, 0)
			w.send(long)
			w.send("a")
			w.tooLarge(0)
			w.cursor(2)
		}, []string{Lost}},
		{"what Kafka has lost need not come", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.gets(w.send("a"))
			w.send("a")
			w.events.Lose(0, 0)
			w.cursor(2)
		}, nil},
		{"what Kafka has kept has to come", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.send("a")
			w.send("a")
			w.events.Lose(0, 1)
			w.cursor(2)
		}, []string{Lost}},
		{"what gets an offset again has to come, or to be in a gap", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.gets(w.send("a"))
			w.cursor(1)
			w.events.Lose(0, 0)
			w.events.Ack(w.sendOnly("a"), w.clock.Now(), id(0))
		}, []string{Lost}},
		{"an id that means two events", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.gets(w.send("a"))
			w.events.Lose(0, 0)
			e := w.sendOnly("a")
			w.events.Ack(e, w.clock.Now(), id(0))
			w.conn.Event(w.clock.Now(), id(0), e.N)
		}, []string{Repeated}},
		{"restored: what was deleted is back", func(w *world) {
			s := w.filter("a")
			w.connect(-1, 0)
			saved := w.filters.Save(w.clock.Now())
			s.Ask(w.clock.Now(), nil).Answer(w.clock.Now())
			w.restore(saved)
			w.send("a")
			w.cursor(1)
		}, []string{Lost}},
		{"restored: what was made since is gone", func(w *world) {
			w.connect(-1, 0)
			saved := w.filters.Save(w.clock.Now())
			w.filter("a")
			w.restore(saved)
			w.gets(w.send("a"))
		}, []string{Extra}},
		{"restored: both may be in force until filter services have followed", func(w *world) {
			s := w.filter("a")
			w.connect(-1, 0)
			saved := w.filters.Save(w.clock.Now())
			s.Ask(w.clock.Now(), of("b")).Answer(w.clock.Now())
			changes := saved.Restore(w.clock.Now())
			w.gets(w.send("a"), w.send("b"))
			w.send("a")
			w.send("b")
			w.cursor(4)
			for _, c := range changes {
				c.Answer(w.clock.Now())
			}
		}, nil},
		{"restored: what was not known then is not known again", func(w *world) {
			s := w.filter("a")
			s.Ask(w.clock.Now(), of("b"))
			w.connect(-1, 0)
			saved := w.filters.Save(w.clock.Now())
			s.Ask(w.clock.Now(), of("c")).Answer(w.clock.Now())
			w.restore(saved)
			w.gets(w.send("a"), w.send("b"), w.send("c"))
			w.send("a")
			w.send("b")
			w.cursor(5)
		}, []string{Extra}},
		{"restored again and again", func(w *world) {
			s := w.filter("a")
			s.Ask(w.clock.Now(), of("b"))
			w.connect(-1, 0)
			for range 100 {
				w.restore(w.filters.Save(w.clock.Now()))
			}
			w.gets(w.send("a"), w.send("b"), w.send("c"))
		}, []string{Extra}},
		{"not resumed, and the gap did not arrive", func(w *world) {
			w.filter("a")
			w.connect(-1, 0)
			w.send("a")
			w.connect(0, 1)
		}, []string{Lost, Unasked}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.do(w)
			c := Case{Events: &w.events, Chains: []*Chain{&w.chain}, Allowed: func(Gap) bool { return w.allowed }}
			v := c.Judge()
			var got []string
			for _, x := range v.Violations {
				got = append(got, x.Kind)
			}
			slices.Sort(got)
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v: %v", got, tt.want, v.Violations)
			}
		})
	}
}

// TestCounts: what the verdict counts.
func TestCounts(t *testing.T) {
	w := newWorld(t)
	w.allowed = true
	w.filter("a")
	w.connect(-1, 0)
	first := w.send("a")
	w.gets(first)
	w.connect(0, 0)
	w.gets(first)
	w.send("a") // lost
	w.cursor(2)
	w.send("a") // in a gap
	w.connect(2, 3)
	w.conn.Gap(Gap{At: w.clock.Now(), Reason: wire.GapTrimmed, From: cursor(2), To: cursor(3)})
	c := Case{Events: &w.events, Chains: []*Chain{&w.chain}, Allowed: func(Gap) bool { return true }}
	v := c.Judge()
	if v.Checked != 2 || v.Lost != 1 || v.Seams != 1 || v.Excused != 1 || v.Extra+v.Repeated != 0 {
		t.Errorf("got %+v, want 2 checked, 1 lost, 1 at a seam, 1 excused", v)
	}
}
