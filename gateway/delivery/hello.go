package delivery

import (
	"slices"

	"eventstream/gateway/framing"
	"eventstream/gateway/reader"
	"eventstream/gateway/uptime"
	"eventstream/lane"
	"eventstream/wire"
)

// Opening is how a connection begins, after its handshake.
type Opening struct {
	Answer    []byte         // to the handshake
	Announced lane.ControlID // where its seat was
	From      []int64        // where a resumed connection goes on; nil if it does not resume
	Floor     []int64        // what is live begins here; nil if with its seat
	Told      []int64        // up to where the client was surely told what Kafka lost; nil if up to where it goes on
	Gap       Gap            // why a cursor can't be resumed in full
}

// hello writes the answer to the handshake and the first message, at once, so
// that no answer to the client comes between. The cursor is from before
// anything that waits, so that a client which dies with it in hand loses
// nothing.
func (w *writer) hello(c *conn, o *Opening) {
	from := c.opening.from
	if o.From != nil {
		from = o.From
	}
	cursor := w.cursor(c, from)
	resumed := o.From != nil && o.Gap.Reason == ""
	hello := wire.AppendHello(nil, c.subscriber, cursor, resumed, int(w.cfg.Heartbeat))
	c.opened.Store(true)
	id := cursor
	if o.Gap.Reason != "" {
		id = "" // who goes on from it would not be told of the gap
	}
	c.sock.Write(append(o.Answer, c.framing.Message(hello, id)...))
	w.counts.frames.Add(1)
	if expires := c.expires.Load(); expires != 0 {
		w.send(c, framing.OpText, wire.AppendToken(nil, expires))
	}
	if o.Gap.Reason != "" {
		w.gap(c, o.Gap, cursor)
	}
	told := o.Told
	if told == nil {
		told = from
	}
	w.lost(c, c.reader.Losses(), told, cursor)
}

func (w *writer) gap(c *conn, g Gap, to string) {
	w.metrics.gaps.WithLabelValues(g.Reason).Inc()
	w.sendCursor(c, wire.AppendGap(nil, g.Cursor, to, g.Reason, g.Missing), to)
}

// lost tells c of the losses that concern one who goes on from the given positions.
func (w *writer) lost(c *conn, all reader.Losses, from []int64, cursor string) {
	for _, skipped := range []bool{false, true} {
		reason := wire.GapLost
		if skipped {
			reason = wire.GapSkipped
		}
		var missing []wire.Missing
		for _, l := range all {
			if l.Skipped == skipped && int(l.Partition) < len(from) && l.Concerns(from[l.Partition]) {
				missing = append(missing, wire.Missing{Partition: l.Partition, From: l.From, To: l.To})
			}
		}
		if missing != nil {
			w.gap(c, Gap{Reason: reason, Missing: missing}, cursor)
		}
	}
}

// lostNow tells c, which is live, of losses that have just become known, also if events
// behind them have come meanwhile: positions are read once a second.
func (w *writer) lostNow(c *conn, news reader.Losses) {
	at := before(w.positions(c), c.pending)
	w.lost(c, news, make([]int64, len(at)), w.cursor(c, at))
}

// lostMeanwhile tells c, which has caught up, of what was lost since it was opened.
func (w *writer) lostMeanwhile(c *conn) {
	news := slices.DeleteFunc(slices.Clone(c.reader.Losses()), func(l reader.Loss) bool { return uptime.SecondsOf(l.Noted) < int64(c.since) })
	if len(news) > 0 {
		at := before(w.positions(c), c.pending)
		from := slices.Clone(at)
		for _, l := range news {
			if int(l.Partition) < len(from) && uptime.SecondsOf(l.Noted) > int64(c.since) {
				from[l.Partition] = 0 // whatever has come since
			}
		}
		w.lost(c, news, from, w.cursor(c, at))
	}
}
