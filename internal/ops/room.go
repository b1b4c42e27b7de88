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

// Room bounds the connections of a server that are not admitted. When it is full, a new
// connection replaces the one that has waited longest for its client's request, of the
// address with most waiting ones. So an address that opens many closes only its own,
// and clients that send their requests at once are not harmed. An address with more
// than half of the room replaces its own even before the room is full.
//
// A connection is closed only if its client has owed a request for a moment. If the
// room is full and has no such connection, new ones wait in the kernel's queue.
type Room struct {
	most    int
	open    prometheus.Gauge
	evicted prometheus.Counter
	left    chan struct{} // a connection left or became idle; capacity 1

	mu     sync.Mutex
	guests map[net.Conn]*guest
	homes  map[string]*home
	queues queues
}

// guest is a connection.
type guest struct {
	nc    net.Conn
	home  *home
	since time.Time     // when it started waiting for a request
	place *list.Element // in home's queue; nil while its request is answered
}

// home is a source of connections: an address, or an IPv6 network.
type home struct {
	name    string
	guests  int       // all of its connections
	waiting list.List // *guest, the oldest first
	index   int       // in queues
}

// patience is how long a client may wait with its request without being evicted.
const patience = 100 * time.Millisecond

func newRoom(most int, open prometheus.Gauge, evicted prometheus.Counter) *Room {
	return &Room{
		most: most, open: open, evicted: evicted, left: make(chan struct{}, 1),
		guests: make(map[net.Conn]*guest), homes: make(map[string]*home),
	}
}

// follow is net/http's ConnState hook, called for a new connection before
// the next is accepted.
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

// Admit stops counting a request's connection as not admitted, until the request has
// been answered. ctx is the request's.
func Admit(ctx context.Context) {
	if leave, ok := ctx.Value(guestKey{}).(func()); ok {
		leave()
	}
}

// Enter adds a connection when there is room. It waits until then, or until ctx ends.
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

// tryEnter adds a connection and returns 0, or returns how long to wait before trying again.
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

// evictLocked closes the longest waiting connection of h and returns 0, or returns how
// long its client may still take.
func (r *Room) evictLocked(h *home, now time.Time) time.Duration {
	g := h.waiting.Front().Value.(*guest)
	if wait := g.since.Add(patience).Sub(now); wait > 0 {
		return wait
	}
	r.removeLocked(g)
	r.evicted.Inc()
	if tls, ok := g.nc.(interface{ NetConn() net.Conn }); ok {
		tls.NetConn().Close() // without TLS's close message, which could block
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

// Busy reports that a request has arrived.
func (r *Room) Busy(nc net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.guests[nc]; g != nil {
		r.unqueueLocked(g)
	}
}

// Wait reports that it was answered: the connection waits for the next one.
func (r *Room) Wait(nc net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.guests[nc]; g != nil {
		r.removeLocked(g)
	}
	r.addLocked(nc, homeOf(nc), time.Now())
	r.tell()
}

// Leave reports that a connection was closed or admitted.
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

// homeOf returns the name of a connection's home.
func homeOf(nc net.Conn) string {
	if peer, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return Household(peer.AddrPort().Addr().Unmap())
	}
	return ""
}

// queues is a heap of homes with waiting connections: the longest queue first, and of
// equal ones the one with the oldest connection.
type queues []*home

// fix updates the heap after a change of h's queue.
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
