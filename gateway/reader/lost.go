package reader

import (
	"fmt"
	"maps"
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

// Loss is what Kafka lost of a partition, and since when we know it.
type Loss struct {
	lane.Loss
	Noted time.Time
}

// Losses are those of a reader's lanes, by partition. They are replaced, never changed.
type Losses map[int32]Loss

// noteLost takes up what positions say of losses. It returns those that are news.
func (r *Reader) noteLost(positions []lane.Position) (news Losses) {
	for _, p := range positions {
		if p.Lost.To > 0 && r.Losses()[p.Partition].Loss != p.Lost {
			if news == nil {
				news = make(Losses)
			}
			news[p.Partition] = Loss{p.Lost, time.Now()}
		}
	}
	if news != nil {
		all := maps.Clone(r.Losses())
		if all == nil {
			all = make(Losses)
		}
		maps.Copy(all, news)
		r.lost.Store(&all)
	}
	return news
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
	for p, l := range r.Losses() {
		if int(p) < len(at) && at[p] <= l.To {
			return ops.Degraded(fmt.Errorf("partition %d: Kafka lost the records from %d on; new ones with offsets below %d are not passed on, which clients are told as a gap", p, l.From, l.To))
		}
	}
	return nil
}
