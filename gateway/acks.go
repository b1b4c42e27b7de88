package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/gateway/admission"
	"eventstream/gateway/position"
	"eventstream/gateway/uptime"
	"eventstream/internal/ops"
	"eventstream/internal/trouble"
	"eventstream/wire"
)

// Acks keeps how far subscribers have acknowledged their events.
type Acks interface {
	// SaveAcks merges: no position goes back.
	SaveAcks(ctx context.Context, acks []event.Ack) error
	// Acked fails with filter.ErrNotFound if there is none.
	Acked(ctx context.Context, subscriber string) (event.Ack, error)
}

var (
	// errAcks reports that acknowledgements can't be read or saved now.
	errAcks = errors.New("acknowledgements can't be reached")
	// errBadAck reports one from which nobody can go on.
	errBadAck = errors.New("the acknowledgement is of events that do not exist yet")
)

// acks collects what clients acknowledge, and saves the newest of each subscriber a few
// times a second, some hundred at a time. While the database is down they wait, whether
// their clients stay or not, up to maxAckBytes: then clients are told that there is no room.
type acks struct {
	gw    *Gateway
	store Acks // nil if there is none

	mu    sync.Mutex
	fresh map[*conn]acked     // not looked at yet, or of events that we have not read yet
	due   map[string]*unsaved // by subscriber; entries come and go in run only
	bytes int                 // of both
	full  bool                // somebody was refused since there was room
	kick  chan struct{}       // something waits; capacity 1

	failed atomic.Pointer[error] // why the last save did not work; nil if it did

	saidFull bool // what the log was told; of run
}

// acked is one client's acknowledgement.
type acked struct {
	cursor *event.Cursor
	asked  asked
	tries  int  // for which it was ahead of what we have read
	gone   bool // the client, which needs no answer
}

// asked is what a client's acknowledgement says, for the answer.
type asked struct {
	cursor string
	seen   string // since the cursor; "" if it does not say
}

// unsaved is the acknowledgement of a subscriber, and who is to hear that it is saved.
type unsaved struct {
	ack   event.Ack
	of    int // clients' acknowledgements in it
	asked map[*conn]asked
}

const (
	saveEvery = 200 * time.Millisecond
	saveAgain = time.Second // after a failure
	maxAhead  = 25          // tries: another gateway, that gave the cursor, may be ahead for a moment

	maxAckBytes = 64 << 20
	ackBytes    = 1 << 10 // of one that waits, beside its positions
	ackPosition = 40      // of a position, with its part of the texts
	saveAcks    = 1000    // in one statement
	saveBytes   = 1 << 20 // and this at most, if there are several
)

// errAcksFull reports that too many acknowledgements wait.
var errAcksFull = errors.New("the database can't keep acknowledgements now, and too many wait for it; acknowledge again later")

// size is about what an acknowledgement takes up.
func size(subscriber string, c *event.Cursor) int {
	return ackBytes + len(subscriber) + ackPosition*len(c.Next)
}

func newAcks(gw *Gateway, store Acks) *acks {
	return &acks{gw: gw, store: store, fresh: make(map[*conn]acked), due: make(map[string]*unsaved), kick: make(chan struct{}, 1)}
}

// take notes a client's acknowledgement. It does not block.
func (a *acks) take(c *conn, want asked) error {
	if a.store == nil {
		return errors.New("this gateway has no database to keep acknowledgements in")
	}
	cursor, err := admission.ParseCursor(want.cursor)
	if err == nil {
		err = a.gw.checkReach(cursor, c.subscriber)
	}
	if err != nil {
		return fmt.Errorf("%w; acknowledge one that the gateway sent, unchanged", err)
	}
	topic := a.gw.topic.Load()
	if cursor.Topic != topic.ID {
		return errors.New("the cursor is of another topic")
	}
	if want.seen != "" {
		if _, cursor, err = admission.Saw(cursor, want.seen); err != nil {
			return fmt.Errorf("seen: %w", err)
		}
	}
	if !a.add(c, acked{cursor: cursor, asked: want}) {
		a.gw.metrics.acksRefused.Inc()
		return errAcksFull
	}
	a.wake()
	return nil
}

// add notes an acknowledgement in place of an earlier one of the client, if there is room.
func (a *acks) add(c *conn, t acked) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	bytes := a.bytes + size(c.subscriber, t.cursor)
	if old, again := a.fresh[c]; again {
		bytes -= size(c.subscriber, old.cursor)
	}
	if bytes > maxAckBytes {
		a.full = true
		return false
	}
	a.fresh[c], a.bytes = t, bytes
	return true
}

func (a *acks) wake() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// gone says that a client has ended. What it acknowledged is saved all the same.
func (a *acks) gone(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t, ok := a.fresh[c]; ok {
		t.gone = true
		a.fresh[c] = t
	}
	if u := a.due[c.subscriber]; u != nil {
		delete(u.asked, c)
	}
}

// waiting is how many acknowledgements are to be saved.
func (a *acks) waiting() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int64(len(a.fresh) + len(a.due))
}

// run saves until ctx ends, and then once more.
func (a *acks) run(ctx context.Context) error {
	saving := trouble.New(a.gw.log, "acknowledgements can't be saved; retrying", "acknowledgements can be saved again")
	for {
		select {
		case <-ctx.Done():
			a.save(context.WithoutCancel(ctx))
			return nil
		case <-a.kick:
		}
		wait := saveEvery
		if err := a.save(ctx); err == nil {
			a.failed.Store(nil)
			saving.Worked()
		} else if ctx.Err() == nil {
			a.failed.Store(&err)
			a.gw.metrics.ackFailures.Inc()
			saving.Failed(err, "every", saveAgain)
			wait = saveAgain
			a.wake()
		}
		a.tellRoom()
		uptime.Sleep(ctx, wait)
	}
}

// ready tells why acknowledgements wait, or nil. Events go on all the same.
func (a *acks) ready() error {
	err := a.failed.Load()
	if err == nil {
		return nil
	}
	return ops.Degraded(fmt.Errorf("%d acknowledgements can't be saved: %w", a.waiting(), *err))
}

// tellRoom logs whether there was no room.
func (a *acks) tellRoom() {
	a.mu.Lock()
	full, bytes := a.full, a.bytes
	if bytes < maxAckBytes/2 {
		a.full = false
	}
	a.mu.Unlock()
	switch {
	case full && !a.saidFull:
		a.gw.log.Error("too many acknowledgements wait for the database; clients are told to acknowledge again later", "bytes", bytes)
	case !full && a.saidFull:
		a.gw.log.Info("there is room for acknowledgements again")
	}
	a.saidFull = full
}

// save writes what waits, some at a time, and tells the clients. What was not written
// when it fails stays.
func (a *acks) save(ctx context.Context) error {
	a.look()
	for {
		list := a.some()
		if len(list) == 0 {
			return nil
		}
		if err := a.gw.within(ctx, func(ctx context.Context) error { return a.store.SaveAcks(ctx, list) }); err != nil {
			return err
		}
		a.saved(list)
	}
}

// look makes what is fresh due, unless it is ahead of what we have read: that is left
// for later.
func (a *acks) look() {
	for _, c := range a.sort(time.Now()) {
		c.worker.tell(answered{c, wire.AppendError(nil, "bad_ack", "the acknowledgement is of events that were not sent yet")})
	}
}

// sort does so, and returns whose acknowledgements were ahead for too long.
func (a *acks) sort(now time.Time) (refused []*conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c, t := range a.fresh {
		at := c.reader.Positions()
		switch ahead := len(t.cursor.Next) > len(at) || position.Below(at, t.cursor.Next) >= 0; {
		case !ahead:
			a.merge(c, t, now)
		case t.tries < maxAhead:
			t.tries++
			a.fresh[c] = t
			continue
		default:
			refused = append(refused, c)
		}
		delete(a.fresh, c)
		a.bytes -= size(c.subscriber, t.cursor)
	}
	if len(a.fresh) > 0 {
		a.wake()
	}
	return refused
}

// merge adds a client's acknowledgement to what is due of its subscriber. mu is held.
func (a *acks) merge(c *conn, t acked, now time.Time) {
	ack := event.Ack{Subscriber: c.subscriber, Cursor: *t.cursor, At: now}
	u := a.due[c.subscriber]
	if u == nil {
		u = &unsaved{ack: ack, asked: make(map[*conn]asked)}
		a.due[c.subscriber] = u
	} else {
		a.bytes -= size(c.subscriber, &u.ack.Cursor)
		u.ack = u.ack.Merge(ack)
	}
	a.bytes += size(c.subscriber, &u.ack.Cursor)
	if u.of++; !t.gone {
		u.asked[c] = t.asked
	}
}

// some returns acknowledgements that are due, for one statement.
func (a *acks) some() (list []event.Ack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	bytes := 0
	for _, u := range a.due {
		if bytes += size(u.ack.Subscriber, &u.ack.Cursor); len(list) > 0 && (bytes > saveBytes || len(list) == saveAcks) {
			break
		}
		list = append(list, u.ack)
	}
	return list
}

// saved takes away what is saved, and tells those who asked for it.
func (a *acks) saved(list []event.Ack) {
	for _, ack := range list {
		a.mu.Lock()
		u := a.due[ack.Subscriber]
		delete(a.due, ack.Subscriber)
		a.bytes -= size(ack.Subscriber, &u.ack.Cursor)
		a.mu.Unlock()
		a.gw.metrics.acks.Add(float64(u.of))
		for c, want := range u.asked { // gone can't find it any more
			c.worker.tell(answered{c, wire.AppendAcked(nil, want.cursor, want.seen)})
		}
	}
}

// last returns what a durable subscriber acknowledged last, or nil.
func (a *acks) last(ctx context.Context, subscriber string) (*event.Cursor, error) {
	ack, err := a.store.Acked(ctx, subscriber)
	if errors.Is(err, filter.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAcks, err)
	}
	if err := a.gw.checkReach(&ack.Cursor, subscriber); err != nil {
		return nil, fmt.Errorf("%w: %w", errBadAck, err)
	}
	return &ack.Cursor, nil
}

// first saves where a durable subscriber begins, which is at live unless it asked
// for what was before. Without this it would lose what comes before its first
// acknowledgement, if it never gets to send one.
func (a *acks) first(ctx context.Context, e *entrance, live []int64) error {
	topic := a.gw.topic.Load().ID
	from := event.Cursor{Topic: topic, Issued: time.Now(), Addr: event.Address{Gateway: a.gw.id, Seat: e.conn.seat}, Next: live}
	switch {
	case e.ask.Cursor != nil && e.ask.Cursor.Topic == topic:
		from = *e.ask.Cursor
	case e.from != nil:
		from.Addr, from.Next = event.Address{}, e.from
	}
	if err := a.store.SaveAcks(ctx, []event.Ack{{Subscriber: e.conn.subscriber, Cursor: from, At: time.Now()}}); err != nil {
		return fmt.Errorf("%w: %w", errAcks, err)
	}
	return nil
}
