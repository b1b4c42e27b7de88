package cluster

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Proxy stands between two parts and can harm what passes. No method waits for
// those who are connected: one who does not read can't hold a fault up.
type Proxy struct {
	addr, upstream string

	mu       sync.Mutex
	listener net.Listener // nil while nobody may connect
	links    map[*link]bool
	harm     harm
}

// harm is what a Proxy does to what passes.
type harm struct {
	delay, jitter time.Duration
	swallow       bool          // bytes are taken and thrown away
	dropped       chan struct{} // nothing is taken until it is closed; nil if all is
}

// NewProxy starts a Proxy in front of a server.
func NewProxy(upstream string) (*Proxy, error) {
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	p := &Proxy{addr: addr, upstream: upstream, links: make(map[*link]bool)}
	return p, p.listen()
}

// Addr returns where to connect to.
func (p *Proxy) Addr() string { return p.addr }

// listen has clients connect, if they can't already.
func (p *Proxy) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		return fmt.Errorf("proxy in front of %s: %w", p.upstream, err)
	}
	p.listener = l
	go p.accept(l)
	return nil
}

func (p *Proxy) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		k := &link{proxy: p, client: c.(*net.TCPConn), done: make(chan struct{})}
		p.mu.Lock()
		refused := p.listener != l
		if !refused {
			p.links[k] = true
		}
		p.mu.Unlock()
		if refused {
			k.close(false)
			continue
		}
		go k.run()
	}
}

// Close closes all connections, and takes no more.
func (p *Proxy) Close() { p.refuse(false) }

// Refuse closes all connections and takes no more, until Heal.
func (p *Proxy) Refuse() error { return p.refuse(false) }

// Reset resets all connections and takes no more, until Heal.
func (p *Proxy) Reset() error { return p.refuse(true) }

func (p *Proxy) refuse(reset bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	p.closeLinksLocked(reset)
	return nil
}

func (p *Proxy) closeLinksLocked(reset bool) {
	for k := range p.links {
		k.close(reset)
	}
	clear(p.links)
}

// Hang swallows all that passes, until Heal, which closes the connections.
func (p *Proxy) Hang() error { return p.begin(harm{swallow: true}) }

// Drop holds up all that passes, until Heal, as a network that drops packets:
// what was sent meanwhile arrives late, if those who sent it still wait.
func (p *Proxy) Drop() error { return p.begin(harm{dropped: make(chan struct{})}) }

// Slow delays what passes by some milliseconds each way, give or take some, until Heal.
func (p *Proxy) Slow(ms, jitter int) error {
	return p.begin(harm{delay: time.Duration(ms) * time.Millisecond, jitter: time.Duration(jitter) * time.Millisecond})
}

// begin has the harm take the place of the one before.
func (p *Proxy) begin(h harm) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.harm.dropped != nil {
		close(p.harm.dropped)
	}
	if p.harm.swallow {
		p.closeLinksLocked(false) // what they have lost does not come any more
	}
	p.harm = h
	return nil
}

// Heal ends all harm.
func (p *Proxy) Heal() error {
	p.begin(harm{})
	return p.listen()
}

func (p *Proxy) now() harm {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.harm
}

// link is one connection through a Proxy.
type link struct {
	proxy  *Proxy
	client *net.TCPConn
	done   chan struct{} // closed when it ends

	mu     sync.Mutex
	server *net.TCPConn // nil until it is connected
	ended  bool
}

// dialLimit bounds how long the server may take to accept a connection.
const dialLimit = 5 * time.Second

// run passes on what comes, both ways, until one side ends.
func (k *link) run() {
	defer k.forget()
	if !k.wait(k.proxy.now()) {
		return
	}
	c, err := net.DialTimeout("tcp", k.proxy.upstream, dialLimit)
	if err != nil {
		return
	}
	server := c.(*net.TCPConn)
	if !k.connected(server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { k.pass(server, k.client) })
	both.Go(func() { k.pass(k.client, server) })
	both.Wait()
}

func (k *link) connected(server *net.TCPConn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		server.Close()
		return false
	}
	k.server = server
	return true
}

func (k *link) forget() {
	k.close(false)
	k.proxy.mu.Lock()
	defer k.proxy.mu.Unlock()
	delete(k.proxy.links, k)
}

// close ends the link on both sides.
func (k *link) close(reset bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return
	}
	k.ended = true
	close(k.done)
	for _, c := range []*net.TCPConn{k.client, k.server} {
		if c == nil {
			continue
		}
		if reset {
			c.SetLinger(0)
		}
		c.Close()
	}
}

// wait returns when nothing is dropped any more; false if the link has ended.
func (k *link) wait(h harm) bool {
	if h.dropped == nil {
		return true
	}
	select {
	case <-h.dropped:
		return true
	case <-k.done:
		return false
	}
}

// chunk is what is passed on, and when.
type chunk struct {
	bytes []byte
	due   time.Time
}

// maxChunks bounds what is under way in one direction. When it is full, reading waits.
const maxChunks = 64

// pass passes on what comes from one side, until that ends. It ends the link
// when all has been passed on, or at once if the side was reset.
func (k *link) pass(to, from *net.TCPConn) {
	queue := make(chan chunk, maxChunks)
	var sent sync.WaitGroup
	sent.Go(func() { k.send(to, queue) })
	err := k.read(from, queue)
	close(queue)
	if err != io.EOF {
		k.close(true)
	}
	sent.Wait()
	k.close(false)
}

func (k *link) read(from *net.TCPConn, queue chan<- chunk) error {
	var last time.Time
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		h := k.proxy.now()
		if !k.wait(h) {
			return net.ErrClosed
		}
		if n > 0 && !h.swallow {
			if due := time.Now().Add(h.draw()); due.After(last) {
				last = due
			}
			select {
			case queue <- chunk{append([]byte(nil), buf[:n]...), last}:
			case <-k.done:
				return net.ErrClosed
			}
		}
		if err != nil {
			return err
		}
	}
}

// draw returns how long the next bytes are to take.
func (h harm) draw() time.Duration {
	if h.jitter == 0 {
		return h.delay
	}
	return max(0, h.delay+rand.N(2*h.jitter)-h.jitter)
}

func (k *link) send(to *net.TCPConn, queue <-chan chunk) {
	for c := range queue {
		if left := time.Until(c.due); left > 0 {
			select {
			case <-time.After(left):
			case <-k.done:
				return
			}
		}
		if _, err := to.Write(c.bytes); err != nil {
			k.close(true)
			return
		}
	}
}
