package delivery

import (
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/gateway/framing"
	"eventstream/gateway/history"
	"eventstream/gateway/position"
	"eventstream/gateway/reader"
	"eventstream/gateway/socket"
	"eventstream/lane"
	"eventstream/wire"
)

// conn is what a worker knows of a client's connection. Only the worker touches the fields
// below worker.
type conn struct {
	seat       event.Seat
	subscriber string
	address    string         // it is counted by; empty if addresses are not counted
	reader     *reader.Reader // of the lanes that carry its events
	sock       socket.Socket

	opened  atomic.Bool  // the handshake is answered, or about to be
	answers atomic.Int64 // of what the kernel has not taken yet, at most so many bytes are answers to the client
	deaf    bool         // only the engine's: the connection is failed, or the client said goodbye; here it takes no memory
	framing framing.Kind // never changes; here it takes no memory
	heard   atomic.Int64 // when something last came from the client, uptime in seconds
	expires atomic.Int64 // when its token ends, Unix seconds; 0 if it has none

	// worker
	pass         auth.Pass // of its token
	state        state
	dirty        bool              // is in the worker's dirty list
	reached      bool              // all below floor was sent, or is not wanted
	owes         owing             // a cursor; here it takes no memory
	since        uint32            // when it was opened, uptime in seconds
	pending      []*history.Event  // events to be sent, in order
	one          [1]*history.Event // memory for pending: most often there is one
	pendingBytes uint32
	maxMessage   uint32        // how large a message to it may be, as it said; 0 if it did not
	last         event.ID      // of the event that was queued last
	floor        []int64       // live events below come from the replay, or are not wanted; nil if there are none
	resume       *Resume       // nil if it did not resume, or that is settled
	opening      *opening      // until hello
	behind       *behind       // nil if all that it has yet to get is pending, or being replayed
	stopReplay   func()        // ends the replay under way
	replayDone   chan struct{} // closed when the batch being replayed has left
	lastPing     int64         // when a ping was last sent, uptime in seconds
	lastCursor   int64         // when a cursor was last written, uptime in seconds
	closeBy      int64         // when it is to be cut off, uptime in seconds; 0 if it is not closing
}

type state uint8

const (
	joining   state = iota // known to the worker; events wait
	replaying              // hello is sent, earlier events are being sent; live ones wait
	live
	closing // a close frame is sent
	gone
)

// A cursor goes with the events once a second at most, so that the last ones of a burst
// have none. A connection that has been quiet for a while since gets one.
type owing uint8

const (
	owesNothing owing = iota
	owesNewly         // events went without a cursor
	owesQuietly       // and none since the last look
)

// opening is what a conn needs only until its hello.
type opening struct {
	from []int64 // positions when the conn became known to the worker
	end  *ending // it is to be closed right after its hello; nil if not
}

// ending is a close frame's content.
type ending struct {
	code   int
	reason string
}

// Gap is why something that a client wants can't be had.
type Gap struct {
	Reason  string // "" if there is none
	Missing []wire.Missing
	Cursor  string // of the client, as it came; "" if it has none
}

// Resume is what a connection keeps of the one that it goes on from, until everything is
// surely addressed to its own seat.
type Resume struct {
	Old  event.Address
	From []int64 // events below are not wanted: the client has them

	join  lane.ControlID // when our own seat was announced
	until []int64        // events from here on are addressed to our own seat; nil if that isn't known yet
}

// over reports whether nothing from next on is addressed to the old seat alone.
func (r *Resume) over(next []int64) bool {
	if r.until == nil {
		return false
	}
	return position.Below(next, r.From) < 0 && position.Below(next, r.until) < 0
}

// behind is what a connection has yet to get from the lanes.
type behind struct {
	spans []history.Span
}

// add puts an event of the connection's into the span of its partition. Events
// of a partition come in order.
func (b *behind) add(id event.ID) {
	for i := range b.spans {
		if b.spans[i].Partition == id.Partition {
			b.spans[i].To = id.Offset + 1
			return
		}
	}
	b.spans = append(b.spans, history.Span{Partition: id.Partition, From: id.Offset, To: id.Offset + 1})
}

// dropPending drops what waits: a connection for which nothing does keeps no memory.
func (c *conn) dropPending() { c.pending, c.one[0], c.pendingBytes = nil, nil, 0 }

// raise has what is live begin at the floor: what waits from below comes from the
// replay, or is not wanted.
func (c *conn) raise(floor []int64) {
	if floor == nil {
		return
	}
	c.floor = floor
	c.pending = slices.DeleteFunc(c.pending, func(m *history.Event) bool {
		below := m.ID.Offset < position.Of(floor, m.ID.Partition)
		if below {
			c.pendingBytes -= uint32(len(m.JSON))
		}
		return below
	})
	if c.behind != nil {
		for i := range c.behind.spans {
			sp := &c.behind.spans[i]
			sp.From = max(sp.From, position.Of(floor, sp.Partition))
		}
	}
}

// leaving reports whether c was told to go, or will be right after its hello.
func (c *conn) leaving() bool {
	return c.state >= closing || c.opening != nil && c.opening.end != nil
}

// expired reports whether the client's token has ended.
func (c *conn) expired(now int64) bool {
	at := c.expires.Load()
	return at != 0 && now >= at
}

// maxAnswers bounds the bytes of answers that a client may leave unread.
const maxAnswers = 64 << 10

// mayAnswer counts an answer, whoever writes it. A client that asks and does not
// read is cut off, and counted.
func (c *conn) mayAnswer(bytes int, unread prometheus.Counter) bool {
	if c.sock.Unsent() == 0 {
		return true
	}
	n := c.answers.Add(int64(bytes))
	if n <= maxAnswers {
		return true
	}
	if n-int64(bytes) <= maxAnswers { // the first that is too much
		unread.Inc()
	}
	c.sock.Close()
	return false
}

// endReplay ends the replay under way, and its batch.
func (c *conn) endReplay() {
	if c.replayDone != nil {
		close(c.replayDone)
		c.replayDone = nil
	}
	if c.stopReplay != nil {
		c.stopReplay()
		c.stopReplay = nil
	}
}
