package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/gateway/position"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/wire"
)

// fakeKafka keeps all that a world publishes, and replays it as a filter service
// does.
type fakeKafka struct {
	client *replay.Client

	mu     sync.Mutex
	parts  [][]record
	oldest []int64
	fail   error                // of every request
	cut    func(sent int) error // of a stream that has sent so many events; nil for never
	asked  int
	stray  *replay.Batch // all that a stream has; nil for what was asked for
}

type record struct {
	data string
	to   []string
	at   time.Time
}

// replayed lets a world's gateways replay from what it publishes.
func (w *world) replayed() *world {
	k := &fakeKafka{parts: make([][]record, len(w.parts)), oldest: make([]int64, len(w.parts))}
	srv := httptest.NewServer(replay.Handler(k.serve, nil, testenv.Log(w.t)))
	w.t.Cleanup(srv.Close)
	c, err := replay.NewClient([]string{srv.URL}, nil, testenv.Log(w.t))
	if err != nil {
		w.t.Fatal(err)
	}
	w.kafka, k.client = k, c
	return w
}

func (k *fakeKafka) add(p int, data string, to []string) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.parts[p] = append(k.parts[p], record{data, to, time.Now()})
}

func (k *fakeKafka) set(do func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	do()
}

func (k *fakeKafka) serve(_ context.Context, r replay.Request, w *replay.Writer) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	if k.fail != nil {
		return k.fail
	}
	from := slices.Clone(r.From)
	if from == nil {
		for _, records := range k.parts {
			n := slices.IndexFunc(records, func(r2 record) bool { return !r2.at.Before(r.Since) })
			if n < 0 {
				n = len(records)
			}
			from = append(from, int64(n))
		}
	}
	from = position.Extend(from, len(k.parts)) // also partitions that the gateway does not know
	r.To = append(slices.Clone(r.To), from[len(r.To):]...)
	var lost []replay.Lost
	for p := range from {
		if r.To[p] > int64(len(k.parts[p])) {
			return replay.ErrBeyondEnd
		}
		if o := min(k.oldest[p], r.To[p]); from[p] < o {
			lost = append(lost, replay.Lost{Partition: int32(p), From: from[p], To: o, Reason: wire.GapTrimmed})
			from[p] = o
		}
	}
	if b := k.stray; b != nil {
		from = position.Extend(from, int(b.Partition)+1)
		r.To = append(position.Extend(r.To, int(b.Partition)), b.Next)
		if err := w.Begin(from, r.To, lost); err != nil {
			return err
		}
		if err := w.Batch(*b); err != nil {
			return err
		}
		return w.End()
	}
	if err := w.Begin(from, r.To, lost); err != nil {
		return err
	}
	if err := k.sendLocked(r, from, w); err != nil {
		return err
	}
	return w.End()
}

func (k *fakeKafka) sendLocked(r replay.Request, from []int64, w *replay.Writer) error {
	sent := 0
	var packer lane.Packer
	for p := range from {
		for o := from[p]; o < r.To[p]; o++ {
			b := replay.Batch{Partition: int32(p), Next: o + 1}
			if rec := k.parts[p][o]; slices.Contains(rec.to, r.Subscriber) && !rec.at.Before(r.Since) {
				packer.Reset()
				packer.Add(o, rec.at.UnixMilli(), []byte(rec.data), nil)
				b.Entry = packer.Bytes()
				sent++
			}
			if k.cut != nil {
				if err := k.cut(sent); err != nil {
					return err
				}
			}
			if err := w.Batch(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// forget lets a client's seat be forgotten: it left, and its window is over.
func (w *world) forget(g *instance, c *wsClient) {
	w.t.Helper()
	cur, err := event.ParseCursor(c.hello.Cursor)
	if err != nil {
		w.t.Fatal(err)
	}
	c.ws.CloseNow()
	testenv.Eventually(w.t, 10*time.Second, func() error {
		for _, seat := range []event.Seat{cur.Addr.Seat} {
			if _, ok := g.presence.Occupant(seat); ok && cur.Addr.Gateway == g.id {
				return errors.New("the seat can still be resumed from")
			}
		}
		return nil
	})
}

// trimRead trims a partition when the gateway has read all of it.
func (w *world) trimRead(g *instance, p int) {
	w.t.Helper()
	testenv.Eventually(w.t, 5*time.Second, func() error {
		if at := g.topics.laneReaders()[0].Positions()[p]; at < w.parts[p].next {
			return fmt.Errorf("reader is at %d of %d", at, w.parts[p].next)
		}
		return nil
	})
	w.trim(p)
}

// beats has positions tell all the time how much of the control stream is applied.
func (w *world) beats() {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				w.beat()
			}
		}
	}()
	w.t.Cleanup(func() { close(stop); <-done })
}

// A cursor that nobody knows any more is resumed from Kafka, also where the stream
// breaks off.
func TestResumeFromKafka(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"in one go", "cut off"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2).replayed()
			w.beats()
			g := w.gateway(Config{ResumeWindow: time.Second})
			c := connect(t, g, "user_1", "")
			had := w.publish(0, "user_1")
			c.untilEvent(had)
			w.forget(g, c)
			var want []string
			if c.cursor == c.hello.Cursor { // no newer one came
				want = append(want, had)
			}
			for i := range 300 {
				want = append(want, w.publish(i%2, "user_1"))
				w.publish(i%2, "user_2")
			}
			if name == "cut off" {
				cuts := 0
				w.kafka.set(func() {
					w.kafka.cut = func(sent int) error {
						if sent%100 == 99 && cuts < 2 {
							cuts++
							return errors.New("killed")
						}
						return nil
					}
				})
			}
			r := connect(t, g, "user_1", c.cursor)
			want = append(want, w.publish(0, "user_1"))
			r.untilEvent(want[len(want)-1])
			for len(r.seen) < len(want) {
				r.untilType(wire.Events)
			}
			wantIDs(t, r, want...)
			r.check()
			if !r.hello.Resumed || len(r.gaps) > 0 {
				t.Errorf("hello %+v, gaps %+v; want resumed without a gap", r.hello, r.gaps)
			}
			// Its cursor is as good as any other.
			again := connect(t, g, "user_1", r.cursor)
			id := w.publish(1, "user_1")
			again.untilEvent(id)
		})
	}
}

// What the lanes have trimmed comes from Kafka, the rest from the lanes.
func TestTrimmedComesFromKafka(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2).replayed()
	w.beats()
	g := w.gateway(Config{RingBytes: 1})
	c := connect(t, g, "user_1", "")
	c.ws.CloseNow()
	want := []string{w.publish(0, "user_1"), w.publish(0, "user_1"), w.publish(1, "user_1")}
	w.trimRead(g, 0)
	want = append(want, w.publish(0, "user_1"))
	r := connect(t, g, "user_1", c.cursor)
	for len(r.seen) < len(want) {
		r.untilType(wire.Events)
	}
	wantIDs(t, r, want...)
	r.check()
	if !r.hello.Resumed || len(r.gaps) > 0 {
		t.Errorf("hello %+v, gaps %+v; want resumed without a gap", r.hello, r.gaps)
	}
}

// What Kafka has lost is a gap that says which events.
func TestLostByKafka(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).replayed()
	w.beats()
	g := w.gateway(Config{RingBytes: 1})
	c := connect(t, g, "user_1", "")
	c.ws.CloseNow()
	for range 5 {
		w.publish(0, "user_1")
	}
	w.trimRead(g, 0)
	w.kafka.set(func() { w.kafka.oldest[0] = 3 })
	r := connect(t, g, "user_1", c.cursor)
	gap := r.untilType(wire.Gap)
	if want := []wire.Missing{{Partition: 0, From: 0, To: 3}}; gap.Reason != wire.GapTrimmed || !slices.Equal(gap.Missing, want) || r.hello.Resumed {
		t.Errorf("hello %+v, gap %+v; want %v missing", r.hello, gap, want)
	}
	for len(r.seen) < 2 {
		r.untilType(wire.Events)
	}
	wantIDs(t, r, "0-3", "0-4")
}

func (i *instance) urlSince(subscriber, since string) string {
	return i.url(subscriber, "") + "&since=" + since
}

func TestSince(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2).replayed()
	w.beats()
	g := w.gateway(Config{})
	var want []string
	for i := range 20 {
		want = append(want, w.publish(i%2, "user_1"))
	}
	r := connectURL(t, g.urlSince("user_1", "1h"), "user_1")
	live := w.publish(0, "user_1")
	r.untilEvent(live)
	for len(r.seen) < 21 {
		r.untilType(wire.Events)
	}
	wantIDs(t, r, append(want, live)...)
	if r.check(); !r.hello.Resumed {
		t.Errorf("hello %+v, want resumed", r.hello)
	}
	// Breaking off before anything came loses nothing.
	again := connect(t, g, "user_1", r.hello.Cursor)
	for len(again.seen) < 21 {
		again.untilType(wire.Events)
	}
	wantIDs(t, again, append(want, live)...)

	none := connectURL(t, g.urlSince("user_1", time.Now().Add(-time.Millisecond).UTC().Format(time.RFC3339Nano)), "user_1")
	next := w.publish(1, "user_1")
	none.untilEvent(next)
	if none.check(); len(none.seen) > 2 {
		t.Errorf("events since now: got %v", none.order)
	}
}

// A replay since a time that breaks off and is asked for again gives nothing that is older,
// either: records that came late may lie behind younger ones.
func TestSinceBreaksOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).replayed()
	w.beats()
	g := w.gateway(Config{})
	for range 6 {
		w.publish(0, "user_1")
	}
	broke := false
	w.kafka.set(func() {
		w.kafka.parts[0][4].at = time.Now().Add(-2 * time.Hour)
		w.kafka.cut = func(sent int) error {
			if sent == 2 && !broke {
				broke = true
				return errors.New("broke off")
			}
			return nil
		}
	})
	r := connectURL(t, g.urlSince("user_1", "1h"), "user_1")
	r.untilEvent("0-5")
	wantIDs(t, r, "0-0", "0-1", "0-2", "0-3", "0-5")
	w.kafka.set(func() {
		if !broke || w.kafka.asked != 2 {
			t.Errorf("broke off: %t, asked %d times, want twice", broke, w.kafka.asked)
		}
	})
}

func TestSinceRefused(t *testing.T) {
	w := newWorld(t, 1).replayed()
	g, bare := w.gateway(Config{}), startGateway(t, Config{}, w.store)
	cursor := connect(t, g, "user_1", "").cursor
	for _, tt := range []struct{ query, want string }{
		{"since=yesterday", "want a time such as"},
		{"since=-1h", "is in the future"},
		{"since=2999-01-01T00:00:00Z", "is in the future"},
		{"since=1960-01-01T00:00:00Z", "before 1970"},
		{"since=1h&cursor=" + cursor, "want one of them"},
		{"durable=yes", "allowed are true and false"},
		{"durable=true", "no database"},
	} {
		_, problem := askRaw(t, g, strings.Replace(request("user_1", ""), "subscriber_id=", tt.query+"&subscriber_id=", 1))
		if detail := fmt.Sprint(problem["detail"]); problem["status"] != 400.0 || !strings.Contains(detail, tt.want) {
			t.Errorf("%s: got %v, want 400 and %q", tt.query, problem, tt.want)
		}
	}
	_, problem := askRaw(t, bare, strings.Replace(request("user_1", ""), "subscriber_id=", "since=1h&subscriber_id=", 1))
	if problem["status"] != 400.0 {
		t.Errorf("since without a filter service: got %v, want 400", problem)
	}
}

// While no filter service replays, the client is asked to come again: no gap.
func TestReplayUnavailable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).replayed()
	w.beats()
	g := w.gateway(Config{ResumeWindow: time.Second})
	c := connect(t, g, "user_1", "")
	w.forget(g, c)
	id := w.publish(0, "user_1")
	w.kafka.set(func() { w.kafka.fail = replay.Busy(7*time.Second, errors.New("full")) })
	resp, problem := askRaw(t, g, request("user_1", c.cursor))
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "7" {
		t.Errorf("got %d %v %v, want 503 with Retry-After 7", resp.StatusCode, resp.Header, problem)
	}
	if detail := fmt.Sprint(problem["detail"]); strings.Contains(detail, "127.0.0.1") || strings.Contains(detail, "full") {
		t.Errorf("a client is told of our filter services: %s", detail)
	}
	w.kafka.set(func() { w.kafka.fail = nil })
	r := connect(t, g, "user_1", c.cursor)
	r.untilEvent(id)
	forged := event.Cursor{Topic: testTopic, Issued: time.Now(), Next: []int64{1 << 40}}
	ahead := connect(t, g, "user_1", forged.String()) // for all that is known, Kafka lost records
	if gap := ahead.untilType(wire.Gap); gap.Reason != wire.GapLost {
		t.Errorf("a cursor of the future: got %+v, want a gap, %s", gap, wire.GapLost)
	}
}

// A slow client goes on from Kafka when the lanes have trimmed what it has yet to
// get.
func TestSlowBeyondTheLanes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).replayed()
	w.beats()
	g := w.gateway(Config{MaxPending: 64 << 10, RingBytes: 1})
	slow := connect(t, g, "slow", "")
	n := 0
	testenv.Eventually(t, 10*time.Second, func() error {
		for range 100 {
			w.publishSized(0, 4<<10, "slow")
			n++
		}
		if strings.HasSuffix(metric(t, g, "clients_fell_behind_total"), " 0") {
			return errors.New("is not behind yet")
		}
		return nil
	})
	for range 200 {
		w.publishSized(0, 4<<10, "slow")
		n++
	}
	w.trimRead(g, 0)
	for len(slow.seen) < n {
		slow.untilType(wire.Events)
	}
	slow.check()
	if w.kafka.asked == 0 {
		t.Error("it was not served from Kafka: this tested nothing")
	}
}
