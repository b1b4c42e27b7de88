package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"eventstream/event"
	"eventstream/lane"
)

// modelStore is a store that can go down, and come back with less than it had.
type modelStore struct {
	*lane.Memory
	mu      sync.Mutex
	up      time.Time // down before; gateways look at it, too
	outages int       // so far: nobody who talks to it overlooks one
	losses  []loss
	saved   *lane.Checkpoint
	savedAt time.Time
	slack   time.Duration // for how long in all hashes may have missed heartbeats, or lost them
}

// loss tells that what was written between two times is gone, and when the store
// was back.
type loss struct{ since, at, up time.Time }

func (s *modelStore) down() bool { return time.Now().Before(s.upAt()) }

func (s *modelStore) upAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up
}

func (s *modelStore) checkpoint() { s.saved, s.savedAt = s.Checkpoint(), time.Now() }

// rollback loses what was written since the last checkpoint.
func (s *modelStore) rollback(outage time.Duration) {
	s.Rollback(s.saved)
	s.slack += time.Since(s.savedAt)
	s.lose(s.savedAt, outage)
}

func (s *modelStore) wipe(outage time.Duration) {
	s.Wipe()
	s.saved = nil
	s.lose(time.Time{}, outage)
}

func (s *modelStore) lose(since time.Time, outage time.Duration) {
	s.outages++
	s.slack += outage
	s.mu.Lock()
	s.up = time.Now().Add(outage)
	s.mu.Unlock()
	s.losses = append(s.losses, loss{since, time.Now(), time.Now().Add(outage)})
}

// line is a gateway's connection to the store.
type line struct {
	store *modelStore

	mu    sync.Mutex
	whole time.Time // it is cut before
	dead  bool      // with its gateway
	hang  func()    // ends the Tail under way
}

var errLine = errors.New("the store can't be reached")

func (l *line) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead || l.store.down() || time.Now().Before(l.whole) {
		return errLine
	}
	return nil
}

// drop ends the Tail under way.
func (l *line) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hang != nil {
		l.hang()
	}
}

func (l *line) cut(d time.Duration) {
	l.mu.Lock()
	l.whole = time.Now().Add(d)
	l.mu.Unlock()
	l.drop()
}

func (l *line) die() {
	l.mu.Lock()
	l.dead = true
	l.mu.Unlock()
	l.drop()
}

func (l *line) Topic(ctx context.Context) (lane.Topic, error) {
	if err := l.err(); err != nil {
		return lane.Topic{}, err
	}
	return l.store.Topic(ctx)
}

func (l *line) Positions(ctx context.Context, sh lane.Shard, n int32) ([]lane.Position, error) {
	if err := l.err(); err != nil {
		return nil, err
	}
	return l.store.Positions(ctx, sh, n)
}

func (l *line) Require(ctx context.Context, sh lane.Shard, n int32, synced lane.ControlID) ([]lane.Position, error) {
	if err := l.err(); err != nil {
		return nil, err
	}
	return l.store.Require(ctx, sh, n, synced)
}

func (l *line) Tail(ctx context.Context, sh lane.Shard, from []int64, sink func(lane.Batch) error) error {
	if err := l.err(); err != nil {
		return err
	}
	tail, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	l.hang = cancel
	l.mu.Unlock()
	err := l.store.Tail(tail, sh, from, sink)
	if err == nil && ctx.Err() == nil {
		err = errLine
	}
	return err
}

func (l *line) Range(ctx context.Context, sh lane.Shard, p int32, from, to int64, sink func(lane.Entry) error) (int64, error) {
	if err := l.err(); err != nil {
		return 0, err
	}
	return l.store.Range(ctx, sh, p, from, to, sink)
}

func (l *line) Announce(ctx context.Context, a lane.Announcement) (lane.ControlID, error) {
	if err := l.err(); err != nil {
		return lane.ControlID{}, err
	}
	return l.store.Announce(ctx, a)
}

func (l *line) Heartbeat(ctx context.Context, g event.Gateway, ttl time.Duration) (lane.Beat, error) {
	if err := l.err(); err != nil {
		return lane.Beat{}, err
	}
	return l.store.Heartbeat(ctx, g, ttl)
}

func (l *line) Occupant(ctx context.Context, a event.Address) (string, bool, error) {
	if err := l.err(); err != nil {
		return "", false, err
	}
	return l.store.Occupant(ctx, a)
}

// FollowOrders has none: there is no API here.
func (l *line) FollowOrders(ctx context.Context, _ event.Gateway, _ func(lane.Order) lane.Answer) error {
	<-ctx.Done()
	return nil
}
