package delivery

import (
	"fmt"
	"testing"

	"eventstream/event"
	"eventstream/gateway/framing"
	"eventstream/gateway/socket"
	"eventstream/lane"
)

// nullSocket takes all and remembers only how much.
type nullSocket struct {
	c             *Client
	frames, bytes int
}

func (n *nullSocket) Write(b []byte) (int, error) {
	n.frames++
	n.bytes += len(b)
	socket.Written(n.c, len(b))
	return len(b), nil
}

func (n *nullSocket) Close() error { return nil }

// openMany opens n connections that write to nothing.
func openMany(tb testing.TB, n int) (*bench, []*nullSocket) {
	return openManyAs(tb, framing.WebSocket, n)
}

func openManyAs(tb testing.TB, f framing.Kind, n int) (*bench, []*nullSocket) {
	b := newBench(tb, Config{})
	socks := make([]*nullSocket, n)
	for i := range socks {
		c, _ := b.joinAs(f, nil)
		socks[i] = &nullSocket{c: c}
		c.sock.Attach(socks[i])
		b.openConn(c)
	}
	return b, socks
}

// entryFor packs one event for the seats.
func entryFor(b *bench, p *lane.Packer, offset int64, seats []event.Seat) lane.Batch {
	p.Reset()
	p.Add(offset, 1, []byte(`{"event_id":"e1","event_type":"purchase","user_id":"user_1","amount":12.5}`),
		[]lane.Group{{Gateway: b.cfg.Gateway, Runs: lane.RunsOf(seats...)}})
	return lane.Batch{Entries: []lane.Entry{{Partition: 0, Last: offset, Blob: p.Bytes()}}}
}

// One event to all connections: from the lane's entry to the sockets' frames.
func BenchmarkFanout(b *testing.B) {
	for _, bb := range []struct {
		name string
		as   framing.Kind
		n    int
	}{{"conns", framing.WebSocket, 1000}, {"conns", framing.WebSocket, 10_000}, {"streams", framing.EventStream, 1000}, {"streams", framing.EventStream, 10_000}} {
		n := bb.n
		b.Run(fmt.Sprintf("%s=%d", bb.name, n), func(b *testing.B) {
			g, socks := openManyAs(b, bb.as, n)
			seats := make([]event.Seat, n)
			for i, s := range socks {
				seats[i] = s.c.seat
			}
			var p lane.Packer
			offset := int64(0)
			b.ReportAllocs()
			for b.Loop() {
				if err := g.reader.Batch(entryFor(g, &p, offset, seats)); err != nil {
					b.Fatal(err)
				}
				g.settleMail()
				offset++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/delivery")
			if got, want := socks[0].frames, int(offset)+1; got != want {
				b.Errorf("%d frames, want %d", got, want)
			}
		})
	}
}

// Each event is for one connection, and a batch has 100 of them.
func BenchmarkPersonal(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("conns=%d", n), func(b *testing.B) {
			g, socks := openMany(b, n)
			var p lane.Packer
			offset, i := int64(0), 0
			b.ReportAllocs()
			for b.Loop() {
				p.Reset()
				for range 100 {
					p.Add(offset, 1, []byte(`{"event_id":"e1","event_type":"purchase","user_id":"user_1","amount":12.5}`),
						[]lane.Group{{Gateway: g.cfg.Gateway, Runs: lane.RunsOf(socks[i%n].c.seat)}})
					offset++
					i += 7919
				}
				if err := g.reader.Batch(lane.Batch{Entries: []lane.Entry{{Last: offset - 1, Blob: p.Bytes()}}}); err != nil {
					b.Fatal(err)
				}
				g.settleMail()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/delivery")
		})
	}
}

// A delivery costs a connection nothing but the memory of what waits for it:
// one allocation, and none in the worker for the frame.
func TestFanoutAllocs(t *testing.T) {
	const n = 1000
	b, socks := openMany(t, n)
	seats := make([]event.Seat, n)
	for i, s := range socks {
		seats[i] = s.c.seat
	}
	var p lane.Packer
	offset := int64(0)
	allocs := testing.AllocsPerRun(50, func() {
		for _, s := range socks {
			s.c.lastCursor = 1 << 60 // no cursors: there is one a second at most
		}
		if err := b.reader.Batch(entryFor(b, &p, offset, seats)); err != nil {
			t.Fatal(err)
		}
		b.settleMail()
		offset++
	})
	if allocs > n+100 {
		t.Errorf("an event to %d connections: %.0f allocations, want about one each", n, allocs)
	}
}
