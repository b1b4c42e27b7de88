package gateway

import (
	"context"
	"slices"
	"strings"
	"time"

	"eventstream/event"
	"eventstream/gateway/admission"
	"eventstream/gateway/history"
	"eventstream/gateway/position"
	"eventstream/gateway/uptime"
	"eventstream/lane"
	"eventstream/wire"
)

// entrance is a connection that is announced and not open yet.
type entrance struct {
	conn    *conn
	ask     admission.Ask
	first   bool // it is durable, and has never acknowledged anything
	rescan  bool // Kafka is asked for all that it missed
	at      lane.ControlID
	gap     string // reason, if what was asked for can't be had in full
	missing []wire.Missing
	ctx     context.Context // of the replay: ends with the connection
	old     event.Address   // resumed from
	from    []int64         // where it goes on, by partition; nil if it does not resume
	floor   []int64         // what is live begins here; nil if with its seat
	stream  *history.Stream // to be sent first, up to until; nil if Kafka is not needed
	until   []int64
	spans   []history.Span // of the lanes, to be sent then
}

// join announces a seat for the client. If it fails, the connection is counted
// out.
func (g *Gateway) join(ctx context.Context, a admission.Ask) (*entrance, error) {
	a.Subscriber = strings.Clone(a.Subscriber) // without the request that it is a part of
	c := &conn{framing: a.Framing, maxMessage: a.MaxMessage, subscriber: a.Subscriber, address: a.Address, pass: a.Pass, reader: g.readerOf(a.Subscriber), last: event.ID{Partition: -1}}
	e := &entrance{conn: c, ask: a}
	err := c.reader.Started(ctx)
	if err == nil {
		err = g.origin(ctx, e)
	}
	if err == nil {
		c.seat, err = g.presence.Reserve(a.Subscriber)
	}
	if err != nil {
		g.countOut(c)
		return nil, err
	}
	if c.resume != nil || e.rescan || e.gap == wire.GapUnknownAddress {
		e.ctx, c.stopReplay = context.WithCancel(g.replayCtx)
	}
	c.heard.Store(uptime.Seconds())
	c.expires.Store(a.Expires)
	c.worker = g.workers[int(c.seat)%len(g.workers)]
	live, now := c.reader.Join(c.seat, e.old, func() { c.worker.tell(added{c}) }) // from here on the worker counts it out
	e.at, err = g.presence.Announce(ctx, lane.Seated{Seat: c.seat, Subscriber: a.Subscriber})
	if err == nil {
		err = g.prepare(ctx, e, live, now)
	}
	if err != nil {
		c.worker.tell(closed{c})
		return nil, err
	}
	return e, nil
}

// origin finds out where the client goes on.
func (g *Gateway) origin(ctx context.Context, e *entrance) (err error) {
	if e.ask.Durable {
		last, err := g.acks.Last(ctx, e.ask.Subscriber)
		if err != nil {
			return err
		}
		e.first = last == nil
		if e.ask.Cursor == nil && e.ask.Since.IsZero() {
			e.ask.Cursor = last
		}
	}
	if e.ask.Cursor == nil {
		e.rescan = !e.ask.Since.IsZero()
		return nil
	}
	if err := g.came(ctx, e); err != nil {
		return err
	}
	e.conn.resume, e.gap, err = g.resumable(ctx, e.ask)
	if e.gap == wire.GapUnknownAddress && g.kafka != nil {
		e.gap, e.rescan = "", true
	}
	if e.conn.resume != nil {
		e.old = e.conn.resume.old
	}
	return err
}

// prepare plans what is to be sent before what is live.
func (g *Gateway) prepare(ctx context.Context, e *entrance, live, now []int64) (err error) {
	switch {
	case e.ask.Cursor == nil && !e.rescan && now != nil:
		e.floor, live = now, now // filter services are behind: what they have yet to match is not news
	case e.conn.resume != nil:
		err = g.plan(ctx, e, live)
	case e.rescan:
		err = g.rescan(ctx, e)
	case e.gap == wire.GapUnknownAddress:
		err = g.forgotten(ctx, e)
	}
	if err == nil && e.first {
		err = g.acks.Begin(ctx, e.conn.subscriber, g.begins(e, live))
	}
	return err
}

// begins returns where a durable subscriber begins: at live, unless it asked for what was
// before.
func (g *Gateway) begins(e *entrance, live []int64) event.Cursor {
	topic := g.topic.Load().ID
	from := event.Cursor{Topic: topic, Issued: time.Now(), Addr: event.Address{Gateway: g.id, Seat: e.conn.seat}, Next: live}
	switch {
	case e.ask.Cursor != nil && e.ask.Cursor.Topic == topic:
		return *e.ask.Cursor
	case e.from != nil:
		from.Addr, from.Next = event.Address{}, e.from
	}
	return from
}

// forgotten finds out what is missing for a cursor that can't be resumed. What has
// been matched already, without knowing our seat, may yet come into the lanes: so
// that reaches up to the floor.
func (g *Gateway) forgotten(ctx context.Context, e *entrance) error {
	floor, err := g.floor(ctx, e)
	if err != nil {
		return err
	}
	e.floor, e.from = floor, floor
	e.missing = between(e.ask.Cursor.Next, floor)
	return nil
}

// floor waits for where on everything is surely addressed to e's own seat. A
// cursor may come from a gateway that is ahead of us.
func (g *Gateway) floor(ctx context.Context, e *entrance) ([]int64, error) {
	floor, err := e.conn.reader.Settled(ctx, e.at)
	if err != nil {
		return nil, err
	}
	if cur := e.ask.Cursor; cur != nil {
		return position.Highest(floor, cur.Next), nil
	}
	return slices.Clone(floor), nil
}

// between returns what lies between two positions.
func between(from, to []int64) (m []wire.Missing) {
	for p := range to {
		if from := position.Of(from, int32(p)); from < to[p] {
			m = append(m, wire.Missing{Partition: int32(p), From: from, To: to[p]})
		}
	}
	return m
}
