// Package client is a client of the gateway: it connects, resumes after any
// disconnection, and hands over every event once and in the order of its partition.
//
// Nothing is lost silently: what the gateway can't deliver any more is reported as a
// Gap. After a restart with a saved Cursor the events after it are delivered again.
// Within one Client no event is handed over twice: on a reconnect the client names the
// events since its cursor, and the gateway does not send these again.
package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"eventstream/event"
	"eventstream/wire"
)

// Config says where to connect, and as which subscriber. All but URL and
// SubscriberID may be zero.
type Config struct {
	URL          string // ws, wss, http or https, or only host:port; the default path is /ws
	SubscriberID string // may be empty if URL or Header contain a token
	Cursor       string // where to resume; empty for events from now on
	Header       http.Header

	// Token returns a token. It is called before each handshake, and again some time
	// before that token expires, so that the client can renew it: usually without a new
	// connection. It may be nil. It may be called while events are handled.
	Token func(context.Context) (string, error)

	// Where to start without a Cursor. Since: at a time (RFC 3339), or a duration
	// before Run, such as 1h30m. Durable, without Since: after the last acknowledgement
	// of any client of this subscriber, or now if there is none.
	Since   string
	Durable bool

	// How often to acknowledge what was handled; 1s if zero and Durable. If negative,
	// or zero otherwise, only Ack acknowledges.
	AckEvery time.Duration

	MinBackoff time.Duration // maximum of the first pause before a reconnect, 100ms if zero; doubles each time
	MaxBackoff time.Duration // 10s if zero
	Timeout    time.Duration // for the handshake, and again for the hello after it; 15s if zero

	HTTPClient *http.Client // does the handshake; one without idle connections if nil
	OnState    func(State)  // called on every change, between events; must not block for long
}

// Event is one event, as the gateway sends it. The receiver owns it.
type Event struct {
	ID   event.ID
	Time time.Time       // of its Kafka record
	Data json.RawMessage // as produced
}

// A Client follows the events of one subscriber.
type Client struct {
	cfg   Config
	url   url.URL
	log   *slog.Logger
	ready chan struct{}
	dups  atomic.Int64
	since since
	ackIt chan struct{} // there is something to acknowledge

	// seen is the highest offset handed over, by partition. Only Run uses it.
	seen map[int32]int64

	mu     sync.Mutex
	cursor string
	begun  string  // the cursor of the last hello
	fresh  []int64 // handled since the cursor, as returned by event.ParseSeen
	toAck  position
	acked  position
}

// New returns a Client. It does no I/O: Run does.
func New(cfg Config, log *slog.Logger) (*Client, error) {
	u, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	q := u.Query()
	if cfg.SubscriberID != "" {
		q.Set("subscriber_id", cfg.SubscriberID)
	}
	if cfg.Durable {
		q.Set("durable", "true")
	}
	if !q.Has("subscriber_id") && !q.Has("token") && cfg.Header.Get("Authorization") == "" && cfg.Token == nil {
		return nil, errors.New("subscriber id required where there is no token")
	}
	u.RawQuery = q.Encode()
	from, err := parseSince(cfg.Since)
	if err != nil {
		return nil, err
	}
	if cfg.AckEvery == 0 && cfg.Durable {
		cfg.AckEvery = time.Second
	}
	cfg.MinBackoff = cmp.Or(cfg.MinBackoff, 100*time.Millisecond)
	cfg.MaxBackoff = max(cmp.Or(cfg.MaxBackoff, 10*time.Second), cfg.MinBackoff)
	cfg.Timeout = cmp.Or(cfg.Timeout, 15*time.Second)
	cfg.HTTPClient = cmp.Or(cfg.HTTPClient, oneShot)
	if cfg.MinBackoff < 0 || cfg.Timeout < 0 {
		return nil, errors.New("negative MinBackoff or Timeout")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Client{
		cfg:    cfg,
		url:    *u,
		log:    log,
		ready:  make(chan struct{}),
		since:  from,
		ackIt:  make(chan struct{}, 1),
		seen:   offsets(cfg.Cursor),
		cursor: cfg.Cursor,
	}, nil
}

// oneShot keeps no idle connections: a refused handshake must leave none behind, and
// the next attempt should be able to reach another gateway.
var oneShot = func() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableKeepAlives = true
	return &http.Client{Transport: t}
}()

func parseURL(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "ws://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("gateway URL: it can't be parsed; want ws://host:port/ws, with what is special in a query percent-encoded")
	}
	switch u.Scheme {
	case "ws", "wss", "http", "https":
	default:
		return nil, fmt.Errorf("gateway URL: scheme %q; want ws, wss, http or https", u.Scheme)
	}
	if u.Host == "" {
		return nil, errors.New("gateway URL: no host")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/ws"
	}
	return u, nil
}

// offsets returns the events before cursor. If it can't be parsed, it is left for the
// gateway to reject.
func offsets(cursor string) map[int32]int64 {
	seen := make(map[int32]int64)
	c, err := event.ParseCursor(cursor)
	if err != nil {
		return seen
	}
	for p, next := range c.Next {
		seen[int32(p)] = next - 1
	}
	return seen
}

// Run connects and passes every event to on, one at a time, until ctx ends, which is
// not an error. It reconnects after errors that may pass. It fails with a
// *HandshakeError (HTTP 400, 401, 403) or a *CloseError (4001, 4003, 4004) that would
// only be repeated, or with the error of on, whose event the next Run delivers again.
//
// While on runs nothing is read: if it blocks for longer than two of the gateway's
// heartbeats, the gateway may take the client for dead and disconnect it; it then
// resumes. Run must not be called again before it has returned.
func (c *Client) Run(ctx context.Context, on func(Event) error) error {
	c.since.begin(time.Now())
	for attempt := 0; ctx.Err() == nil; attempt++ {
		greeted, err := c.connect(ctx, on)
		if failed, ok := errors.AsType[*handlerError](err); ok {
			return handled(ctx, failed.err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if permanent(err) && !c.renewable(err) && !c.saysLess(err) {
			return err
		}
		if greeted {
			attempt = 0
		}
		in := c.pause(attempt, err)
		c.log.Warn("disconnected from gateway; retrying", "in", in, "err", err)
		c.tell(State{Status: Disconnected, Err: err, Retry: in})
		sleep(ctx, in)
	}
	return nil
}

// renewable reports whether the connection ended because its token expired, and there
// is a source of new ones.
func (c *Client) renewable(err error) bool {
	closed, ok := errors.AsType[*CloseError](err)
	return ok && closed.Code == wire.CloseExpired && c.cfg.Token != nil
}

// handled returns what Run returns for an error of on.
func handled(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// Cursor returns the last cursor before which all events have been handed over. Another
// Client with it in Config.Cursor continues from there. It may be called at any time.
func (c *Client) Cursor() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cursor
}

// Ready returns a channel that is closed by the first hello: every event
// produced from then on is matched for this client.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// Duplicates returns how many events were dropped because they had been handed over
// before. That happens only if a handshake that named them was refused, or if they were
// in too many partitions to name.
func (c *Client) Duplicates() int64 { return c.dups.Load() }

// handle handles one message.
func (c *Client) handle(ctx context.Context, n *conn, m *wire.Message, on func(Event) error) error {
	switch m.Type {
	case wire.Hello:
		c.greet(m)
	case wire.Events:
		for i := range m.Events {
			if err := c.deliver(ctx, &m.Events[i], on); err != nil {
				return err
			}
		}
		c.advance(m.Cursor)
	case wire.Cursor:
		c.advance(m.Cursor)
	case wire.Gap:
		c.gap(m)
	case wire.Acked:
		c.noteAcked(position{m.Cursor, m.Seen})
	case wire.Token:
		n.noteExpiry(time.Unix(m.Expires, 0))
	case wire.Error:
		c.log.Warn("gateway reports an error", "code", m.Code, "err", m.Text)
	}
	return nil
}

func (c *Client) greet(m *wire.Message) {
	// If the gateway can't resume, a gap follows. The old cursor stays until then, or a
	// disconnection in between would hide the gap. Without a cursor the next attempt
	// asks for the same again.
	c.mu.Lock()
	c.begun = m.Cursor
	c.mu.Unlock()
	if m.Resumed || c.Cursor() == "" && !c.cfg.Durable && c.cfg.Since == "" {
		c.advance(m.Cursor)
	}
	select {
	case <-c.ready:
	default:
		close(c.ready)
	}
	c.log.Info("connected to gateway", "resumed", m.Resumed)
	c.tell(State{Status: connected(m.Resumed), SubscriberID: m.SubscriberID})
}

func connected(resumed bool) Status {
	if resumed {
		return Resumed
	}
	return Connected
}

func (c *Client) deliver(ctx context.Context, e *wire.Event, on func(Event) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	id, err := event.ParseID(e.ID)
	if err != nil {
		return err
	}
	if last, ok := c.seen[id.Partition]; ok && id.Offset <= last {
		c.dups.Add(1)
		c.got(id)
		return nil
	}
	if err := on(Event{ID: id, Time: time.UnixMilli(e.TS), Data: e.Data}); err != nil {
		return &handlerError{err}
	}
	c.seen[id.Partition] = id.Offset
	c.got(id)
	return nil
}

func (c *Client) gap(m *wire.Message) {
	if m.Reason == wire.GapOtherTopic {
		clear(c.seen) // offsets start anew
	}
	c.log.Warn("events are missing", "reason", m.Reason, "partitions", len(m.Missing))
	c.tell(State{Status: Gap, Reason: m.Reason, From: m.From, To: m.To, Missing: m.Missing})
	c.advance(m.To)
}

func (c *Client) tell(s State) {
	if c.cfg.OnState != nil {
		c.cfg.OnState(s)
	}
}
