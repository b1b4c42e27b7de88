package gateway

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"eventstream/event"
	"eventstream/gateway/delivery"
	"eventstream/gateway/framing"
	"eventstream/gateway/socket"
	"eventstream/lane"
	"eventstream/perf/usage"
	"eventstream/wire"
)

// hall is a gateway with many real clients, who are other processes'.
type hall struct {
	*instance
	w      *world
	engine *watched
	packer lane.Packer
	next   int64 // offset
	sent   int   // deliveries
}

func newHall(tb testing.TB, e func(*Gateway) socket.Engine) *hall {
	h := &hall{w: newWorld(tb, 1)}
	h.instance = started(launchWith(tb, Config{Heartbeat: time.Hour, Drain: 10 * time.Millisecond}, h.w.store, nil, nil, func(g *Gateway) {
		h.engine = &watched{Engine: e(g), latency: hdrhistogram.New(1, 60_000_000, 3)}
		g.pollers = h.engine
	}))
	return h
}

func onPollers(*Gateway) socket.Engine { return socket.NewPollers() }
func onThreads(*Gateway) socket.Engine { return socket.NewThreads() }

var hallEvent = []byte(`{"event_id":"e1","event_type":"purchase","user_id":"user_1","user_tier":"premium","amount":12.5,"pad":"` + string(bytes.Repeat([]byte("x"), 60)) + `"}`)

// add puts an event for some seats into the entry that append appends.
func (h *hall) add(seats ...event.Seat) {
	h.packer.Add(h.next, time.Now().UnixMilli(), hallEvent, []lane.Group{{Gateway: h.id, Runs: lane.RunsOf(seats...)}})
	h.next++
	h.sent += len(seats)
}

func (h *hall) append(tb testing.TB, first int64) {
	now := time.Now().UnixNano()
	for i := first; i < h.next; i++ {
		h.engine.appended[i%int64(len(h.engine.appended))].Store(now)
	}
	_, err := h.w.store.Append(context.Background(), lane.Append{
		Topic: testTopic, Expect: first, Next: h.next, TrimBefore: max(0, h.next-100_000), Synced: h.w.at, Entry: h.packer.Bytes(), Last: h.next - 1,
	})
	if err != nil {
		tb.Fatal(err)
	}
	h.packer.Reset()
}

// settle waits until everything is written.
func (h *hall) settle() {
	for written := 0; written < h.sent; time.Sleep(500 * time.Microsecond) {
		written = int(h.delivery.Sent())
	}
}

// watched is an engine whose sockets tell when they are written to.
type watched struct {
	socket.Engine
	appended [1 << 17]atomic.Int64 // when, by offset

	timed event.Seat // up to here

	mu      sync.Mutex
	conns   []*delivery.Client
	latency *hdrhistogram.Histogram // µs from the append to the write of the oldest event of a frame
}

func (w *watched) Add(nc net.Conn, h socket.Handler) error {
	c, err := h.(*delivery.Client), w.Engine.Add(nc, h)
	if err == nil && c.Seat() <= w.timed {
		c.Socket().Wrap(func(raw socket.Raw) socket.Raw { return timed{raw, w} })
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, c)
	return err
}

// timed is a socket of watched.
type timed struct {
	socket.Raw
	in *watched
}

func (t timed) Write(frame []byte) (int, error) {
	n, err := t.Raw.Write(frame)
	if _, rest, ok := bytes.Cut(frame[:min(len(frame), 100)], []byte(`"id":"0-`)); ok {
		digits, _, _ := bytes.Cut(rest, []byte(`"`))
		offset, _ := strconv.ParseInt(string(digits), 10, 64)
		us := (time.Now().UnixNano() - t.in.appended[offset%int64(len(t.in.appended))].Load()) / 1000
		t.in.mu.Lock()
		t.in.latency.RecordValue(us)
		t.in.mu.Unlock()
	}
	return n, err
}

// cpu is what this process has used.
func cpu(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWrites compares what the gateway takes from the lane's entry to the
// socket with bare write calls of the same bytes to the same sockets, in turn.
// All times are CPU times.
func BenchmarkWrites(b *testing.B) {
	for _, e := range []struct {
		name string
		open func(*Gateway) socket.Engine
	}{{"pollers", onPollers}, {"goroutines", onThreads}} {
		for _, n := range []int{1000, 10_000, 19_000} {
			b.Run(fmt.Sprintf("%s/conns=%d", e.name, n), func(b *testing.B) { benchmarkWrites(b, e.open, n) })
		}
	}
}

func benchmarkWrites(b *testing.B, open func(*Gateway) socket.Engine, n int) {
	h := newHall(b, open)
	startSink(b, h.addr, 0, n)
	seats := make([]event.Seat, n)
	for i := range seats {
		seats[i] = event.Seat(i + 1)
	}
	frame := framing.NewFrame(framing.OpText, append(append(wire.AppendEventsHead(nil), h.json(0)...), wire.EventsTail...))
	var bare, one, eight time.Duration
	took := func(sum *time.Duration, do func()) {
		began := cpu(b)
		do()
		*sum += cpu(b) - began
	}
	for b.Loop() {
		took(&bare, func() { h.bare(b, frame) })
		took(&one, func() { h.all(b, seats, 1) })
		took(&eight, func() { h.all(b, seats, 8) })
	}
	per := func(d time.Duration, times int) float64 { return float64(d.Nanoseconds()) / float64(b.N*n*times) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(per(bare, 1), "ns/write")
	b.ReportMetric(per(one, 1), "ns/delivery")
	b.ReportMetric(per(eight, 8), "ns/delivery-of-8")
	b.ReportMetric(float64(bare)/float64(one), "of-bare")
}

// bare writes the frame to all sockets, by nothing but system calls.
func (h *hall) bare(b *testing.B, frame []byte) {
	for _, c := range h.engine.conns {
		fd := 0
		c.Socket().Wrap(func(raw socket.Raw) socket.Raw {
			fd = raw.(interface{ FD() int }).FD()
			return raw
		})
		if n, err := syscall.Write(fd, frame); n < len(frame) {
			b.Fatalf("write: %d of %d, %v", n, len(frame), err)
		}
	}
}

// all sends some events to all.
func (h *hall) all(b *testing.B, seats []event.Seat, events int) {
	first := h.next
	for range events {
		h.add(seats...)
	}
	h.append(b, first)
	h.settle()
}

// json is an event as clients get it.
func (h *hall) json(offset int64) []byte {
	return wire.AppendEvent(nil, event.ID{Offset: offset}, time.Now().UnixMilli(), hallEvent)
}

// BenchmarkIdle tells what an open socket takes of this process's memory.
func BenchmarkIdle(b *testing.B) {
	for _, e := range []struct {
		name  string
		open  func(*Gateway) socket.Engine
		tls   bool
		conns int
	}{{"pollers", onPollers, false, 19_000}, {"goroutines", onThreads, false, 19_000}, {"TLS", onPollers, true, 5000}} {
		b.Run(fmt.Sprintf("%s/conns=%d", e.name, e.conns), func(b *testing.B) {
			for b.Loop() {
				h := newHall(b, e.open)
				addr, env := h.addr, []string(nil)
				if e.tls {
					front := httptest.NewUnstartedServer(h.server.Handler)
					front.StartTLS()
					b.Cleanup(front.Close)
					addr, env = front.Listener.Addr().String(), []string{sinkTLS + "=1"}
				}
				before := memory(b)
				startSink(b, addr, 0, e.conns, env...)
				after := memory(b)
				for i, name := range []string{"RSS", "heap", "stacks"} {
					b.ReportMetric(float64(after[i]-before[i])/float64(e.conns), "B-"+name)
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// memory returns what is resident of this process, and of that the heap and the
// stacks, in bytes, when the dust has settled.
func memory(b *testing.B) (m [3]int64) {
	for range 3 {
		debug.FreeOSMemory()
	}
	u, err := usage.Of(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return [3]int64{u.RSS, int64(s.HeapAlloc), int64(s.StackInuse)}
}

// BenchmarkTail sends each event to one of 10,000 clients, at some part of what
// one write after the other could do, and reports the times from the append to
// the write. With stalled clients, theirs don't count.
func BenchmarkTail(b *testing.B) {
	for _, stalled := range []int{0, 500} {
		b.Run(fmt.Sprintf("stalled=%d", stalled), func(b *testing.B) { benchmarkTail(b, 10_000, stalled) })
	}
}

func benchmarkTail(b *testing.B, n, stalled int) {
	h := newHall(b, onPollers)
	h.engine.timed = event.Seat(n)
	startSink(b, h.addr, 0, n)
	most := h.capacity(b, n)
	if stalled > 0 {
		startSink(b, h.addr, n, stalled).stall(b)
		h.overfill(b, n, stalled)
	}
	for _, percent := range []int{25, 50, 75, 90} {
		b.Run(fmt.Sprintf("load=%d%%", percent), func(b *testing.B) {
			h.engine.latency.Reset()
			for b.Loop() {
				h.personal(b, n+stalled, most*percent/100, 5*time.Second)
			}
			b.ReportMetric(0, "ns/op")
			for _, q := range []float64{50, 99, 99.9} {
				b.ReportMetric(float64(h.engine.latency.ValueAtQuantile(q)), fmt.Sprintf("µs-p%g", q))
			}
			b.ReportMetric(float64(most*percent/100), "events/s")
		})
	}
}

// overfill sends the clients after the first n more than may wait for them.
func (h *hall) overfill(b *testing.B, n, clients int) {
	seats := make([]event.Seat, clients)
	for i := range seats {
		seats[i] = event.Seat(n + i + 1)
	}
	large := []byte(`{"pad":"` + strings.Repeat("x", 100_000) + `"}`)
	for range 15 {
		first := h.next
		h.packer.Add(h.next, time.Now().UnixMilli(), large, []lane.Group{{Gateway: h.id, Runs: lane.RunsOf(seats...)}})
		h.next++
		h.append(b, first)
	}
}

// capacity is how many deliveries a second the gateway makes with one event per
// write.
func (h *hall) capacity(b *testing.B, n int) int {
	const rounds = 10
	began := time.Now()
	for range rounds {
		first := h.next
		for i := range n {
			h.add(event.Seat(i + 1))
		}
		h.append(b, first)
		h.settle()
	}
	return int(rounds * float64(n) / time.Since(began).Seconds())
}

// personal sends each event to one of the first n seats, so many a second.
func (h *hall) personal(b *testing.B, n, rate int, d time.Duration) {
	began, sent := time.Now(), 0
	for range time.Tick(2 * time.Millisecond) {
		since := time.Since(began)
		if since >= d {
			return
		}
		first := h.next
		for due := int(since.Seconds() * float64(rate)); sent < due; sent++ {
			h.add(event.Seat(rand.IntN(n) + 1))
		}
		if h.next > first {
			h.append(b, first)
		}
	}
}
