package judge

import (
	"sync"

	"eventstream/event"
	"eventstream/wire"
)

// Chain is the history of one client: its connections, each resumed from where
// the one before ended. Its methods may be called at the same time.
type Chain struct {
	Name       string
	Subscriber string
	Filters    *Filters
	Takes      int // bytes of a message, and no event that has no room there; 0 if all

	mu    sync.Mutex
	conns []*Conn
	since Seq // what was produced from here on is due; 0 if what was after hello
	left  Seq // 0 if the client stays
}

// Conn is the history of one connection.
type Conn struct {
	of      *Chain
	gateway string
	dialed  Seq
	used    *event.Cursor // resumed from; nil if it began anew
	has     []int64       // what the client said to have since that, as event.ParseSeen has it

	hello   Seq // 0 if there was none
	resumed bool
	start   *event.Cursor // of hello
	seen    []item
	gaps    []Gap
	did     []did
}

// item is an event or a cursor that came. Those of one connection are in order.
type item struct {
	at     Seq
	id     event.ID
	n      int // number of the event; -1 if it is none of ours, or not as it was
	cursor *event.Cursor
}

// Gap is what a client was told that it would not get.
type Gap struct {
	At       Seq
	Reason   string
	From, To *event.Cursor
	Missing  []wire.Missing // these only, if the gateway said which
}

// did is what the client did, for people.
type did struct {
	at   Seq
	what string
}

// Since notes that the client asks for what was produced from now on, when it connects.
func (c *Chain) Since(at Seq) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = at
}

// Leave notes that the client does not come back. Only what its cursors are past
// is due to it.
func (c *Chain) Leave(at Seq) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = at
}

// Dial notes that a client connects.
func (c *Chain) Dial(at Seq, gateway string, used *event.Cursor) *Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &Conn{of: c, gateway: gateway, dialed: at, used: used}
	c.conns = append(c.conns, n)
	return n
}

// Has notes what the client says, when it connects, that it has got since its cursor.
func (n *Conn) Has(next []int64) {
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	n.has = next
}

// Hello notes the first message.
func (n *Conn) Hello(at Seq, resumed bool, start *event.Cursor) {
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	n.hello, n.resumed, n.start = at, resumed, start
}

// Event notes an event that came, with its number, or -1 if it is none of ours.
func (n *Conn) Event(at Seq, id event.ID, number int) {
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	n.seen = append(n.seen, item{at: at, id: id, n: number})
}

// Cursor notes a cursor that came.
func (n *Conn) Cursor(at Seq, cursor *event.Cursor) {
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	n.seen = append(n.seen, item{at: at, cursor: cursor})
}

// Gap notes a gap that the client was told of.
func (n *Conn) Gap(g Gap) {
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	n.gaps = append(n.gaps, g)
}

// Did notes what the client did, to be shown with violations.
func (n *Conn) Did(at Seq, what string) {
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	n.did = append(n.did, did{at, what})
}
