// Package acks keeps what clients acknowledge: it saves the newest of each subscriber a few
// times a second, some hundred at a time.
//
// While the database is down they wait, whether their clients stay or not, up to a number
// of bytes. Past that clients are told that there is no room.
package acks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/gateway/admission"
	"eventstream/gateway/position"
	"eventstream/gateway/uptime"
	"eventstream/internal/ops"
	"eventstream/internal/trouble"
	"eventstream/wire"
)

// Store keeps how far subscribers have acknowledged their events.
type Store interface {
	// SaveAcks merges: no position goes back.
	SaveAcks(ctx context.Context, acks []event.Ack) error
	// Acked fails with filter.ErrNotFound if there is none.
	Acked(ctx context.Context, subscriber string) (event.Ack, error)
}

// Client is a connection that acknowledges events. It is comparable.
type Client interface {
	Subscriber() string
	Positions() []int64 // up to where its lanes have been read
	Answer(text []byte) // sends it a message
}

var (
	// ErrStore reports that acknowledgements can't be read or saved now.
	ErrStore = errors.New("acknowledgements can't be reached")
	// ErrBad reports one from which nobody can go on.
	ErrBad = errors.New("the acknowledgement is of events that do not exist yet")
	// ErrFull reports that too many acknowledgements wait.
	ErrFull = errors.New("the database can't keep acknowledgements now, and too many wait for it; acknowledge again later")
)

// Config is what an Acks needs.
type Config struct {
	Timeout  time.Duration // of a call to the store
	MaxBytes int           // of acknowledgements that wait; 64 MiB if zero

	Topic func() event.TopicID                           // that is served
	Check func(c *event.Cursor, subscriber string) error // refuses a cursor further than any gateway can have come

	Saved    prometheus.Counter // acknowledgements
	Failures prometheus.Counter // of the store
	Refused  prometheus.Counter // acknowledgements for which there was no room
}

// Acks collects acknowledgements and saves them.
type Acks struct {
	cfg   Config
	store Store // nil if there is none
	log   *slog.Logger

	mu    sync.Mutex
	fresh map[Client]acked    // not looked at yet, or of events that we have not read yet
	due   map[string]*unsaved // by subscriber; entries come and go in Run only
	bytes int                 // of both
	full  bool                // a client was refused since there was room
	kick  chan struct{}       // something waits; capacity 1

	failed atomic.Pointer[error] // why the last save did not work; nil if it did

	saidFull bool // what the log was told; of Run
}

// acked is one client's acknowledgement.
type acked struct {
	cursor *event.Cursor
	asked  Asked
	tries  int  // for which it was ahead of what we have read
	gone   bool // the client, which needs no answer
}

// Asked is what a client's acknowledgement says, for the answer.
type Asked struct {
	Cursor string
	Seen   string // since the cursor; "" if it does not say
}

// unsaved is the acknowledgement of a subscriber, and who is to hear that it is saved.
type unsaved struct {
	ack   event.Ack
	of    int // clients' acknowledgements in it
	asked map[Client]Asked
}

const (
	saveEvery = 200 * time.Millisecond
	saveAgain = time.Second // after a failure
	maxAhead  = 25          // tries: another gateway, that gave the cursor, may be ahead for a moment

	maxBytes    = 64 << 20
	ackBytes    = 1 << 10 // of one that waits, beside its positions
	ackPosition = 40      // of a position, with its part of the texts
	saveAcks    = 1000    // in one statement
	saveBytes   = 1 << 20 // and this at most, if there are several
)

// size is about what an acknowledgement takes up.
func size(subscriber string, c *event.Cursor) int {
	return ackBytes + len(subscriber) + ackPosition*len(c.Next)
}

// New returns an Acks without a store if that is nil: then nothing can be acknowledged. It
// does no I/O: Run does.
func New(store Store, cfg Config, log *slog.Logger) *Acks {
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, maxBytes)
	return &Acks{cfg: cfg, store: store, log: log, fresh: make(map[Client]acked), due: make(map[string]*unsaved), kick: make(chan struct{}, 1)}
}

// Lock returns the lock of all that waits, to be watched.
func (a *Acks) Lock() sync.Locker { return &a.mu }

// Take notes a client's acknowledgement. It does not block.
func (a *Acks) Take(c Client, want Asked) error {
	if a.store == nil {
		return errors.New("this gateway has no database to keep acknowledgements in")
	}
	cursor, err := admission.ParseCursor(want.Cursor)
	if err == nil {
		err = a.cfg.Check(cursor, c.Subscriber())
	}
	if err != nil {
		return fmt.Errorf("%w; acknowledge one that the gateway sent, unchanged", err)
	}
	if cursor.Topic != a.cfg.Topic() {
		return errors.New("the cursor is of another topic")
	}
	if want.Seen != "" {
		if _, cursor, err = admission.Saw(cursor, want.Seen); err != nil {
			return fmt.Errorf("seen: %w", err)
		}
	}
	if !a.add(c, acked{cursor: cursor, asked: want}) {
		a.cfg.Refused.Inc()
		return ErrFull
	}
	a.wake()
	return nil
}

// add notes an acknowledgement in place of an earlier one of the client, if there is room.
func (a *Acks) add(c Client, t acked) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	bytes := a.bytes + size(c.Subscriber(), t.cursor)
	if old, again := a.fresh[c]; again {
		bytes -= size(c.Subscriber(), old.cursor)
	}
	if bytes > a.cfg.MaxBytes {
		a.full = true
		return false
	}
	a.fresh[c], a.bytes = t, bytes
	return true
}

func (a *Acks) wake() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// Gone says that a client has ended. What it acknowledged is saved all the same.
func (a *Acks) Gone(c Client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t, ok := a.fresh[c]; ok {
		t.gone = true
		a.fresh[c] = t
	}
	if u := a.due[c.Subscriber()]; u != nil {
		delete(u.asked, c)
	}
}

// Waiting is how many acknowledgements are to be saved.
func (a *Acks) Waiting() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int64(len(a.fresh) + len(a.due))
}

// Run saves until ctx ends, and then once more.
func (a *Acks) Run(ctx context.Context) error {
	saving := trouble.New(a.log, "acknowledgements can't be saved; retrying", "acknowledgements can be saved again")
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
			a.cfg.Failures.Inc()
			saving.Failed(err, "every", saveAgain)
			wait = saveAgain
			a.wake()
		}
		a.tellRoom()
		uptime.Sleep(ctx, wait)
	}
}

// Ready returns why acknowledgements wait, or nil. Events go on all the same.
func (a *Acks) Ready() error {
	err := a.failed.Load()
	if err == nil {
		return nil
	}
	return ops.Degraded(fmt.Errorf("%d acknowledgements can't be saved: %w", a.Waiting(), *err))
}

// tellRoom logs whether there was no room.
func (a *Acks) tellRoom() {
	a.mu.Lock()
	full, bytes := a.full, a.bytes
	if bytes < a.cfg.MaxBytes/2 {
		a.full = false
	}
	a.mu.Unlock()
	switch {
	case full && !a.saidFull:
		a.log.Error("too many acknowledgements wait for the database; clients are told to acknowledge again later", "bytes", bytes)
	case !full && a.saidFull:
		a.log.Info("there is room for acknowledgements again")
	}
	a.saidFull = full
}

// save writes what waits, some at a time, and tells the clients. What was not written
// when it fails stays.
func (a *Acks) save(ctx context.Context) error {
	a.look()
	for {
		list := a.some()
		if len(list) == 0 {
			return nil
		}
		if err := a.write(ctx, list); err != nil {
			return err
		}
		a.saved(list)
	}
}

func (a *Acks) write(ctx context.Context, list []event.Ack) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	return a.store.SaveAcks(ctx, list)
}

// look makes what is fresh due, unless it is ahead of what we have read: that is left
// for later.
func (a *Acks) look() {
	for _, c := range a.sort(time.Now()) {
		c.Answer(wire.AppendError(nil, "bad_ack", "the acknowledgement is of events that were not sent yet"))
	}
}

// sort does so, and returns whose acknowledgements were ahead for too long.
func (a *Acks) sort(now time.Time) (refused []Client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c, t := range a.fresh {
		at := c.Positions()
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
		a.bytes -= size(c.Subscriber(), t.cursor)
	}
	if len(a.fresh) > 0 {
		a.wake()
	}
	return refused
}

// merge adds a client's acknowledgement to what is due of its subscriber. mu is held.
func (a *Acks) merge(c Client, t acked, now time.Time) {
	ack := event.Ack{Subscriber: c.Subscriber(), Cursor: *t.cursor, At: now}
	u := a.due[c.Subscriber()]
	if u == nil {
		u = &unsaved{ack: ack, asked: make(map[Client]Asked)}
		a.due[c.Subscriber()] = u
	} else {
		a.bytes -= size(c.Subscriber(), &u.ack.Cursor)
		u.ack = u.ack.Merge(ack)
	}
	a.bytes += size(c.Subscriber(), &u.ack.Cursor)
	if u.of++; !t.gone {
		u.asked[c] = t.asked
	}
}

// some returns acknowledgements that are due, for one statement.
func (a *Acks) some() (list []event.Ack) {
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
func (a *Acks) saved(list []event.Ack) {
	for _, ack := range list {
		a.mu.Lock()
		u := a.due[ack.Subscriber]
		delete(a.due, ack.Subscriber)
		a.bytes -= size(ack.Subscriber, &u.ack.Cursor)
		a.mu.Unlock()
		a.cfg.Saved.Add(float64(u.of))
		for c, want := range u.asked { // gone can't find it any more
			c.Answer(wire.AppendAcked(nil, want.Cursor, want.Seen))
		}
	}
}

// Last returns what a durable subscriber acknowledged last, or nil.
func (a *Acks) Last(ctx context.Context, subscriber string) (*event.Cursor, error) {
	ack, err := a.store.Acked(ctx, subscriber)
	if errors.Is(err, filter.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, err)
	}
	if err := a.cfg.Check(&ack.Cursor, subscriber); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	return &ack.Cursor, nil
}

// Begin saves where a durable subscriber begins that has not acknowledged anything yet. If
// it never gets to send an acknowledgement, it would lose what comes before its first one.
func (a *Acks) Begin(ctx context.Context, subscriber string, from event.Cursor) error {
	if err := a.store.SaveAcks(ctx, []event.Ack{{Subscriber: subscriber, Cursor: from, At: time.Now()}}); err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	return nil
}

// Bytes is about how much memory the acknowledgements that wait take.
func (a *Acks) Bytes() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bytes
}
