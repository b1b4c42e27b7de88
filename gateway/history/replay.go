package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"eventstream/event"
	"eventstream/gateway/uptime"
	"eventstream/replay"
	"eventstream/wire"
)

// Client gets what it missed.
type Client interface {
	// Send sends events, and returns when they have left, or ctx has ended, with its
	// error. The client then has everything below at.
	Send(ctx context.Context, events []*Event, at []int64) error
	// Lost tells that events are gone, between two positions of the client.
	Lost(reason string, m wire.Missing, before, after []int64)
}

// Replay is what one client missed: first what comes from Kafka, then what is in the lanes.
type Replay struct {
	Client     Client
	Subscriber string
	Topic      event.TopicID
	Lanes      *Lanes
	At         []int64         // everything below has been sent
	Stream     *Stream         // from Kafka, up to Until; nil if nothing is wanted of it
	Until      []int64         // of Stream
	Since      time.Time       // only records of this time or later come from Kafka, if set
	Seats      []event.Address // in the lanes: events that are addressed to one of these
	Spans      []Span          // to be sent from the lanes
}

// Player sends replays, several at a time.
type Player struct {
	kafka    *Kafka        // nil if nothing is replayed from Kafka
	patience time.Duration // with a store that fails
	playing  atomic.Int64
}

// NewPlayer returns a Player. Without a Kafka, what the lanes have lost is gone. With a
// store that fails a replay tries again for as long as patience.
func NewPlayer(k *Kafka, patience time.Duration) *Player {
	return &Player{kafka: k, patience: patience}
}

// Playing returns how many replays are under way.
func (p *Player) Playing() int64 { return p.playing.Load() }

// Play sends all of r, as fast as the client takes it. Each part can come with a cursor,
// so that a client which breaks off comes further with every attempt.
func (p *Player) Play(ctx context.Context, r *Replay) error {
	p.playing.Add(1)
	defer p.playing.Add(-1)
	if r.Stream != nil {
		if err := p.fromKafka(ctx, r, r.Until); err != nil {
			return fmt.Errorf("replay from Kafka: %w", err)
		}
	}
	for _, s := range r.Spans {
		for s.From < s.To {
			if err := p.fromLane(ctx, r, &s); err != nil {
				return err
			}
		}
	}
	return nil
}

// fromLane sends the next part of a span. What the lane has lost meanwhile is looked for
// in Kafka.
func (p *Player) fromLane(ctx context.Context, r *Replay, s *Span) error {
	part, err := p.take(ctx, r, *s)
	if err != nil {
		return fmt.Errorf("read lane %d: %w", s.Partition, err)
	}
	events, gone := part.Events, part.Lost.To > part.Lost.From
	s.From = part.Next
	if gone { // what came after it is read again
		s.From = part.Lost.From
		n := slices.IndexFunc(events, func(e *Event) bool { return e.ID.Offset >= part.Lost.From })
		if n >= 0 {
			events = events[:n]
		}
	}
	r.At[s.Partition] = s.From
	if err := r.Client.Send(ctx, events, slices.Clone(r.At)); err != nil || !gone {
		return err
	}
	s.From = part.Lost.To
	if p.kafka == nil {
		r.lost(wire.GapTrimmed, wire.Missing{Partition: s.Partition, From: part.Lost.From, To: part.Lost.To})
		r.At[s.Partition] = s.From
		return nil
	}
	to := slices.Clone(r.At)
	to[s.Partition] = s.From
	return p.fromKafka(ctx, r, to)
}

// lost tells the client which events are gone.
func (r *Replay) lost(reason string, m wire.Missing) {
	before := slices.Clone(r.At)
	if reason != wire.GapCompacted { // events of that range follow
		r.At[m.Partition] = max(r.At[m.Partition], m.To)
	}
	r.Client.Lost(reason, m, before, slices.Clone(r.At))
}

// A client gets what it missed in parts of about partBytes, or less when many replays are
// under way, so that all of them together hold about allPartBytes.
const (
	partBytes    = 256 << 10
	minPartBytes = 16 << 10
	allPartBytes = 256 << 20
)

func (p *Player) share() int {
	return min(max(allPartBytes/int(max(p.playing.Load(), 1)), minPartBytes), partBytes)
}

// take takes the next part of a span. If the store fails, as when it is starting, or is
// filled again after it lost writes, it tries again for a while.
func (p *Player) take(ctx context.Context, r *Replay, s Span) (part Part, err error) {
	began := time.Now()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		part, err = r.Lanes.Take(ctx, s.Partition, r.Seats, s.From, s.To, p.share())
		if err == nil || ctx.Err() != nil || !p.mayRetry(began, err) {
			return part, err
		}
		uptime.Sleep(ctx, wait)
	}
}

// mayRetry reports whether something that began then, and failed, is tried again.
func (p *Player) mayRetry(began time.Time, err error) bool {
	return time.Since(began) <= p.patience && !errors.Is(err, replay.ErrRequest)
}
