package delivery

import (
	"bufio"
	"slices"
	"strings"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/gateway/framing"
	"eventstream/gateway/framing/framingtest"
	"eventstream/gateway/history"
	"eventstream/gateway/reader"
	"eventstream/gateway/uptime"
	"eventstream/lane"
	"eventstream/wire"
)

// A client that takes nothing is cut off, as one that answers no ping is; one
// that takes what it is sent is not, however long ago it said anything.
func TestSSEDead(t *testing.T) {
	b := newBench(t, Config{Heartbeat: 1})
	_, f := b.joinAs(framing.EventStream, nil)
	b.openConn(f.c)
	now, wall := uptime.Seconds(), time.Now().Unix()
	b.sweep(now+1000, wall)
	if f.closed {
		t.Fatal("a client that took everything was cut off")
	}
	f.stuck = true
	b.event(0, 10, f.c.seat)
	b.settleMail()
	b.sweep(now+1002, wall)
	if f.closed {
		t.Error("cut off after two seconds")
	}
	b.sweep(now+1003, wall)
	if !f.closed {
		t.Error("not cut off")
	}
}

// The last message leaves before the end, also when the client is slow.
func TestSSEEndWaits(t *testing.T) {
	b := newBench(t, Config{})
	_, f := b.joinAs(framing.EventStream, nil)
	b.openConn(f.c)
	f.stuck = true
	b.event(0, 10, f.c.seat)
	b.settleMail()
	b.tell(&end{conn: &f.c.conn, ending: ending{wire.CloseExpired, "x"}})
	b.settleMail()
	if f.closed {
		t.Fatal("ended before its messages had gone")
	}
	f.release()
	b.settleMail()
	if !f.closed {
		t.Error("not ended")
	}
}

// Line ends between an event's tokens arrive as spaces: the event does not grow.
func TestSSELines(t *testing.T) {
	for _, tt := range []struct{ json, want string }{
		{`{"a":1}`, `{"a":1}`},
		{"{\n  \"a\": 1\n}", "{   \"a\": 1 }"},
		{"{\r\n\r\n\"a\":\r1,\n\r\"b\":2\r\n}", "{    \"a\": 1,  \"b\":2  }"},
		{"\n[\r]\n", " [ ] "},
		{"[" + strings.Repeat("\n", 1<<14) + "]", "[" + strings.Repeat(" ", 1<<14) + "]"},
	} {
		b := newBench(t, Config{})
		_, f := b.joinAs(framing.EventStream, nil)
		b.openConn(f.c)
		id := event.ID{Offset: 7}
		b.Post(reader.Post{
			Deliveries: []reader.Delivery{{Event: &history.Event{ID: id, JSON: wire.AppendEvent(nil, id, 5, []byte(tt.json))}, Seats: []event.Seat{f.c.seat}}},
			Next:       []int64{8, 0},
		})
		b.settleMail()
		p := framingtest.Parser{R: bufio.NewReader(strings.NewReader(string(slices.Concat(f.frames...))))}
		p.Next()
		e, err := p.Next()
		if want := `{"type":"events","events":[{"id":"0-7","ts":5,"data":` + tt.want + `}],`; err != nil || !strings.HasPrefix(e.Data, want) {
			t.Errorf("%.80q: got %.200q, %v; want %.200q…", tt.json, e.Data, err, want)
		}
	}
}

func TestSSEAllocs(t *testing.T) {
	b := newBench(t, Config{})
	c, _ := b.joinAs(framing.EventStream, nil)
	c.sock.Attach(&nullSocket{c: c})
	b.openConn(c)
	var p lane.Packer
	offset := int64(0)
	ws, _ := b.join(nil)
	ws.sock.Attach(&nullSocket{c: ws})
	b.openConn(ws)
	allocs := func(seat event.Seat) float64 {
		return testing.AllocsPerRun(200, func() {
			c.lastCursor, ws.lastCursor = 1<<60, 1<<60
			if err := b.reader.Batch(entryFor(b, &p, offset, []event.Seat{seat})); err != nil {
				t.Fatal(err)
			}
			b.settleMail()
			offset++
		})
	}
	if got, want := allocs(c.seat), allocs(ws.seat)+1; got > want { // its id
		t.Errorf("an event costs %.0f allocations in a stream, want at most %.0f", got, want)
	}
}
