// Package presence hands out a gateway's seats, and keeps the filter services informed of
// them. It knows nothing of the connections in the seats.
//
// A seat stays announced for the resume window after its connection ended, so that events
// go on being addressed to it. What the store has is checked with every heartbeat. If the
// store lost writes, all seats are announced again. If events may have been matched by
// somebody who did not know of this gateway, the seats that this concerns are given up:
// their clients have to go away, and resume from Kafka.
package presence

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
	"eventstream/internal/trouble"
	"eventstream/internal/watchdog"
	"eventstream/lane"
)

// Store is what filter services learn of seats from: Redis, or memory.
type Store interface {
	Announce(ctx context.Context, a lane.Announcement) (lane.ControlID, error)
	Heartbeat(ctx context.Context, g event.Gateway, ttl time.Duration) (lane.Beat, error)
}

// Reader reads the lanes of one shard.
type Reader interface {
	Positions() []int64 // how far it is; nil if it does not read yet
	Origin() []int64    // where it started; nil if it has not
	BrokeAt() []int64   // where it was when reading first failed since the last call; nil if it did not
	// Require has the lanes refuse what is matched with less of the control stream, and
	// returns where they are.
	Require(ctx context.Context, synced lane.ControlID) ([]lane.Position, error)
}

// Config is what a Presence needs.
type Config struct {
	Gateway      event.Gateway
	ResumeWindow time.Duration // for how long after its end a connection's seat is kept
	Timeout      time.Duration // of a call to the store
	After        event.Seat    // the first seat that is given out is the next one

	Readers func() []Reader             // of all lanes; others when another topic is read
	Grow    func(context.Context) error // takes up partitions that were added to the topic
	GiveUp  func(upTo event.Seat)       // sends the clients in the seats up to one away

	Failures prometheus.Counter // calls to the store that failed
	Emptied  prometheus.Counter // times that the store was found emptied
}

// Presence is a gateway's seats. One goroutine does all the talking to the store, one
// announcement at a time: seats that come while one is under way share the next.
type Presence struct {
	cfg   Config
	store Store
	log   *slog.Logger
	pulse *watchdog.Part // of Run

	seats   seats
	queue   queue                 // of those who join
	doubt   chan struct{}         // somebody wants to know whether the store has lost us; capacity 1
	sureAt  atomic.Int64          // when the last heartbeat began that found it has not, or dealt with it, uptime
	trouble atomic.Pointer[error] // of the last talk with the store; nil if there was none

	// Only Run touches these.
	seq       uint64         // of the last announcement
	confirmed uint64         // of the last one that the store answered
	epoch     string         // of the store when everything was announced
	seen      string         // epoch of the store at the last heartbeat; "" if it had none
	forgotten bool           // the store had lost seats at the last announcement: the next heartbeat deals with it
	vacating  []event.Seat   // to be taken out of the hash
	vacated   []ended        // out of the hash since, but still addressed; by time
	told      lane.ControlID // where in the control stream all seats were announced last
	reach     reach
}

// New returns a Presence of which the watchdog watches what can be stuck. It does no I/O:
// Run does.
func New(store Store, cfg Config, dog *watchdog.Watchdog, log *slog.Logger) *Presence {
	p := &Presence{
		cfg: cfg, store: store, log: log, pulse: dog.Loop("the announcing of seats"),
		queue: queue{kick: make(chan struct{}, 1)}, doubt: make(chan struct{}, 1),
	}
	p.seats.init(cfg.After)
	dog.Lock("the lock of seats", &p.seats.mu)
	return p
}

// Reserve returns a seat for the subscriber. It has to be announced, or left.
func (p *Presence) Reserve(subscriber string) (event.Seat, error) { return p.seats.reserve(subscriber) }

// Left tells that the seat's connection ended.
func (p *Presence) Left(seat event.Seat, at time.Time) { p.seats.left(seat, at) }

// Occupant returns whose seat this is or was within the resume window.
func (p *Presence) Occupant(seat event.Seat) (subscriber string, ok bool) {
	return p.seats.occupant(seat)
}

// Seats returns how many seats can be resumed from, connected or not.
func (p *Presence) Seats() int { return p.seats.count() }

// Used is closed when so many seats were given out that the gateway has to end.
func (p *Presence) Used() <-chan struct{} { return p.seats.used }

// Trouble returns why the store could not be told of seats when it was last tried, or nil.
func (p *Presence) Trouble() error {
	if err := p.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// HeartbeatEvery is how often the store is shown that the gateway is alive, unless the
// resume window is short.
const HeartbeatEvery = time.Second

// Run talks to the store until ctx ends. The hash then outlives this gateway by
// the resume window.
func (p *Presence) Run(ctx context.Context) error {
	beat := time.NewTicker(min(HeartbeatEvery, p.cfg.ResumeWindow/4))
	defer beat.Stop()
	announcing := trouble.New(p.log, "announcing seats failed; retrying", "announcing seats works again")
	p.reach.begin(p.cfg.Readers())
	for {
		p.pulse.Beat()
		var err error
		select {
		case <-ctx.Done():
			p.queue.refuse(errors.New("gateway is stopping"))
			return nil
		case <-p.queue.kick:
			if p.reach.apart() > OutOfTouch {
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
		if ctx.Err() != nil {
			continue
		}
		if err != nil {
			p.cfg.Failures.Inc()
		}
		announcing.Saw(err)
		p.trouble.Store(nil)
		if err != nil {
			p.trouble.Store(&err)
		}
	}
}
