package gateway

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"eventstream/gateway/uptime"
	"eventstream/internal/ops"
	"eventstream/lane"
	"eventstream/wire"
)

// Kafka can lose its newest records: an unclean election, a disk that was restored. It
// then gives their offsets a second time, to other events. An offset never means two
// events to a client, so that these are not passed on, until the log has grown to where
// it was. A filter service notes that range in the lane's position, and clients are told
// of it as a gap: those who are connected at once, and the others with their hello, if
// they go on from below the range's end or from it.

// notedLoss is what Kafka lost of a partition, and since when we know it.
type notedLoss struct {
	lane.Loss
	noted time.Time
}

// losses are those of a reader's lanes, by partition. They are replaced, never changed.
type losses map[int32]notedLoss

// noteLost takes up what positions say of losses. It returns those that are news.
func (r *reader) noteLost(positions []lane.Position) (news losses) {
	for _, p := range positions {
		if p.Lost.To > 0 && r.losses()[p.Partition].Loss != p.Lost {
			if news == nil {
				news = make(losses)
			}
			news[p.Partition] = notedLoss{p.Lost, time.Now()}
		}
	}
	if news != nil {
		all := maps.Clone(r.losses())
		if all == nil {
			all = make(losses)
		}
		maps.Copy(all, news)
		r.lost.Store(&all)
	}
	return news
}

func (r *reader) losses() losses {
	if all := r.lost.Load(); all != nil {
		return *all
	}
	return nil
}

// tellLost has the workers tell all who are live, also if events behind the loss have come
// meanwhile: positions are read once a second. Those who join are told with their hello,
// and those who catch up when that is done.
func (r *reader) tellLost(news losses) {
	for _, s := range r.gw.workers {
		s.tell(visit{done: make(chan struct{}), each: func(s *worker, c *conn) {
			if c.reader == r && c.state == live {
				at := before(s.positions(c), c.pending)
				s.lost(c, news, make([]int64, len(at)), s.cursor(c, at))
			}
		}})
	}
}

// lost tells c of the losses that concern one who goes on from the given positions.
func (s *worker) lost(c *conn, all losses, from []int64, cursor string) {
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
	news := maps.Clone(c.reader.losses())
	maps.DeleteFunc(news, func(_ int32, l notedLoss) bool { return uptime.SecondsOf(l.noted) < int64(c.since) })
	if len(news) > 0 {
		at := before(s.positions(c), c.pending)
		from := slices.Clone(at)
		for p, l := range news {
			if int(p) < len(from) && uptime.SecondsOf(l.noted) > int64(c.since) {
				from[p] = 0 // whatever has come since
			}
		}
		s.lost(c, news, from, s.cursor(c, at))
	}
}

// waitsForKafka tells which partition's new events are not passed on, or nil.
func (r *reader) waitsForKafka() error {
	at := r.Positions()
	for p, l := range r.losses() {
		if int(p) < len(at) && at[p] <= l.To {
			return ops.Degraded(fmt.Errorf("partition %d: Kafka lost the records from %d on; new ones with offsets below %d are not passed on, which clients are told as a gap", p, l.From, l.To))
		}
	}
	return nil
}
