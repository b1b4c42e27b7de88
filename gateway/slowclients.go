package gateway

import (
	"context"
	"slices"

	"eventstream/event"
)

// A client that takes less than comes falls behind: when more waits for it than
// MaxPending, what waits is dropped, and only the offsets of it are kept. It
// stands in the lanes, and later in Kafka. When the client has taken what was
// written, it is sent the rest from there, at its own pace, and goes live again.
// It is given up only when what it has yet to get is past all retention.

// behind is what a connection has yet to get from the lanes.
type behind struct {
	spans []span
}

// add puts an event of the connection's into the span of its partition. Events
// of a partition come in order.
func (b *behind) add(id event.ID) {
	for i := range b.spans {
		if b.spans[i].partition == id.Partition {
			b.spans[i].to = id.Offset + 1
			return
		}
	}
	b.spans = append(b.spans, span{id.Partition, id.Offset, id.Offset + 1})
}

// fallBehind drops what waits for c.
func (s *worker) fallBehind(c *conn) {
	s.gw.metrics.behind.Inc()
	if c.behind == nil {
		c.behind = &behind{}
	}
	for _, m := range c.pending {
		c.behind.add(m.id)
	}
	c.dropPending()
	if c.state == live {
		s.catchUp(c)
	}
}

// catchUp sends c what it is behind with. If it falls further behind meanwhile,
// that comes after it.
func (s *worker) catchUp(c *conn) {
	r := &recovery{conn: c, slow: true, spans: c.behind.spans, at: slices.Clone(before(s.positions(c), c.pending))}
	for _, sp := range r.spans {
		r.at[sp.partition] = min(r.at[sp.partition], sp.from)
	}
	r.seats = []event.Address{{Gateway: s.gw.id, Seat: c.seat}}
	if c.resume != nil {
		r.seats = append(r.seats, c.resume.old)
	}
	c.state, c.behind = replaying, nil
	var ctx context.Context
	ctx, c.stopReplay = context.WithCancel(s.gw.replayCtx)
	s.gw.startRecovery(ctx, r)
}
