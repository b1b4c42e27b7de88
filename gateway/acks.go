package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"eventstream/event"
	"eventstream/filter"
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

// acks collects what clients acknowledge, and saves the newest of each a few times
// a second, for many at a time. So it holds one acknowledgement for each
// connection at most. While the database is down they wait.
type acks struct {
	gw    *Gateway
	store Acks // nil if there is none

	mu      sync.Mutex
	waiting map[*conn]acked
	kick    chan struct{} // something waits; capacity 1
}

// acked is one client's acknowledgement.
type acked struct {
	cursor *event.Cursor
	text   string
	tries  int // for which it was ahead of what we have read
}

const (
	saveEvery = 200 * time.Millisecond
	saveAgain = time.Second // after a failure
	maxAhead  = 25          // tries: another gateway, that gave the cursor, may be ahead for a moment
)

func newAcks(gw *Gateway, store Acks) *acks {
	return &acks{gw: gw, store: store, waiting: make(map[*conn]acked), kick: make(chan struct{}, 1)}
}

// take notes a client's acknowledgement. It does not block.
func (a *acks) take(c *conn, text string) error {
	if a.store == nil {
		return errors.New("this gateway has no database to keep acknowledgements in")
	}
	cursor, err := parseCursor(text)
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
	a.mu.Lock()
	a.waiting[c] = acked{cursor: cursor, text: text}
	a.mu.Unlock()
	select {
	case a.kick <- struct{}{}:
	default:
	}
	return nil
}

// run saves until ctx ends, and then once more.
func (a *acks) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			a.save(context.WithoutCancel(ctx))
			return nil
		case <-a.kick:
		}
		wait := saveEvery
		if err := a.save(ctx); err != nil && ctx.Err() == nil {
			a.gw.metrics.ackFailures.Inc()
			a.gw.log.Warn("saving acknowledgements failed; retrying", "in", saveAgain, "err", err)
			wait = saveAgain
		}
		sleep(ctx, wait)
	}
}

// save writes what waits, and tells the clients.
func (a *acks) save(ctx context.Context) error {
	a.mu.Lock()
	taken := a.waiting
	a.waiting = make(map[*conn]acked)
	a.mu.Unlock()
	a.putOff(taken)
	list := newest(taken)
	if len(list) == 0 {
		return nil
	}
	if err := a.gw.within(ctx, func(ctx context.Context) error { return a.store.SaveAcks(ctx, list) }); err != nil {
		a.putBack(taken)
		return err
	}
	a.gw.metrics.acks.Add(float64(len(taken)))
	for c, t := range taken {
		c.shard.post(post{conn: c, what: verbAcked, ask: ask{text: t.text}})
	}
	return nil
}

// putOff leaves those for later that are ahead of what we have read.
func (a *acks) putOff(taken map[*conn]acked) {
	ahead := make(map[*conn]acked)
	for c, t := range taken {
		if at := c.reader.positions(); len(t.cursor.Next) <= len(at) && below(at, t.cursor.Next) < 0 {
			continue
		}
		delete(taken, c)
		if t.tries++; t.tries > maxAhead {
			c.shard.post(post{conn: c, what: verbAcked, gap: "the cursor is of events that were not sent yet"})
			continue
		}
		ahead[c] = t
	}
	if len(ahead) > 0 {
		a.putBack(ahead)
	}
}

// newest returns one acknowledgement for each subscriber.
func newest(taken map[*conn]acked) []event.Ack {
	bySubscriber := make(map[string]event.Ack)
	now := time.Now()
	for c, t := range taken {
		ack := event.Ack{Subscriber: c.subscriber, Cursor: *t.cursor, At: now}
		if other, ok := bySubscriber[c.subscriber]; ok {
			ack = other.Merge(ack)
		}
		bySubscriber[c.subscriber] = ack
	}
	return slices.Collect(maps.Values(bySubscriber))
}

// putBack has acknowledgements saved later, unless newer ones came.
func (a *acks) putBack(taken map[*conn]acked) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c, t := range taken {
		if _, newer := a.waiting[c]; !newer {
			a.waiting[c] = t
		}
	}
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// acked tells a client that its acknowledgement is saved, or why not.
func (s *shard) acked(c *conn, p *post) {
	if c.state >= closing {
		return
	}
	if p.gap != "" {
		s.answer(c, wire.AppendError(nil, "bad_ack", p.gap))
		return
	}
	s.answer(c, wire.AppendAcked(nil, p.ask.text))
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
	case e.ask.cursor != nil && e.ask.cursor.Topic == topic:
		from = *e.ask.cursor
	case e.from != nil:
		from.Addr, from.Next = event.Address{}, e.from
	}
	if err := a.store.SaveAcks(ctx, []event.Ack{{Subscriber: e.conn.subscriber, Cursor: from, At: time.Now()}}); err != nil {
		return fmt.Errorf("%w: %w", errAcks, err)
	}
	return nil
}
