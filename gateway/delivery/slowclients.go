package delivery

import (
	"slices"

	"eventstream/event"
	"eventstream/gateway/history"
)

// A client that takes less than comes falls behind: when more waits for it than
// MaxPending, what waits is dropped, and only the offsets of it are kept. It
// stands in the lanes, and later in Kafka. When the client has taken what was
// written, it is sent the rest from there, at its own pace, and goes live again.
// It is given up only when what it has yet to get is past all retention.

// fallBehind drops what waits for c.
func (w *worker) fallBehind(c *conn) {
	w.metrics.behind.Inc()
	if c.behind == nil {
		c.behind = &behind{}
	}
	for _, m := range c.pending {
		c.behind.add(m.ID)
	}
	c.dropPending()
	if c.state == live {
		w.catchUp(c)
	}
}

// catchUp sends c what it is behind with. If it falls further behind meanwhile,
// that comes after it.
func (w *worker) catchUp(c *conn) {
	r := &history.Replay{Topic: w.topic, Spans: c.behind.spans, At: slices.Clone(before(w.positions(c), c.pending))}
	for _, sp := range r.Spans {
		r.At[sp.Partition] = min(r.At[sp.Partition], sp.From)
	}
	r.Seats = []event.Address{{Gateway: w.cfg.Gateway, Seat: c.seat}}
	if c.resume != nil {
		r.Seats = append(r.Seats, c.resume.Old)
	}
	c.state, c.behind = replaying, nil
	c.stopReplay = w.replay(w, c, r)
}
