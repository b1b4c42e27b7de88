package presence

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"eventstream/event"
	"eventstream/gateway/position"
	"eventstream/gateway/uptime"
)

// reach is when the store was last heard, and where the readers were then.
type reach struct {
	beaten  time.Time // when the last heartbeat began that the store answered
	readers []Reader
	had     [][]int64  // positions of each of them then
	owed    [][]int64  // where each reader was before seats may have been missed; nil if that is settled
	owedTo  event.Seat // the last seat that this concerns
}

func (r *reach) begin(readers []Reader) {
	r.beaten, r.readers = time.Now(), readers
	r.had = r.positions()
}

// apart returns for how long the store has not been heard.
func (r *reach) apart() time.Duration { return time.Since(r.beaten) }

// positions returns how far each reader is.
func (r *reach) positions() [][]int64 {
	all := make([][]int64, len(r.readers))
	for i, reader := range r.readers {
		all[i] = reader.Positions()
	}
	return all
}

// hadUntil returns how far each reader was when the store was last sure to be the one
// that it was at the last heartbeat.
func (r *reach) hadUntil() [][]int64 {
	had := slices.Clone(r.had)
	for i, reader := range r.readers {
		if broke := reader.BrokeAt(); broke != nil {
			had[i] = broke
		}
	}
	return had
}

// heartbeat shows that this gateway is alive, and checks that the store has what was
// announced.
func (p *Presence) heartbeat(ctx context.Context) error {
	began := time.Now()
	if err := p.beat(ctx, began); err != nil {
		return err
	}
	p.sureAt.Store(int64(uptime.Of(began)))
	return nil
}

// Sure blocks until a heartbeat that started after t succeeds. Until then, lane entries
// may come from a filter service that has lost our seats, and no cursor may go past them.
func (p *Presence) Sure(ctx context.Context, t time.Time) {
	for p.sureAt.Load() < int64(uptime.Of(t)) {
		select {
		case p.doubt <- struct{}{}:
		default:
		}
		if uptime.Sleep(ctx, sureEvery) != nil {
			return
		}
	}
}

const sureEvery = 50 * time.Millisecond

// OutOfTouch is how long a gateway may be without an answer of the store and still be
// sure to announce itself to a new one before events are matched: the filter services
// wait a little longer than that.
const OutOfTouch = 2 * time.Second

func (p *Presence) beat(ctx context.Context, began time.Time) error {
	ctx2, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	b, err := p.store.Heartbeat(ctx2, p.cfg.Gateway, p.cfg.ResumeWindow)
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	p.see(b.Epoch)
	r := &p.reach
	if now := p.cfg.Readers(); now[0] != r.readers[0] { // of another topic: all clients of the one before have left
		r.readers, r.owed = now, nil
		r.had = r.positions()
	}
	apart, had := r.apart(), r.hadUntil()
	r.beaten = began // the store counts from then on at the earliest
	r.had = r.positions()
	if (p.forgotten || b.Seq < p.confirmed) && apart > OutOfTouch && r.owed == nil {
		r.owed, r.owedTo = had, p.seats.lastGiven()
	}
	if !p.forgotten && b.Seq == p.seq && b.Epoch == p.epoch {
		return p.checkMissed(ctx)
	}
	if apart > p.cfg.ResumeWindow {
		p.giveUp(math.MaxUint32)
	}
	if err := p.announceAll(ctx); err != nil {
		return err
	}
	p.epoch = b.Epoch
	return p.checkMissed(ctx)
}

// see tells that the store was emptied. The epoch is made by a filter service, so that it
// may be missing for a while.
func (p *Presence) see(epoch string) {
	if p.seen != "" && epoch != p.seen {
		p.cfg.Emptied.Inc()
		p.log.Error("Redis was emptied, or another one took its place: seats are announced again, and clients that missed something resume from Kafka", "epoch", epoch, "before", p.seen)
	}
	p.seen = epoch
}

// checkMissed follows when the store has lost announcements, to a wipe or a rollback,
// while it could not be reached. If a lane has gone on beyond where it was before, events
// may have been matched by a filter service that did not know of us. If not, what such a
// service has under way is refused from now on.
//
// A lane of a partition that was added meanwhile is one of them, and is looked for first.
// One that a filter service begins with after that is matched with the seats that are
// announced now.
func (p *Presence) checkMissed(ctx context.Context) error {
	r := &p.reach
	if r.owed != nil {
		if err := p.cfg.Grow(ctx); err != nil {
			return err
		}
	}
	for i, next := range r.owed {
		if next == nil { // it has started since
			next = r.readers[i].Origin()
		}
		positions, err := r.readers[i].Require(ctx, p.told)
		if err != nil {
			return fmt.Errorf("look for what was missed: %w", err)
		}
		for _, at := range positions {
			if at.Next > position.Of(next, at.Partition) {
				r.owed = nil
				p.giveUp(r.owedTo)
				return p.announceAll(ctx)
			}
		}
	}
	r.owed = nil
	return nil
}

// giveUp gives up the seats up to one, because filter services may have stopped
// addressing them, or never begun to. The clients come back and resume from Kafka.
func (p *Presence) giveUp(upTo event.Seat) {
	p.log.Error("filter services may not have known of this gateway for a while; closing connections")
	p.seats.giveUp(upTo)
	p.cfg.GiveUp(upTo)
}
