package history

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"eventstream/event"
	"eventstream/gateway/uptime"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/wire"
)

// Replayer asks a filter service for events that Kafka still holds: a replay.Client.
type Replayer interface {
	Open(ctx context.Context, r replay.Request) (*replay.Stream, error)
}

// Kafka gives what the lanes don't hold any more, or hold for a seat that nobody knows
// any more: a filter service finds the events that match the subscriber's filters as they
// are now. The number of streams that are open is bounded.
type Kafka struct {
	replayer Replayer
	open     atomic.Int64 // streams
}

// NewKafka returns a Kafka without open streams.
func NewKafka(r Replayer) *Kafka { return &Kafka{replayer: r} }

// maxStreams bounds the open streams: each has a socket of its own to a filter service.
const maxStreams = 1000

// Stream is a replay.Stream that counts towards maxStreams until it is closed, or its
// context ends.
type Stream struct {
	*replay.Stream
	end context.CancelFunc
}

// Close ends the stream.
func (s *Stream) Close() {
	s.Stream.Close()
	s.end()
}

// Open opens a stream of what r asks for. It ends with ctx.
func (k *Kafka) Open(ctx context.Context, r replay.Request) (*Stream, error) {
	if k.open.Add(1) > maxStreams {
		k.open.Add(-1)
		return nil, replay.Busy(time.Second, fmt.Errorf("this gateway has its limit of %d replays", maxStreams))
	}
	ctx, end := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { k.open.Add(-1) })
	s, err := k.replayer.Open(ctx, r)
	if err != nil {
		end()
		return nil, err
	}
	return &Stream{s, end}, nil
}

// Wanted returns r without the partitions of which nothing is wanted. A filter service
// refuses positions that Kafka does not have, and it need not look at these.
func Wanted(r replay.Request) replay.Request {
	r.From, r.To = slices.Clone(r.From), slices.Clone(r.To)
	for p := range min(len(r.From), len(r.To)) {
		if r.From[p] >= r.To[p] {
			r.From[p], r.To[p] = 0, 0
		}
	}
	return r
}

// Missing returns what a client is told of events that are lost.
func Missing(l *replay.Lost) wire.Missing {
	return wire.Missing{Partition: l.Partition, From: l.From, To: l.To}
}

// fromKafka sends what Kafka holds from r.At up to the given positions. The stream may be
// open already. One that breaks off is opened again, for as long as it gets somewhere.
func (p *Player) fromKafka(ctx context.Context, r *Replay, to []int64) error {
	began := time.Now()
	for {
		err := p.openAgain(ctx, r, to)
		if err == nil {
			before := slices.Clone(r.At)
			err = r.relay(ctx)
			r.Stream.Close()
			r.Stream = nil
			if !slices.Equal(before, r.At) {
				began = time.Now()
			}
		}
		if err == nil || ctx.Err() != nil || !p.mayRetry(began, err) {
			return err
		}
		uptime.Sleep(ctx, time.Second)
	}
}

func (p *Player) openAgain(ctx context.Context, r *Replay, to []int64) (err error) {
	if r.Stream != nil {
		return nil
	}
	r.Stream, err = p.kafka.Open(ctx, Wanted(replay.Request{Subscriber: r.Subscriber, Topic: r.Topic, From: r.At, Since: r.Since, To: to}))
	if err != nil {
		return err
	}
	for _, l := range r.Stream.Lost() {
		if int(l.Partition) < len(to) {
			r.lost(l.Reason, Missing(&l))
		}
	}
	return nil
}

// relay hands a stream on to the client, as fast as it takes it.
func (r *Replay) relay(ctx context.Context) error {
	for {
		b, err := r.Stream.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if int(b.Partition) >= len(r.At) {
			continue // nothing was asked for of it
		}
		events, err := unpack(b)
		if err != nil {
			return err
		}
		if b.Lost != nil {
			r.lost(b.Lost.Reason, Missing(b.Lost))
		}
		r.At[b.Partition] = max(r.At[b.Partition], b.Next)
		if len(events) == 0 {
			continue
		}
		if err := r.Client.Send(ctx, events, slices.Clone(r.At)); err != nil {
			return err
		}
	}
}

func unpack(b replay.Batch) (events []*Event, err error) {
	if len(b.Entry) == 0 {
		return nil, nil
	}
	var u lane.Unpacker
	for u.Open(b.Entry); u.Next(); {
		events = append(events, NewEvent(event.ID{Partition: b.Partition, Offset: u.Offset}, &u))
	}
	return events, u.Err()
}
