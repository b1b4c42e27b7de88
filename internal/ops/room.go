package ops

import (
	"container/heap"
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Room bounds the connections of a server that are not admitted. When it is full, the
// one that has waited longest for its client, of the address with most of them, is
// closed for a new one. So an address that opens many only closes its own, and
// those who send their requests at once are not harmed. An address that has more
// than half gives way to its own new ones even before that.
//
// A connection is closed only if its client owes a request, and has done so for
// a moment. While there is none, new ones wait in the kernel's queue.
type Room struct {
	most    int
	open    prometheus.Gauge
	evicted prometheus.Counter
	left    chan struct{} // somebody made room; capacity 1

	mu     sync.Mutex
	guests map[net.Conn]*guest
	homes  map[string]*home
	queues queues
}

// guest is a connection.
type guest struct {
	nc    net.Conn
	home  *home
	since time.Time     // when it began to wait
	place *list.Element // in home's queue; nil while its request is answered
}

// home is where connections come from: an address, or an IPv6 network.
type home struct {
	name    string
	guests  int       // all of its connections
	waiting list.List // *guest, the oldest first
	index   int       // in queues
}

// patience is how long a client may always take for a request.
const patience = 100 * time.Millisecond

func newRoom(most int, open prometheus.Gauge, evicted prometheus.Counter) *Room {
	return &Room{
		most: most, open: open, evicted: evicted, left: make(chan struct{}, 1),
		guests: make(map[net.Conn]*guest), homes: make(map[string]*home),
	}
}

// follow is what net/http calls: for a new connection before it accepts another one.
func (r *Room) follow(ctx context.Context, nc net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		r.Enter(ctx, nc)
	case http.StateActive:
		r.Busy(nc)
	case http.StateIdle:
		r.Wait(nc)
	case http.StateHijacked, http.StateClosed:
		r.Leave(nc)
	}
}

type guestKey struct{}

func (r *Room) inContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, guestKey{}, func() { r.Leave(nc) })
}

// Admit takes the connection of a request out of the bound of those that are not
// admitted, until it has been answered. ctx is the request's.
func Admit(ctx context.Context) {
	if leave, ok := ctx.Value(guestKey{}).(func()); ok {
		leave()
	}
}

// Enter takes a connection in when there is room, or ctx ends.
func (r *Room) Enter(ctx context.Context, nc net.Conn) {
	for {
		wait := r.tryEnter(nc, time.Now())
		if wait == 0 {
			return
		}
		select {
		case <-r.left:
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// tryEnter takes a connection in, and returns 0. Or it returns when to try again.
func (r *Room) tryEnter(nc net.Conn, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := homeOf(nc)
	if h := r.homes[from]; h != nil && h.waiting.Len() > r.most/2 {
		r.evictLocked(h, now)
	}
	if len(r.guests) >= r.most {
		if len(r.queues) == 0 {
			return time.Second
		}
		if wait := r.evictLocked(r.queues[0], now); wait > 0 {
			return wait
		}
	}
	r.addLocked(nc, from, now)
	return 0
}

// evictLocked closes the oldest connection that waits, and returns 0. Or it returns when
// its time is over.
func (r *Room) evictLocked(h *home, now time.Time) time.Duration {
	g := h.waiting.Front().Value.(*guest)
	if wait := g.since.Add(patience).Sub(now); wait > 0 {
		return wait
	}
	r.removeLocked(g)
	r.evicted.Inc()
	if tls, ok := g.nc.(interface{ NetConn() net.Conn }); ok {
		tls.NetConn().Close() // without a last word, which could wait
	} else {
		g.nc.Close()
	}
	return 0
}

func (r *Room) addLocked(nc net.Conn, from string, now time.Time) {
	h := r.homes[from]
	if h == nil {
		h = &home{name: from, index: -1}
		r.homes[from] = h
	}
	h.guests++
	g := &guest{nc: nc, home: h, since: now}
	g.place = h.waiting.PushBack(g)
	r.guests[nc] = g
	r.queues.fix(h)
	r.open.Inc()
}

func (r *Room) removeLocked(g *guest) {
	delete(r.guests, g.nc)
	r.unqueueLocked(g)
	if g.home.guests--; g.home.guests == 0 {
		delete(r.homes, g.home.name)
	}
	r.open.Dec()
}

func (r *Room) unqueueLocked(g *guest) {
	if g.place != nil {
		g.home.waiting.Remove(g.place)
		g.place = nil
		r.queues.fix(g.home)
	}
}

// Busy says that a request has come.
func (r *Room) Busy(nc net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.guests[nc]; g != nil {
		r.unqueueLocked(g)
	}
}

// Wait says that it was answered: the connection waits for another one.
func (r *Room) Wait(nc net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.guests[nc]; g != nil {
		r.removeLocked(g)
	}
	r.addLocked(nc, homeOf(nc), time.Now())
	r.tell()
}

// Leave says that a connection was closed, or admitted.
func (r *Room) Leave(nc net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.guests[nc]; g != nil {
		r.removeLocked(g)
		r.tell()
	}
}

func (r *Room) tell() {
	select {
	case r.left <- struct{}{}:
	default:
	}
}

// homeOf returns what a connection's address is counted by.
func homeOf(nc net.Conn) string {
	if peer, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return Household(peer.AddrPort().Addr().Unmap())
	}
	return ""
}

// queues is a heap of the homes with connections that wait: the longest queue first,
// and of equal ones that with the oldest connection.
type queues []*home

// fix takes in that h's queue has changed.
func (q *queues) fix(h *home) {
	switch {
	case h.index < 0 && h.waiting.Len() > 0:
		heap.Push(q, h)
	case h.index >= 0 && h.waiting.Len() == 0:
		heap.Remove(q, h.index)
	case h.index >= 0:
		heap.Fix(q, h.index)
	}
}

func (q queues) Len() int { return len(q) }

func (q queues) Less(i, j int) bool {
	a, b := &q[i].waiting, &q[j].waiting
	if a.Len() != b.Len() {
		return a.Len() > b.Len()
	}
	return a.Front().Value.(*guest).since.Before(b.Front().Value.(*guest).since)
}

func (q queues) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queues) Push(h any) {
	h.(*home).index = len(*q)
	*q = append(*q, h.(*home))
}

func (q *queues) Pop() any {
	last := len(*q) - 1
	h := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	h.index = -1
	return h
}
