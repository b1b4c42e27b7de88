package gateway

import (
	"maps"
	"slices"

	"eventstream/gateway/reader"
	"eventstream/gateway/uptime"
	"eventstream/wire"
)

// tellLost has the workers tell all connections that are live, also if events behind the
// loss have come meanwhile: positions are read once a second. Connections that join are
// told with their hello, and those that catch up when that is done.
func (g *Gateway) tellLost(r *reader.Reader, news reader.Losses) {
	for _, s := range g.workers {
		s.tell(visit{done: make(chan struct{}), each: func(s *worker, c *conn) {
			if c.reader == r && c.state == live {
				at := before(s.positions(c), c.pending)
				s.lost(c, news, make([]int64, len(at)), s.cursor(c, at))
			}
		}})
	}
}

// lost tells c of the losses that concern one who goes on from the given positions.
func (s *worker) lost(c *conn, all reader.Losses, from []int64, cursor string) {
	var missing []wire.Missing
	for _, p := range slices.Sorted(maps.Keys(all)) {
		if l := all[p]; int(p) < len(from) && from[p] <= l.To {
			missing = append(missing, wire.Missing{Partition: p, From: l.From, To: l.To})
		}
	}
	if missing != nil {
		s.gap(c, gap{reason: wire.GapLost, missing: missing}, cursor)
	}
}

// lostMeanwhile tells c, which has caught up, of what was lost since it was opened.
func (s *worker) lostMeanwhile(c *conn) {
	news := maps.Clone(c.reader.Losses())
	maps.DeleteFunc(news, func(_ int32, l reader.Loss) bool { return uptime.SecondsOf(l.Noted) < int64(c.since) })
	if len(news) > 0 {
		at := before(s.positions(c), c.pending)
		from := slices.Clone(at)
		for p, l := range news {
			if int(p) < len(from) && uptime.SecondsOf(l.Noted) > int64(c.since) {
				from[p] = 0 // whatever has come since
			}
		}
		s.lost(c, news, from, s.cursor(c, at))
	}
}
