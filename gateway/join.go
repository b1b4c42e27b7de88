package gateway

import (
	"context"
	"slices"
	"strings"
	"time"

	"eventstream/event"
	"eventstream/gateway/admission"
	"eventstream/gateway/delivery"
	"eventstream/gateway/history"
	"eventstream/gateway/position"
	"eventstream/lane"
	"eventstream/wire"
)

// join announces a seat for the client. If it fails, the connection is counted
// out.
func (j *joins) join(ctx context.Context, a admission.Ask) (*entrance, error) {
	a.Subscriber = strings.Clone(a.Subscriber) // without the request that it is a part of
	e := &entrance{ask: a, reader: j.topics.readerOf(a.Subscriber)}
	var seat event.Seat
	err := e.reader.Started(ctx)
	if err == nil {
		err = j.origin(ctx, e)
	}
	if err == nil {
		seat, err = j.presence.Reserve(a.Subscriber)
	}
	if err != nil {
		j.gate.leave(a.Subscriber, a.Address)
		return nil, err
	}
	if e.resume != nil || e.rescan || e.gap == wire.GapUnknownAddress {
		e.ctx, e.stop = j.delivery.ReplayContext()
	}
	e.client = j.delivery.NewClient(delivery.Entry{
		Seat: seat, Subscriber: a.Subscriber, Address: a.Address, Reader: e.reader, Framing: a.Framing, MaxMessage: a.MaxMessage,
		Pass: a.Pass, Expires: a.Expires, Resume: e.resume, StopReplay: e.stop,
	})
	live, now := e.reader.Join(seat, e.old(), e.client.Join) // from here on delivery counts it out
	e.at, err = j.presence.Announce(ctx, lane.Seated{Seat: seat, Subscriber: a.Subscriber})
	if err == nil {
		err = j.prepare(ctx, e, live, now)
	}
	if err != nil {
		e.client.Closed()
		return nil, err
	}
	return e, nil
}

// origin finds out where the client goes on.
func (j *joins) origin(ctx context.Context, e *entrance) (err error) {
	if e.ask.Durable {
		last, err := j.acks.Last(ctx, e.ask.Subscriber)
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
	if err := j.came(ctx, e); err != nil {
		return err
	}
	e.resume, e.gap, err = j.resumable(ctx, e.ask)
	if e.gap == wire.GapUnknownAddress && j.kafka != nil {
		e.gap, e.rescan = "", true
	}
	return err
}

// prepare plans what is to be sent before what is live.
func (j *joins) prepare(ctx context.Context, e *entrance, live, now []int64) (err error) {
	switch {
	case e.ask.Cursor == nil && !e.rescan && now != nil:
		e.floor, live = now, now // filter services are behind: what they have yet to match is not news
	case e.resume != nil:
		err = j.plan(ctx, e, live)
	case e.rescan:
		err = j.rescan(ctx, e)
	case e.gap == wire.GapUnknownAddress:
		err = j.forgotten(ctx, e)
	}
	if err == nil && e.first {
		err = j.acks.Begin(ctx, e.client.Subscriber(), j.begins(e, live))
	}
	return err
}

// begins returns where a durable subscriber begins: at live, unless it asked for what was
// before.
func (j *joins) begins(e *entrance, live []int64) event.Cursor {
	topic := j.topics.topic.Load().ID
	from := event.Cursor{Topic: topic, Issued: time.Now(), Addr: event.Address{Gateway: j.id, Seat: e.client.Seat()}, Next: live}
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
func (j *joins) forgotten(ctx context.Context, e *entrance) error {
	floor, err := e.findFloor(ctx)
	if err != nil {
		return err
	}
	e.floor, e.from = floor, floor
	e.missing = between(e.ask.Cursor.Next, floor)
	return nil
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

// welcome opens the connection: hello, what it missed, then what is live.
func (j *joins) welcome(e *entrance) {
	o := delivery.Opening{
		Answer: e.ask.Answer, Announced: e.at, From: e.from, Floor: e.floor,
		Gap: delivery.Gap{Reason: e.gap, Missing: e.missing, Cursor: e.ask.Text},
	}
	if e.from != nil {
		o.Told = e.heardOf()
	}
	e.client.Open(o)
	if e.from == nil {
		return
	}
	j.resumed.Inc()
	j.delivery.Replay(e.ctx, e.client, e.ask.Text, &history.Replay{
		Topic: j.topics.topic.Load().ID, At: slices.Clone(e.from), Stream: e.stream, Until: e.until, Since: e.ask.Since,
		// Lanes that were lost and filled again may know our seat only.
		Seats: []event.Address{e.old(), {Gateway: j.id, Seat: e.client.Seat()}}, Spans: e.spans,
	})
}
