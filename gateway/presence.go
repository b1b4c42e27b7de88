package gateway

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"eventstream/event"
	"eventstream/gateway/position"
	"eventstream/gateway/uptime"
	"eventstream/internal/trouble"
	"eventstream/internal/watchdog"
	"eventstream/lane"
)

// presence hands out seats and keeps the filter services informed of them.
//
// One goroutine does all the talking, one announcement at a time: whoever comes
// while one is under way shares the next. A seat stays announced for the resume
// window after its connection ended, so that events go on being addressed to
// it. What the store has is checked with every heartbeat; if it lost writes,
// everything is announced again.
type presence struct {
	gw    *Gateway
	pulse *watchdog.Part // of run

	mu      sync.Mutex
	seated  map[event.Seat]string // all seats that can be resumed from, connected or not
	lastID  event.Seat
	joining []joinRequest
	ended   list.List                  // of ended: those without a connection, by time
	free    map[string][]*list.Element // of these, what the subscriber's next connections take, by time

	kick    chan struct{}         // somebody is joining; capacity 1
	doubt   chan struct{}         // somebody wants to know whether the store has lost us; capacity 1
	sureAt  atomic.Int64          // when the last look that found it has not, or dealt with it, began, uptime
	used    chan struct{}         // closed when mostSeats were given out
	usedUp  sync.Once             // that
	trouble atomic.Pointer[error] // of the last talk with the store; nil if there was none

	// Only run touches these.
	seq       uint64         // of the last announcement
	confirmed uint64         // of the last one that the store answered
	epoch     string         // of the store when everything was announced
	seen      string         // epoch of the store at the last heartbeat; "" if it had none
	forgotten bool           // the store had lost seats at the last announcement: the next heartbeat deals with it
	vacating  []event.Seat   // to be taken out of the hash
	vacated   []ended        // out of the hash since, but still addressed; by time
	beaten    time.Time      // last heartbeat that the store answered
	readers   []*reader      // of the lanes
	had       [][]int64      // positions of each of them then
	owed      [][]int64      // where each reader was before seats may have been missed; nil if that is settled
	owedTo    event.Seat     // the last seat that this concerns
	told      lane.ControlID // where in the control stream all seats were announced last
}

type joinRequest struct {
	ctx context.Context // of who waits
	lane.Seated
	done chan<- joined
}

// joined tells where in the control stream a seat was announced.
type joined struct {
	at  lane.ControlID
	err error
}

// ended is a seat, and when its connection ended or it was taken out of the hash.
type ended struct {
	seat event.Seat
	at   time.Time
}

const (
	heartbeatEvery = time.Second
	// forgetMargin is how long after a seat can't be resumed from any more
	// events go on being addressed to it, for those who just did. With a short
	// resume window it is twice that.
	forgetMargin = time.Minute
	announceSize = 1000 // seats at a time
)

func newPresence(gw *Gateway) *presence {
	return &presence{
		gw: gw, seated: make(map[event.Seat]string), free: make(map[string][]*list.Element),
		kick: make(chan struct{}, 1), doubt: make(chan struct{}, 1), used: make(chan struct{}),
	}
}

// reserve returns a seat for the subscriber. It has to be announced, or left.
//
// A seat that the subscriber left within the resume window is taken again: events
// have been addressed to it all the time, so that older cursors that name it are as
// good as before. However often a client connects, its subscriber has as many seats
// as it had connections at once, and so have its events recipients.
func (p *presence) reserve(subscriber string) (event.Seat, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free[subscriber]); n > 0 {
		e := p.free[subscriber][n-1]
		p.setFreeLocked(subscriber, p.free[subscriber][:n-1])
		return p.ended.Remove(e).(ended).seat, nil
	}
	if p.lastID >= mostSeats {
		p.usedUp.Do(func() { close(p.used) })
	}
	if p.lastID == math.MaxUint32 {
		return 0, errSeatsUsed
	}
	p.lastID++
	p.seated[p.lastID] = subscriber
	return p.lastID, nil
}

// mostSeats is how many seats a gateway gives out before it makes place for one with
// others. Those that are left are for who comes until then.
const mostSeats = math.MaxUint32 - 1<<20

var errSeatsUsed = errors.New("this gateway has given out all its seats, some four billion; one that starts has others")

// announce makes the seat known to the filter services and returns where in the
// control stream: every event produced from then on is matched for it.
func (p *presence) announce(ctx context.Context, s lane.Seated) (lane.ControlID, error) {
	done := make(chan joined, 1)
	p.mu.Lock()
	p.joining = append(p.joining, joinRequest{ctx, s, done})
	p.mu.Unlock()
	select {
	case p.kick <- struct{}{}:
	default:
	}
	select {
	case j := <-done:
		return j.at, j.err
	case <-ctx.Done():
		return lane.ControlID{}, ctx.Err()
	}
}

// left tells that the seat's connection ended.
func (p *presence) left(seat event.Seat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.ended.PushBack(ended{seat, time.Now()})
	if subscriber, ok := p.seated[seat]; ok {
		p.free[subscriber] = append(p.free[subscriber], e)
	}
}

func (p *presence) setFreeLocked(subscriber string, free []*list.Element) {
	if len(free) == 0 {
		delete(p.free, subscriber)
		return
	}
	p.free[subscriber] = free
}

// occupant returns whose seat this is or was within the resume window.
func (p *presence) occupant(seat event.Seat) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.seated[seat]
	return s, ok
}

// run talks to the store until ctx ends. The hash then outlives this gateway by
// the resume window.
func (p *presence) run(ctx context.Context) error {
	beat := time.NewTicker(min(heartbeatEvery, p.gw.cfg.ResumeWindow/4))
	defer beat.Stop()
	announcing := trouble.New(p.gw.log, "announcing seats failed; retrying", "announcing seats works again")
	p.beaten, p.readers = time.Now(), p.gw.laneReaders()
	p.had = p.positions()
	for {
		p.pulse.Beat()
		var err error
		select {
		case <-ctx.Done():
			p.refuse(errors.New("gateway is stopping"))
			return nil
		case <-p.kick:
			if time.Since(p.beaten) > outOfTouch {
				err = p.heartbeat(ctx) // first see what the store knows
			}
			err = p.welcome(ctx, err)
		case <-p.doubt:
			err = p.heartbeat(ctx)
		case <-beat.C:
			if err = p.heartbeat(ctx); err == nil {
				err = p.retire(ctx)
			}
		}
		if p.forgotten && err == nil {
			err = p.heartbeat(ctx)
		}
		if err != nil && ctx.Err() == nil {
			p.gw.metrics.redisFailures.Inc()
		}
		if ctx.Err() == nil {
			announcing.Saw(err)
		}
		p.trouble.Store(nil)
		if err != nil {
			p.trouble.Store(&err)
		}
	}
}

// unready tells clients why no seat can be announced, or "". The error names our servers:
// it is for operators.
func (p *presence) unready() string {
	if p.trouble.Load() != nil {
		return storeSilent
	}
	return ""
}

const storeSilent = "the store does not answer"

// welcome announces those who are waiting to join, unless there is an error already.
// A seat that restart gave up meanwhile is not announced again: it may be one that
// older cursors name, and the hash would say that they can be resumed.
func (p *presence) welcome(ctx context.Context, err error) error {
	p.mu.Lock()
	waiting := slices.DeleteFunc(p.joining, func(r joinRequest) bool {
		_, ok := p.seated[r.Seat]
		if !ok {
			r.done <- joined{err: errSeatLost}
		}
		return !ok || r.ctx.Err() != nil
	})
	p.joining = nil
	p.mu.Unlock()
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
			err = p.gw.look(ctx)
		}
		for _, r := range batch {
			r.done <- joined{at, err}
		}
	}
	return err
}

// refuse answers all who are waiting with err.
func (p *presence) refuse(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.joining {
		r.done <- joined{err: err}
	}
	p.joining = nil
}

// say makes one announcement. After a failure it is unknown whether the store
// has it: the next one, or the next heartbeat, will tell.
func (p *presence) say(ctx context.Context, a lane.Announcement) (lane.ControlID, error) {
	ctx, cancel := context.WithTimeout(ctx, p.gw.cfg.timeout)
	defer cancel()
	p.seq++
	a.Gateway, a.Seq, a.TTL = p.gw.id, p.seq, p.gw.cfg.ResumeWindow
	at, err := p.gw.lanes.Announce(ctx, a)
	if errors.Is(err, lane.ErrForgotten) {
		p.forgotten, err = true, nil
	}
	if err != nil {
		return at, fmt.Errorf("announce: %w", err)
	}
	p.confirmed = p.seq
	return at, nil
}

// heartbeat shows that this gateway is alive, and checks that the store has
// what was announced.
func (p *presence) heartbeat(ctx context.Context) error {
	began := time.Now()
	if err := p.beat(ctx, began); err != nil {
		return err
	}
	p.sureAt.Store(int64(uptime.Of(began)))
	return nil
}

// sure waits for a heartbeat that began after t: what is read of the lanes before
// that may have been matched by somebody who did not know of us, and no cursor may
// go past it.
func (p *presence) sure(ctx context.Context, t time.Time) {
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

func (p *presence) beat(ctx context.Context, began time.Time) error {
	ctx2, cancel := context.WithTimeout(ctx, p.gw.cfg.timeout)
	defer cancel()
	b, err := p.gw.lanes.Heartbeat(ctx2, p.gw.id, p.gw.cfg.ResumeWindow)
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	p.see(b.Epoch)
	if now := p.gw.laneReaders(); now[0] != p.readers[0] { // of another topic: who was here has left
		p.readers, p.owed = now, nil
		p.had = p.positions()
	}
	apart, had := time.Since(p.beaten), p.hadUntil()
	p.beaten = began // the store counts from then on at the earliest
	p.had = p.positions()
	if (p.forgotten || b.Seq < p.confirmed) && apart > outOfTouch && p.owed == nil {
		p.owed, p.owedTo = had, p.lastSeat()
	}
	if !p.forgotten && b.Seq == p.seq && b.Epoch == p.epoch {
		return p.checkMissed(ctx)
	}
	if apart > p.gw.cfg.ResumeWindow {
		p.restart(math.MaxUint32)
	}
	if err := p.announceAll(ctx); err != nil {
		return err
	}
	p.epoch = b.Epoch
	return p.checkMissed(ctx)
}

// see tells that the store was emptied. The epoch is made by a filter service, so that it
// may be missing for a while.
func (p *presence) see(epoch string) {
	if p.seen != "" && epoch != p.seen {
		p.gw.metrics.emptied.Inc()
		p.gw.log.Error("Redis was emptied, or another one took its place: seats are announced again, and clients that missed something resume from Kafka", "epoch", epoch, "before", p.seen)
	}
	p.seen = epoch
}

func (p *presence) lastSeat() event.Seat {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastID
}

// outOfTouch is how long a gateway may be without an answer of the store and
// still be sure to announce itself to a new one before events are matched: the
// filter services wait a little longer than that.
const outOfTouch = 2 * time.Second

// checkMissed follows when the store has lost announcements, to a wipe or a
// rollback, while it could not be reached. If a lane has gone on beyond where it
// was before, events may have been matched by somebody who did not know of us. If
// not, what such a one has under way is refused from now on.
//
// A lane of a partition that was added meanwhile is one of them, and is looked for
// first. One that a filter service begins with after that is matched with those who are
// announced now.
func (p *presence) checkMissed(ctx context.Context) error {
	if p.owed != nil {
		if err := p.gw.look(ctx); err != nil {
			return err
		}
	}
	for i, next := range p.owed {
		if next == nil { // it has started since
			next = p.readers[i].origin()
		}
		positions, err := p.gw.lanes.Require(ctx, p.readers[i].shard, p.readers[i].partitions(), p.told)
		if err != nil {
			return fmt.Errorf("look for what was missed: %w", err)
		}
		for _, at := range positions {
			if at.Next > position.Of(next, at.Partition) {
				p.owed = nil
				p.restart(p.owedTo)
				return p.announceAll(ctx)
			}
		}
	}
	p.owed = nil
	return nil
}

// hadUntil returns how far each reader was when the store was last sure to be the
// one that it was at the last heartbeat.
func (p *presence) hadUntil() [][]int64 {
	had := slices.Clone(p.had)
	for i, r := range p.readers {
		if broke := r.brokeAt(); broke != nil {
			had[i] = broke
		}
	}
	return had
}

// positions returns how far each reader is; nil for those that don't read yet.
func (p *presence) positions() [][]int64 {
	all := make([][]int64, len(p.readers))
	for i, r := range p.readers {
		all[i] = r.positions()
	}
	return all
}

// restart gives up the seats up to upTo, because filter services may have stopped
// addressing them, or never begun to. The clients come back and resume from Kafka.
func (p *presence) restart(upTo event.Seat) {
	p.gw.log.Error("filter services may not have known of this gateway for a while; closing connections")
	p.mu.Lock()
	given := func(seat event.Seat) bool { return seat <= upTo }
	maps.DeleteFunc(p.seated, func(seat event.Seat, _ string) bool { return given(seat) })
	for subscriber, free := range p.free {
		p.setFreeLocked(subscriber, slices.DeleteFunc(free, func(e *list.Element) bool { return given(e.Value.(ended).seat) }))
	}
	p.mu.Unlock()
	p.gw.closeUpTo(upTo, "the gateway was cut off; reconnect")
}

// announceAll announces every seat that can be resumed from.
func (p *presence) announceAll(ctx context.Context) error {
	p.mu.Lock()
	all := make([]lane.Seated, 0, len(p.seated))
	for seat, subscriber := range p.seated {
		all = append(all, lane.Seated{Seat: seat, Subscriber: subscriber})
	}
	p.mu.Unlock()
	slices.SortFunc(all, func(a, b lane.Seated) int { return cmp.Compare(a.Seat, b.Seat) })
	p.gw.log.Info("announcing all seats", "seats", len(all))
	at, err := p.say(ctx, lane.Announcement{All: true, Joined: all})
	if err != nil {
		return err
	}
	p.told, p.forgotten = at, false
	p.vacate(len(p.vacating)) // the hash holds nothing else now
	return nil
}

// vacate notes that the hash does not hold the first n of the vacating seats any more.
func (p *presence) vacate(n int) {
	now := time.Now()
	for _, seat := range p.vacating[:n] {
		p.vacated = append(p.vacated, ended{seat, now})
	}
	p.vacating = slices.Delete(p.vacating, 0, n)
}

// retire ends the seats whose resume window is over: first they can't be
// resumed from, and a while later nothing is addressed to them any more.
func (p *presence) retire(ctx context.Context) error {
	p.leave()
	n, err := p.sayOf(ctx, p.vacating[:p.share(len(p.vacating))], func(some []event.Seat) lane.Announcement { return lane.Announcement{Vacated: some} })
	p.vacate(n)
	if err != nil {
		return err
	}
	due, _ := slices.BinarySearchFunc(p.vacated, time.Now().Add(-min(forgetMargin, 2*p.gw.cfg.ResumeWindow)), func(e ended, t time.Time) int { return e.at.Compare(t) })
	n, err = p.sayOf(ctx, seatsOf(p.vacated[:p.share(due)]), func(some []event.Seat) lane.Announcement { return lane.Announcement{Forgot: some} })
	p.vacated = slices.Delete(p.vacated, 0, n)
	return err
}

// sayOf announces something of seats, and returns of how many it has done so. Lists
// of them are cut only then: to cut a million after each thousand takes longer than
// to announce them.
func (p *presence) sayOf(ctx context.Context, seats []event.Seat, what func([]event.Seat) lane.Announcement) (done int, err error) {
	for some := range slices.Chunk(seats, announceSize) {
		if _, err := p.say(ctx, what(some)); err != nil {
			return done, err
		}
		done += len(some)
	}
	return done, nil
}

// retireSize is how many of the seats that are due are dealt with at a time, or a
// tenth of them if they are more: after an outage it may be all at once, and the
// store and the filter services have other things to do.
const retireSize = 5 * announceSize

func (p *presence) share(due int) int { return min(due, max(retireSize, due/10)) }

// leave gives up the seats that have had no connection for the resume window.
func (p *presence) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := time.Now().Add(-p.gw.cfg.ResumeWindow)
	for e := p.ended.Front(); e != nil && e.Value.(ended).at.Before(before); e = p.ended.Front() {
		seat := p.ended.Remove(e).(ended).seat
		subscriber := p.seated[seat]
		if free := p.free[subscriber]; len(free) > 0 && free[0] == e {
			p.setFreeLocked(subscriber, free[1:])
		}
		delete(p.seated, seat)
		p.vacating = append(p.vacating, seat)
	}
}

func seatsOf(list []ended) []event.Seat {
	seats := make([]event.Seat, len(list))
	for i, e := range list {
		seats[i] = e.seat
	}
	return seats
}
