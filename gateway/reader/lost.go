package reader

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"eventstream/internal/ops"
	"eventstream/lane"
)

// Kafka can lose its newest records: an unclean election, a disk that was restored. It
// then gives their offsets a second time, to other events. An offset never means two
// events to a client: so these are not passed on, until the log has grown to where it was.
// A filter service notes that range in the lane's position, and clients are told of it as
// a gap: connected ones at once, and the others with their hello, if they go on from the
// range's end or from below it.

// What an operator has a lane pass over is noted there, too, and told in the same way.

// Loss is a range of a partition whose events are not passed on, and since when we know it.
type Loss struct {
	Partition int32
	lane.Loss
	Skipped bool // by an operator; else Kafka lost it
	Noted   time.Time
}

// Concerns reports whether who goes on from an offset is to be told. Of what Kafka lost that
// includes who has come as far as its end: what Kafka has there now is not passed on.
func (l Loss) Concerns(from int64) bool {
	return from < l.To || from == l.To && !l.Skipped
}

// Losses are those of a reader's lanes. They are replaced, never changed.
type Losses []Loss

// noteLost takes up what positions say of losses. It returns those that are news.
func (r *Reader) noteLost(positions []lane.Position) (news Losses) {
	all, gone := r.Losses(), false
	for _, p := range positions {
		known := slices.ContainsFunc(all, func(l Loss) bool { return l.Partition == p.Partition })
		if p.Lost.To == 0 && p.Skipped == "" && !known {
			continue
		}
		now := lossesOf(p)
		kept := slices.DeleteFunc(slices.Clone(all), func(l Loss) bool {
			// What Kafka lost stays, whatever becomes of the lane, until it lost something else.
			return l.Partition == p.Partition && (l.Skipped || p.Lost.To > 0) && !slices.ContainsFunc(now, l.same)
		})
		gone = gone || len(kept) < len(all)
		for _, l := range now {
			if !slices.ContainsFunc(kept, l.same) {
				kept, news = append(kept, l), append(news, l)
			}
		}
		all = kept
	}
	if gone || news != nil {
		slices.SortFunc(all, func(a, b Loss) int {
			return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.From, b.From))
		})
		r.lost.Store(&all)
	}
	return news
}

func lossesOf(p lane.Position) (all Losses) {
	if p.Lost.To > 0 {
		all = append(all, Loss{p.Partition, p.Lost, false, time.Now()})
	}
	for _, s := range p.Skipped.All() {
		all = append(all, Loss{p.Partition, lane.Loss(s), true, time.Now()})
	}
	return all
}

// same reports whether two are the same, whenever they were noted.
func (l Loss) same(other Loss) bool {
	other.Noted = l.Noted
	return l == other
}

// Losses returns all that is known. It must not be changed.
func (r *Reader) Losses() Losses {
	if all := r.lost.Load(); all != nil {
		return *all
	}
	return nil
}

// WaitsForKafka returns which partition's new events are not passed on, or nil.
func (r *Reader) WaitsForKafka() error {
	at := r.Positions()
	for _, l := range r.Losses() {
		if !l.Skipped && int(l.Partition) < len(at) && l.Concerns(at[l.Partition]) {
			return ops.Degraded(fmt.Errorf("partition %d: Kafka lost the records from %d on; new ones with offsets below %d are not passed on, which clients are told as a gap", l.Partition, l.From, l.To))
		}
	}
	return nil
}
