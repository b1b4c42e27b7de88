package ops

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"pgregory.net/rapid"
)

// link is a connection from an address.
type link struct {
	net.Conn
	name   string
	from   string
	closed bool
}

func (l *link) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(l.from), 1))
}
func (l *link) Close() error { l.closed = true; return nil }

func newTestRoom(most int) *Room {
	return newRoom(most, prometheus.NewGauge(prometheus.GaugeOpts{Name: "open"}), prometheus.NewCounter(prometheus.CounterOpts{Name: "evicted"}))
}

// Whoever comes is let in for one that has waited longest, of the address with most.
func TestRoomEvicts(t *testing.T) {
	began := time.Now()
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	for _, tt := range []struct {
		name   string
		most   int
		there  []string // addresses, a millisecond apart; with ! their request is answered now
		comes  string
		when   int // milliseconds
		wait   time.Duration
		closed string // number of the one in there; empty if none
	}{
		{"there is room", 4, []string{"10.0.0.1", "10.0.0.2"}, "10.0.0.3", 200, 0, ""},
		{"the busiest address gives way", 4, []string{"10.0.0.2", "10.0.0.1", "10.0.0.1", "10.0.0.3"}, "10.0.0.9", 200, 0, "1"},
		{"of equals the oldest", 3, []string{"10.0.0.2", "10.0.0.1", "10.0.0.3"}, "10.0.0.9", 200, 0, "0"},
		{"not without a moment's patience", 2, []string{"10.0.0.1", "10.0.0.1"}, "10.0.0.2", 40, 60 * time.Millisecond, ""},
		{"not one that is answered", 3, []string{"!10.0.0.1", "!10.0.0.1", "10.0.0.2"}, "10.0.0.3", 200, 0, "2"},
		{"all are answered", 2, []string{"!10.0.0.1", "!10.0.0.1"}, "10.0.0.2", 200, time.Second, ""},
		{"more than half are of one address", 4, []string{"10.0.0.1", "10.0.0.1", "10.0.0.1"}, "10.0.0.1", 200, 0, "0"},
		{"and others come", 4, []string{"10.0.0.1", "10.0.0.1", "10.0.0.1"}, "10.0.0.2", 200, 0, ""},
		{"an IPv6 network is one address", 3, []string{"10.0.0.1", "2001:db8::1", "2001:db8::2"}, "10.0.0.2", 200, 0, "1"},
	} {
		r := newTestRoom(tt.most)
		var there []*link
		for i, from := range tt.there {
			busy := from[0] == '!'
			if busy {
				from = from[1:]
			}
			l := &link{name: fmt.Sprint(i), from: from}
			if wait := r.tryEnter(l, at(i)); wait != 0 {
				t.Fatalf("%s: number %d has to wait", tt.name, i)
			}
			if busy {
				r.Busy(l)
			}
			there = append(there, l)
		}
		if wait := r.tryEnter(&link{from: tt.comes}, at(tt.when)); wait != tt.wait {
			t.Errorf("%s: the new one waits %v, want %v", tt.name, wait, tt.wait)
		}
		closed := ""
		for _, l := range there {
			if l.closed {
				closed += l.name
			}
		}
		if closed != tt.closed {
			t.Errorf("%s: closed %q, want %q", tt.name, closed, tt.closed)
		}
	}
}

// The Room agrees with its plain definition, whatever happens in whatever order.
func TestRoomModel(t *testing.T) {
	type plain struct {
		*link
		busy  bool
		since time.Time
	}
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 8).Draw(t, "most")
		r, now := newTestRoom(most), time.Now()
		var model []*plain // in order of since, but for the busy ones
		waitingOf := func(from string) (ws []*plain) {
			for _, p := range model {
				if p.from == from && !p.busy {
					ws = append(ws, p)
				}
			}
			return ws
		}
		drop := func(p *plain) { model = slices.DeleteFunc(model, func(q *plain) bool { return q == p }) }
		evictOf := func(ws []*plain) bool {
			if now.Sub(ws[0].since) < patience {
				return false
			}
			drop(ws[0])
			return true
		}
		for n := range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 80).Draw(t, "ms")) * time.Millisecond)
			if len(model) > 0 && rapid.Bool().Draw(t, "old") {
				p := rapid.SampledFrom(model).Draw(t, "which")
				if rapid.Bool().Draw(t, "request") {
					r.Busy(p.link)
					p.busy = true
				} else {
					r.Leave(p.link)
					drop(p)
				}
				continue
			}
			l := &link{name: fmt.Sprint(n), from: fmt.Sprintf("10.0.0.%d", rapid.IntRange(1, 3).Draw(t, "from"))}
			if own := waitingOf(l.from); len(own) > most/2 {
				evictOf(own)
			}
			enters := len(model) < most
			if !enters {
				var busiest []*plain
				for _, p := range model {
					if ws := waitingOf(p.from); len(ws) > len(busiest) || len(ws) > 0 && len(ws) == len(busiest) && ws[0].since.Before(busiest[0].since) {
						busiest = ws
					}
				}
				enters = len(busiest) > 0 && evictOf(busiest)
			}
			if got := r.tryEnter(l, now) == 0; got != enters {
				t.Fatalf("%s enters: %t, want %t", l.from, got, enters)
			}
			if enters {
				model = append(model, &plain{link: l, since: now})
			}
			var open dto.Metric
			r.open.Write(&open)
			if len(r.guests) != len(model) || int(open.GetGauge().GetValue()) != len(model) {
				t.Fatalf("%d are there, the metric says %v, want %d", len(r.guests), open.GetGauge(), len(model))
			}
			for _, p := range model {
				if p.closed || r.guests[p.link] == nil {
					t.Fatalf("%s of %s was closed", p.name, p.from)
				}
			}
		}
		for _, p := range slices.Clone(model) {
			r.Leave(p.link)
		}
		if len(r.guests)+len(r.homes)+len(r.queues) != 0 {
			t.Fatalf("something is left: %d guests, %d homes, %d queues", len(r.guests), len(r.homes), len(r.queues))
		}
	})
}

func BenchmarkRoom(b *testing.B) {
	for _, most := range []int{64, 4096} {
		b.Run(fmt.Sprintf("full=%d", most), func(b *testing.B) {
			r, now := newTestRoom(most), time.Now()
			n := 0
			enter := func() {
				n++
				now = now.Add(patience)
				if r.tryEnter(&link{from: fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255)}, now) != 0 {
					b.Fatal("no room")
				}
			}
			for range most {
				enter()
			}
			b.ReportAllocs()
			for b.Loop() {
				enter()
			}
		})
	}
}
