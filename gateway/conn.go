package gateway

import (
	"errors"
	"sync/atomic"
	"time"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/gateway/acks"
	"eventstream/gateway/framing"
	"eventstream/gateway/history"
	"eventstream/gateway/position"
	"eventstream/gateway/reader"
	"eventstream/gateway/socket"
	"eventstream/gateway/uptime"
	"eventstream/lane"
	"eventstream/wire"
)

// conn is one client's connection. Only its worker touches the fields
// below worker, and only its engine those below engine.
type conn struct {
	seat       event.Seat
	subscriber string
	address    string         // it is counted by; empty if addresses are not counted
	reader     *reader.Reader // of the lanes that carry its events
	worker     *worker
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
	resume       *resume       // nil if it did not resume, or that is settled
	opening      *opening      // until hello
	behind       *behind       // nil if all that it has yet to get is pending, or being replayed
	stopReplay   func()        // ends the replay under way
	replayDone   chan struct{} // closed when the batch being replayed has left
	lastPing     int64         // when a ping was last sent, uptime in seconds
	lastCursor   int64         // when a cursor was last written, uptime in seconds
	closeBy      int64         // when it is to be cut off, uptime in seconds; 0 if it is not closing

	// engine
	in   *framing.Inbound
	busy time.Time // up to when its messages take up its time
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

// resume is what a conn keeps of the connection that it goes on from, until
// everything is surely addressed to its own seat.
type resume struct {
	old   event.Address
	from  []int64        // events below are not wanted: the client has them
	join  lane.ControlID // when our own seat was announced
	until []int64        // events from here on are addressed to our own seat; nil if that isn't known yet
}

// over reports whether nothing from next on is addressed to the old seat alone.
func (r *resume) over(next []int64) bool {
	if r.until == nil {
		return false
	}
	return position.Below(next, r.from) < 0 && position.Below(next, r.until) < 0
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

// maxAnswers bounds the bytes of answers that a client may leave unread.
const maxAnswers = 64 << 10

// answer writes a small frame from the engine's side.
func (c *conn) answer(frame []byte) {
	if c.mayAnswer(len(frame)) {
		c.sock.Write(frame)
	}
}

// mayAnswer counts an answer, whoever writes it. A client that asks and does not
// read is cut off.
func (c *conn) mayAnswer(bytes int) bool {
	if c.sock.Unsent() == 0 {
		return true
	}
	n := c.answers.Add(int64(bytes))
	if n <= maxAnswers {
		return true
	}
	if n-int64(bytes) <= maxAnswers { // the first that is too much
		c.worker.gw.metrics.unread.Inc()
	}
	c.sock.Close()
	return false
}

// Subscriber, Positions and Answer are for acks.Client, and Renewed for admission.Holder.
func (c *conn) Subscriber() string { return c.subscriber }

// Positions returns up to where the lanes of its events have been read.
func (c *conn) Positions() []int64 { return c.reader.Positions() }

// Answer sends the client an answer to something that it sent.
func (c *conn) Answer(text []byte) { c.worker.tell(answered{c, text}) }

// Renewed has a new token take the place of the client's.
func (c *conn) Renewed(claims auth.Claims) { c.worker.tell(&renewed{c, claims}) }

// Socket, Data, Moved, Drained and Closed are for socket.Handler.
func (c *conn) Socket() *socket.Socket { return &c.sock }

// Data takes what the client sends.
func (c *conn) Data(b []byte) { c.received(b, maxRequest) }

// Moved notes that a slow client is alive.
func (c *conn) Moved() { c.heard.Store(uptime.Seconds()) }

// Drained tells the worker, if it waits.
func (c *conn) Drained(waited bool) {
	if c.answers.Load() != 0 {
		c.answers.Store(0)
	}
	if waited {
		c.worker.drained(c)
	}
}

// Closed tells the worker.
func (c *conn) Closed() { c.worker.tell(closed{c}) }

// received handles bytes from the client. The engine calls it.
func (c *conn) received(b []byte, limit int) {
	if !c.opened.Load() || c.framing == framing.EventStream {
		c.sock.Close() // RFC 6455 section 4.1: nothing before the handshake is answered; nothing at all into a stream
		return
	}
	c.heard.Store(uptime.Seconds())
	if c.deaf {
		return
	}
	var err *framing.Error
	if c.in, err = c.in.Feed(b, framing.Rules{Limit: limit, Deflate: c.framing == framing.Deflated}, c.message); err != nil {
		c.in, c.deaf = nil, true
		c.worker.tell(&end{conn: c, ending: ending{err.Code, err.Reason}, bye: err.Bye})
	}
}

func (c *conn) message(op byte, payload []byte) *framing.Error {
	if !c.allowed(time.Now()) {
		return &framing.Error{Code: wire.CloseTooMany, Reason: "too many messages"}
	}
	switch op {
	case framing.OpPing:
		c.answer(framing.NewFrame(framing.OpPong, payload))
	case framing.OpClose:
		code, err := framing.CloseStatus(payload)
		if err != nil {
			return err
		}
		return &framing.Error{Code: code, Bye: true} // answered with the same code
	case framing.OpBinary:
		return &framing.Error{Code: framing.CloseUnsupported, Reason: "binary messages are not understood"}
	case framing.OpText:
		c.request(payload)
	}
	return nil
}

func (c *conn) request(payload []byte) {
	r, err := wire.ParseRequest(payload)
	switch {
	case err != nil:
		c.answer(framing.NewFrame(framing.OpText, wire.AppendError(nil, "bad_message", err.Error())))
	case r.Type == wire.Ping:
		c.answer(framing.NewFrame(framing.OpText, []byte(wire.PongMessage)))
	case r.Type == wire.Token: // answered when it is checked
		if err := c.worker.gw.renewals.Take(c, r.Token); err != nil {
			c.answer(framing.NewFrame(framing.OpText, wire.AppendError(nil, "bad_token", err.Error())))
		}
	case r.Type == wire.Ack: // answered when it is saved
		if err := c.worker.gw.acks.Take(c, acks.Asked{Cursor: r.Cursor, Seen: r.Seen}); err != nil {
			code := "bad_ack"
			if errors.Is(err, acks.ErrFull) {
				code = "ack_later"
			}
			c.answer(framing.NewFrame(framing.OpText, wire.AppendError(nil, code, err.Error())))
		}
	}
}

// messageWindow is over what time messages are counted: a client may send many
// at once, if it is quiet afterwards.
const messageWindow = 10 * time.Second

// allowed counts one message from the client.
func (c *conn) allowed(now time.Time) bool {
	rate := c.worker.gw.cfg.MessageRate
	if rate == 0 {
		return true
	}
	if c.busy.Before(now) {
		c.busy = now
	}
	c.busy = c.busy.Add(time.Second / time.Duration(rate))
	return c.busy.Sub(now) <= messageWindow
}

// expired reports whether the client's token has ended.
func (c *conn) expired(now int64) bool {
	at := c.expires.Load()
	return at != 0 && now >= at
}

// maxRequest bounds a client's message, in bytes: a token fits, and a cursor of some two
// thousand partitions.
const maxRequest = auth.MaxToken + 4<<10
