package presence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"eventstream/event"
	"eventstream/lane"
)

// ErrSeatLost reports that the gateway gave up its seats while a client joined.
var ErrSeatLost = errors.New("the gateway was cut off from the store while the client joined")

// queue is those who wait until their seat is announced.
type queue struct {
	kick chan struct{} // somebody is waiting; capacity 1

	mu      sync.Mutex
	waiting []request
}

type request struct {
	ctx context.Context // of the one who waits
	lane.Seated
	done chan<- answer // has room for it
}

// answer tells where in the control stream a seat was announced.
type answer struct {
	at  lane.ControlID
	err error
}

func (q *queue) add(r request) {
	q.mu.Lock()
	q.waiting = append(q.waiting, r)
	q.mu.Unlock()
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

// take empties the queue.
func (q *queue) take() []request {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := q.waiting
	q.waiting = nil
	return waiting
}

// refuse answers all who are waiting with err.
func (q *queue) refuse(err error) {
	for _, r := range q.take() {
		r.done <- answer{err: err}
	}
}

// Announce makes the seat known to the filter services and returns where in the control
// stream: every event produced from then on is matched for it.
func (p *Presence) Announce(ctx context.Context, s lane.Seated) (lane.ControlID, error) {
	done := make(chan answer, 1)
	p.queue.add(request{ctx, s, done})
	select {
	case a := <-done:
		return a.at, a.err
	case <-ctx.Done():
		return lane.ControlID{}, ctx.Err()
	}
}

const announceSize = 1000 // seats at a time

// welcome announces those who are waiting, unless there is an error already. A seat that
// was given up meanwhile is not announced again: it may be one that older cursors name,
// and the hash would say that they can be resumed.
func (p *Presence) welcome(ctx context.Context, err error) error {
	waiting := slices.DeleteFunc(p.queue.take(), func(r request) bool {
		_, ok := p.seats.occupant(r.Seat)
		if !ok {
			r.done <- answer{err: ErrSeatLost}
		}
		return !ok || r.ctx.Err() != nil
	})
	for batch := range slices.Chunk(waiting, announceSize) {
		seats := make([]lane.Seated, len(batch))
		for i, r := range batch {
			seats[i] = r.Seated
		}
		var at lane.ControlID
		if err == nil {
			at, err = p.say(ctx, lane.Announcement{Joined: seats})
		}
		if err == nil {
			err = p.cfg.Grow(ctx)
		}
		for _, r := range batch {
			r.done <- answer{at, err}
		}
	}
	return err
}

// say makes one announcement. After a failure it is unknown whether the store has it: the
// next one, or the next heartbeat, will tell.
func (p *Presence) say(ctx context.Context, a lane.Announcement) (lane.ControlID, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	p.seq++
	a.Gateway, a.Seq, a.TTL = p.cfg.Gateway, p.seq, p.cfg.ResumeWindow
	at, err := p.store.Announce(ctx, a)
	if errors.Is(err, lane.ErrForgotten) {
		p.forgotten, err = true, nil
	}
	if err != nil {
		return at, fmt.Errorf("announce: %w", err)
	}
	p.confirmed = p.seq
	return at, nil
}

// announceAll announces every seat that can be resumed from.
func (p *Presence) announceAll(ctx context.Context) error {
	all := p.seats.all()
	p.log.Info("announcing all seats", "seats", len(all))
	at, err := p.say(ctx, lane.Announcement{All: true, Joined: all})
	if err != nil {
		return err
	}
	p.told, p.forgotten = at, false
	p.vacate(len(p.vacating)) // the hash holds nothing else now
	return nil
}

// ForgetMargin is how long after a seat can't be resumed from any more events go on being
// addressed to it, for connections that just did. With a short resume window it is twice
// that.
const ForgetMargin = time.Minute

// retire ends the seats whose resume window is over: first they can't be resumed from,
// and a while later nothing is addressed to them any more.
func (p *Presence) retire(ctx context.Context) error {
	p.vacating = append(p.vacating, p.seats.expire(time.Now().Add(-p.cfg.ResumeWindow))...)
	n, err := p.sayOf(ctx, p.vacating[:share(len(p.vacating))], func(some []event.Seat) lane.Announcement { return lane.Announcement{Vacated: some} })
	p.vacate(n)
	if err != nil {
		return err
	}
	due, _ := slices.BinarySearchFunc(p.vacated, time.Now().Add(-min(ForgetMargin, 2*p.cfg.ResumeWindow)), func(e ended, t time.Time) int { return e.at.Compare(t) })
	n, err = p.sayOf(ctx, seatsOf(p.vacated[:share(due)]), func(some []event.Seat) lane.Announcement { return lane.Announcement{Forgot: some} })
	p.vacated = slices.Delete(p.vacated, 0, n)
	return err
}

// vacate notes that the hash does not hold the first n of the vacating seats any more.
func (p *Presence) vacate(n int) {
	now := time.Now()
	for _, seat := range p.vacating[:n] {
		p.vacated = append(p.vacated, ended{seat, now})
	}
	p.vacating = slices.Delete(p.vacating, 0, n)
}

// sayOf announces something of seats, and returns of how many it has done so. The caller
// cuts its list only then: to cut a list of a million after each thousand takes longer
// than to announce them.
func (p *Presence) sayOf(ctx context.Context, seats []event.Seat, what func([]event.Seat) lane.Announcement) (done int, err error) {
	for some := range slices.Chunk(seats, announceSize) {
		if _, err := p.say(ctx, what(some)); err != nil {
			return done, err
		}
		done += len(some)
	}
	return done, nil
}

// retireSize is how many of the seats that are due are dealt with at a time, or a tenth
// of them if they are more: after an outage it may be all at once, and the store and the
// filter services have other things to do.
const retireSize = 5 * announceSize

func share(due int) int { return min(due, max(retireSize, due/10)) }

func seatsOf(list []ended) []event.Seat {
	seats := make([]event.Seat, len(list))
	for i, e := range list {
		seats[i] = e.seat
	}
	return seats
}
