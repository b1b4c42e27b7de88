package delivery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"eventstream/event"
	"eventstream/gateway/framing"
	"eventstream/gateway/framing/framingtest"
	"eventstream/gateway/history"
	"eventstream/wire"
)

// What several recipients get is compressed once, and each has its own cursor.
// They get what they would over a connection without compression.
func TestDeflateShared(t *testing.T) {
	b := newBench(t, Config{})
	rng := rand.New(rand.NewPCG(3, 4))
	var socks []*fakeSocket
	var seats []event.Seat
	for _, f := range []framing.Kind{framing.WebSocket, framing.Deflated, framing.Deflated, framing.Deflated} {
		c, sock := b.joinAs(f, nil)
		b.openConn(c)
		socks, seats = append(socks, sock), append(seats, c.seat)
	}
	for i := range int64(100) {
		size := rng.IntN(1500)
		for _, f := range socks {
			f.frames, f.c.lastCursor = nil, int64(rng.IntN(2))<<60 // some get a cursor
		}
		b.event(2*i, size, seats...)
		if i%2 == 0 {
			b.event(2*i+1, size, seats[:1+rng.IntN(4)]...)
		}
		b.settleMail()
		for _, f := range socks {
			want := socks[0].c.seat == f.c.seat
			payload, compressed := payloadOf(t, f.frames[0])
			var m wire.Message
			if err := json.Unmarshal(payload, &m); err != nil {
				t.Fatalf("%q: %v", payload, err)
			}
			if compressed == want && size > framing.MinDeflate || compressed && size < framing.MinDeflate/3 {
				t.Errorf("message of %d bytes: compressed is %t", len(payload), compressed)
			}
			if m.Events[0].ID != (event.ID{Offset: 2 * i}).String() || len(m.Events[0].Data) != size+2 {
				t.Fatalf("got %.200q", payload)
			}
			if last := m.Events[len(m.Events)-1].ID; m.Cursor != "" {
				id, _ := event.ParseID(last)
				cur, err := event.ParseCursor(m.Cursor)
				if err != nil || cur.Addr.Seat != f.c.seat || cur.Next[0] <= id.Offset {
					t.Errorf("cursor %+v, %v; want one of seat %d, after %s", cur, err, f.c.seat, last)
				}
			}
		}
	}
}

// A huge event is compressed once too, and its memory is let go with the next one.
func TestDeflateHuge(t *testing.T) {
	var d deflater
	packed := func(events ...*history.Event) []byte {
		frame, _ := d.seal(make([]byte, framing.HeadRoom), events, "")
		return frame
	}
	huge := &history.Event{JSON: []byte(strings.Repeat("x", 2<<20))}
	once := bytes.Clone(packed(huge))
	huge.JSON = nil // so that making it again would show
	if got := packed(huge); !bytes.Equal(got, once) {
		t.Errorf("compressed again: %d bytes, before %d", len(got), len(once))
	}
	packed(&history.Event{JSON: []byte("{}")})
	if cap(d.in) > 1<<20 {
		t.Errorf("%d bytes are kept", cap(d.in))
	}
}

// payloadOf returns the payload of a server's frame, and whether it was compressed.
func payloadOf(t testing.TB, frame []byte) (payload []byte, compressed bool) {
	t.Helper()
	frame = slices.Clone(frame)
	compressed = frame[0]&framingtest.RSV1 != 0
	frame[0] &^= framingtest.RSV1
	_, payload = framingtest.ServerFrame(t, frame)
	if compressed {
		payload = framingtest.Decompressed(t, payload)
	}
	return payload, compressed
}

func TestDeflateAllocs(t *testing.T) {
	b := newBench(t, Config{})
	var socks []*nullSocket
	for range 1000 {
		c, _ := b.joinAs(framing.Deflated, nil)
		socks = append(socks, &nullSocket{c: c})
		c.sock.Attach(socks[len(socks)-1])
		b.openConn(c)
	}
	seats := make([]event.Seat, len(socks))
	for i, s := range socks {
		seats[i] = s.c.seat
	}
	offset := int64(0)
	if allocs := testing.AllocsPerRun(50, func() {
		for _, s := range socks {
			s.c.lastCursor = 1 << 60
		}
		b.event(offset, 2000, seats...)
		b.settleMail()
		offset++
	}); allocs > 1100 {
		t.Errorf("an event to 1000 connections: %.0f allocations, want about one each", allocs)
	}
}

// What compression costs a frame, but for the write, when all get the same events
// and when each gets its own; and what it saves.
func BenchmarkDeflate(b *testing.B) {
	for _, f := range []struct {
		name string
		framing.Kind
	}{{"plain", framing.WebSocket}, {"deflate", framing.Deflated}} {
		for _, events := range []int{4, 32} {
			for _, shared := range []bool{true, false} {
				b.Run(fmt.Sprintf("%s/events=%d/shared=%t", f.name, events, shared), func(b *testing.B) {
					benchDeflate(b, f.Kind, events, shared)
				})
			}
		}
	}
}

func benchDeflate(b *testing.B, f framing.Kind, events int, shared bool) {
	g := newBench(b, Config{})
	c, _ := g.joinAs(f, nil)
	sock := &nullSocket{c: c}
	c.sock.Attach(sock)
	g.openConn(c)
	sets := make([][]*history.Event, 2)
	offset := int64(0)
	for i := range sets {
		for range events {
			id := event.ID{Offset: offset}
			offset++
			sets[i] = append(sets[i], &history.Event{ID: id, JSON: wire.AppendEvent(nil, id, 1795729223646, sampleEvent(offset))})
		}
	}
	if shared {
		sets[1] = sets[0]
	}
	sock.bytes, sock.frames = 0, 0
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		g.sendEvents(&c.conn, sets[i%2], "", false)
	}
	b.ReportMetric(float64(sock.bytes)/float64(sock.frames), "B/frame")
}

// sampleEvent is an event as the generator makes them.
func sampleEvent(n int64) []byte {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	return fmt.Appendf(nil, `{"event_id":"%08x-%04x-7202-a72c-%012x","event_type":%q,"user_id":"user_%d","user_tier":%q,"country":%q,"amount":%.2f,"currency":"EUR","timestamp":"2026-11-26T21:%02d:%02d.%03dZ"}`,
		rng.Uint32(), rng.IntN(1<<16), rng.Int64N(1<<48), pick("purchase", "login", "page_view", "add_to_cart"), rng.IntN(10_000),
		pick("free", "premium", "enterprise"), pick("DE", "FR", "US", "GB"), rng.Float64()*500, rng.IntN(60), rng.IntN(60), rng.IntN(1000))
}
