package delivery

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"eventstream/event"
	"eventstream/gateway/admission"
	"eventstream/gateway/framing"
	"eventstream/gateway/framing/framingtest"
	"eventstream/gateway/history"
	"eventstream/gateway/reader"
	"eventstream/wire"
)

// texts returns the text messages that a socket was given: of a stream, its lines of data.
func (f *fakeSocket) texts(t *testing.T, how framing.Kind) (texts []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, frame := range f.frames {
		if how == framing.EventStream {
			in := bufio.NewReader(strings.NewReader(string(frame)))
			for line, err := in.ReadString('\n'); err == nil; line, err = in.ReadString('\n') {
				if strings.HasPrefix(line, framing.DataField) {
					texts = append(texts, strings.TrimSuffix(line, "\n"))
				}
			}
			continue
		}
		if frame[0]&framingtest.RSV1 != 0 {
			payload := frame[len(frame)-payloadLen(frame):]
			texts = append(texts, string(framingtest.Decompressed(t, payload)))
		} else if op, payload := framingtest.ServerFrame(t, frame); op == framing.OpText {
			texts = append(texts, string(payload))
		}
	}
	return texts
}

func payloadLen(frame []byte) int {
	switch frame[1] {
	case 126:
		return len(frame) - 4
	case 127:
		return len(frame) - 10
	}
	return len(frame) - 2
}

// Messages of several events are no larger than a client takes, whatever waits for it, and
// whatever a cursor comes to. An event that is larger stands alone, or is told of.
func TestMessageSizes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 24 {
		partitions := []int{1, 12, 300, event.MaxPartitions}[n%4]
		how := []framing.Kind{framing.WebSocket, framing.Deflated, framing.EventStream}[n%3]
		most := []uint32{0, admission.LeastMaxMessage, 40_000, 100_000}[rng.IntN(4)]
		limit := int(most)
		if most == 0 {
			limit = defaultMaxMessage
		}
		t.Run(fmt.Sprintf("%d: %d partitions, framing %d, max_message %d", n, partitions, how, most), func(t *testing.T) {
			b := newBenchOf(t, Config{MaxPending: 100 << 20}, partitions)
			c, f := b.joinAs(how, nil)
			c.maxMessage = most
			b.openConn(c)
			next := slices.Repeat([]int64{1 << 40}, partitions)
			f.frames = nil
			var want []string
			large := make(map[string]bool)
			for range 100 {
				p := rng.IntN(partitions)
				id := event.ID{Partition: int32(p), Offset: next[p]}
				next = slices.Clone(next)
				next[p]++
				size := []int{rng.IntN(500), rng.IntN(3000), rng.IntN(limit + 2000), limit - 100 + rng.IntN(100)}[rng.IntN(4)]
				msg := &history.Event{ID: id, JSON: wire.AppendEvent(nil, id, 5, fmt.Appendf(nil, "%q", strings.Repeat("x", size)))}
				want = append(want, id.String())
				large[id.String()] = len(msg.JSON) > limit-envelope
				b.Post(reader.Post{Deliveries: []reader.Delivery{{Event: msg, Seats: []event.Seat{c.seat}}}, Next: next})
				if rng.IntN(4) == 0 {
					b.settleMail()
				}
				if rng.IntN(8) == 0 {
					c.lastCursor = 0
				}
			}
			b.settleMail()
			b.settleCursors()
			b.settleCursors()
			var got []string
			var last *event.Cursor
			for _, text := range f.texts(t, how) {
				var m wire.Message
				if err := json.Unmarshal([]byte(strings.TrimPrefix(text, framing.DataField)), &m); err != nil {
					t.Fatal(err)
				}
				if m.Type == wire.Events && len(text) > limit && (len(m.Events) > 1 || most != 0 || m.Cursor != "") {
					t.Errorf("%d events in a message of %d bytes, with a cursor of %d", len(m.Events), len(text), len(m.Cursor))
				}
				for _, e := range m.Events {
					got = append(got, e.ID)
				}
				for _, missing := range m.Missing {
					id := event.ID{Partition: missing.Partition, Offset: missing.From}.String()
					if m.Reason != wire.GapTooLarge || missing.To != missing.From+1 || most == 0 || !large[id] {
						t.Errorf("gap %+v", m)
					}
					got = append(got, id)
				}
				if text := m.Cursor; text != "" {
					var err error
					if last, err = event.ParseCursor(text); err != nil {
						t.Fatal(err)
					}
					for _, id := range want[len(got):] {
						if e, _ := event.ParseID(id); last.Next[e.Partition] > e.Offset {
							t.Errorf("a cursor is past %s, which has yet to come", id)
						}
					}
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %d events, want %d: %v %v", len(got), len(want), got, want)
			}
			if last == nil || !slices.Equal(last.Next, next) {
				t.Errorf("the last cursor is not where the events end")
			}
		})
	}
}

// One event above MaxPending is no sign that its clients are slow.
func TestLargeEventIsNotSlow(t *testing.T) {
	b := newBench(t, Config{MaxPending: 1000})
	c, f := b.join(nil)
	b.openConn(c)
	b.event(0, 5000, c.seat)
	b.settleMail()
	if got := f.ids(t); c.state != live || !slices.Equal(got, []string{"0-0"}) {
		t.Errorf("state %d, got %v", c.state, got)
	}
}
