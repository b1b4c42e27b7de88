package delivery

import (
	"errors"
	"time"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/gateway/acks"
	"eventstream/gateway/framing"
	"eventstream/gateway/reader"
	"eventstream/gateway/socket"
	"eventstream/gateway/uptime"
	"eventstream/wire"
)

// Client is a client's connection, as its engine and its handshake see it: they leave
// word for the worker, and never wait. Only the engine touches the fields below engine.
type Client struct {
	conn
	worker *worker

	// engine
	in   *framing.Inbound
	busy time.Time // up to when its messages take up its time
}

// Entry is what is known of a client when it has a seat.
type Entry struct {
	Seat       event.Seat
	Subscriber string
	Address    string         // it is counted by; empty if addresses are not counted
	Reader     *reader.Reader // of the lanes that carry its events
	Framing    framing.Kind
	MaxMessage uint32    // how large a message to it may be, as it says; 0 if it does not
	Expires    int64     // when its token ends, Unix seconds; 0 if it has none
	Pass       auth.Pass // of its token
	Resume     *Resume   // nil if it does not resume
	StopReplay func()    // called when the connection ends, or all that it missed is sent; may be nil
}

// newClient returns a connection that its worker does not know yet.
func newClient(w *worker, e Entry) *Client {
	c := &Client{worker: w, conn: conn{
		seat: e.Seat, subscriber: e.Subscriber, address: e.Address, reader: e.Reader, framing: e.Framing,
		maxMessage: e.MaxMessage, pass: e.Pass, resume: e.Resume, stopReplay: e.StopReplay, last: event.ID{Partition: -1},
	}}
	c.heard.Store(uptime.Seconds())
	c.expires.Store(e.Expires)
	return c
}

// Join has the worker know the connection, and keep events for it. From then on it has to
// be closed.
func (c *Client) Join() { c.worker.tell(added{&c.conn}) }

// Open has the handshake answered, with hello.
func (c *Client) Open(o Opening) { c.worker.tell(&open{&c.conn, o}) }

// Seat returns the connection's seat.
func (c *Client) Seat() event.Seat { return c.seat }

// Subscriber, Positions and Answer are for acks.Client, and Renewed for admission.Holder.
func (c *Client) Subscriber() string { return c.subscriber }

// Positions returns up to where the lanes of its events have been read.
func (c *Client) Positions() []int64 { return c.reader.Positions() }

// Answer sends the client an answer to something that it sent.
func (c *Client) Answer(text []byte) { c.worker.tell(answered{&c.conn, text}) }

// Renewed has a new token take the place of the client's.
func (c *Client) Renewed(claims auth.Claims) { c.worker.tell(&renewed{&c.conn, claims}) }

// Socket, Data, Moved, Drained and Closed are for socket.Handler.
func (c *Client) Socket() *socket.Socket { return &c.sock }

// Data takes what the client sends.
func (c *Client) Data(b []byte) { c.received(b, MaxRequest) }

// Moved notes that a slow client is alive.
func (c *Client) Moved() { c.heard.Store(uptime.Seconds()) }

// Drained tells the worker, if it waits.
func (c *Client) Drained(waited bool) {
	if c.answers.Load() != 0 {
		c.answers.Store(0)
	}
	if waited {
		c.worker.drained(&c.conn)
	}
}

// Closed tells the worker.
func (c *Client) Closed() { c.worker.tell(closed{c}) }

// closed: a connection's socket is closed.
type closed struct{ client *Client }

func (cl closed) apply(w *worker) {
	c := cl.client
	if c.state == gone {
		return
	}
	w.remove(&c.conn)
	w.cfg.Acks.Gone(c)
	w.cfg.Left(c.subscriber, c.address, c.seat) // now, so that who comes in its place finds its seat free
}

// received handles bytes from the client. The engine calls it.
func (c *Client) received(b []byte, limit int) {
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
		c.worker.tell(&end{conn: &c.conn, ending: ending{err.Code, err.Reason}, bye: err.Bye})
	}
}

func (c *Client) message(op byte, payload []byte) *framing.Error {
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

func (c *Client) request(payload []byte) {
	r, err := wire.ParseRequest(payload)
	switch {
	case err != nil:
		c.answer(framing.NewFrame(framing.OpText, wire.AppendError(nil, "bad_message", err.Error())))
	case r.Type == wire.Ping:
		c.answer(framing.NewFrame(framing.OpText, []byte(wire.PongMessage)))
	case r.Type == wire.Token: // answered when it is checked
		if err := c.worker.cfg.Renewals.Take(c, r.Token); err != nil {
			c.answer(framing.NewFrame(framing.OpText, wire.AppendError(nil, "bad_token", err.Error())))
		}
	case r.Type == wire.Ack: // answered when it is saved
		if err := c.worker.cfg.Acks.Take(c, acks.Asked{Cursor: r.Cursor, Seen: r.Seen}); err != nil {
			code := "bad_ack"
			if errors.Is(err, acks.ErrFull) {
				code = "ack_later"
			}
			c.answer(framing.NewFrame(framing.OpText, wire.AppendError(nil, code, err.Error())))
		}
	}
}

// answer writes a small frame from the engine's side.
func (c *Client) answer(frame []byte) {
	if c.mayAnswer(len(frame), c.worker.metrics.unread) {
		c.sock.Write(frame)
	}
}

// messageWindow is over what time messages are counted: a client may send many
// at once, if it is quiet afterwards.
const messageWindow = 10 * time.Second

// allowed counts one message from the client.
func (c *Client) allowed(now time.Time) bool {
	rate := c.worker.cfg.MessageRate
	if rate == 0 {
		return true
	}
	if c.busy.Before(now) {
		c.busy = now
	}
	c.busy = c.busy.Add(time.Second / time.Duration(rate))
	return c.busy.Sub(now) <= messageWindow
}

// MaxRequest bounds a client's message, in bytes: a token fits, and a cursor of some two
// thousand partitions.
const MaxRequest = auth.MaxToken + 4<<10
