// Package producer writes events to the topic: synthetic ones from a Generator, or
// those that a Reader reads from a file or a pipe.
//
// Each event taken from the source is counted: acknowledged by the broker, or failed.
package producer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Event is one event on its way to Kafka. The receiver owns it.
type Event struct {
	Key   []byte // the user, whose events stay in order; nil if there is none
	Value []byte // a JSON object
}

// Source returns events, then io.EOF; a *LineError for something that is no event,
// after which it continues.
type Source interface {
	Next() (Event, error)
}

// Sink accepts events; topic.Producer is one. Produce blocks while its buffer is full,
// and calls done exactly once.
type Sink interface {
	Produce(ctx context.Context, key, value []byte, headers []kgo.RecordHeader, done func(*kgo.Record, error))
	Flush(ctx context.Context) error
}

// Config configures how much is produced, and how fast. The zero value produces all of
// the source as fast as possible.
type Config struct {
	Rate     float64       // events a second; as fast as possible if zero
	Count    int64         // stop after so many; no limit if zero
	Duration time.Duration // stop after so long; no limit if zero
	Grace    time.Duration // how long to wait for acknowledgements at the end; 15s if zero
	Terminal io.Writer     // shows progress on one line; if nil, it is logged
}

// Report counts the results.
type Report struct {
	Read    int64 // taken from the source, including bad ones
	Bad     int64 // bad lines
	Sent    int64 // passed to the sink: Acked and Failed
	Acked   int64
	Failed  int64
	Elapsed time.Duration
	Errors  []error // the first few, of bad lines and failed events
}

// Rate returns acknowledged events per second.
func (r Report) Rate() float64 {
	return float64(r.Acked) / max(r.Elapsed, time.Millisecond).Seconds()
}

// maxErrors is how many errors a Report keeps.
const maxErrors = 10

// ErrUnknown reports events without an acknowledgement in time. They count as failed,
// but may have been written.
var ErrUnknown = errors.New("not acknowledged in time")

// Run produces until the source ends, a limit of cfg is reached or ctx ends, none of
// which is an error, and waits for the sink's results. It fails if the source does.
//
// A source that blocks in a read may be left reading when ctx ends.
func Run(ctx context.Context, cfg Config, src Source, sink Sink, log *slog.Logger) (Report, error) {
	r := &run{cfg: cfg, sink: sink, log: log, began: time.Now()}
	r.cfg.Grace = cmp.Or(cfg.Grace, 15*time.Second)
	stopProgress := r.startProgress()
	// Events in the sink are not cancelled when ctx ends, only when the grace period
	// after that is over.
	writing, withdraw := context.WithCancel(context.WithoutCancel(ctx))
	defer withdraw()
	err := r.produce(ctx, writing, withdraw, src)
	r.flush()
	stopProgress()
	return r.report(), err
}

type run struct {
	cfg   Config
	sink  Sink
	log   *slog.Logger
	began time.Time

	read, bad, sent, acked, failed atomic.Int64

	mu     sync.Mutex
	errors []error
}

// item is a result of the source.
type item struct {
	event Event
	err   error
}

// produce passes the events to the sink, each when it is due.
func (r *run) produce(ctx, writing context.Context, withdraw func(), src Source) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.cfg.Duration > 0 {
		ctx, cancel = context.WithTimeout(ctx, r.cfg.Duration)
		defer cancel()
	}
	// Produce may be blocked when ctx ends.
	defer context.AfterFunc(ctx, func() { time.AfterFunc(r.cfg.Grace, withdraw) })()

	next := onDemand(ctx, src)
	pace := newPacer(r.cfg.Rate)
	for n := int64(0); r.cfg.Count == 0 || n < r.cfg.Count; n++ {
		if !pace.wait(ctx) {
			return nil
		}
		ev, err := r.take(ctx, next)
		if err == io.EOF || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		r.sent.Add(1)
		r.sink.Produce(writing, ev.Key, ev.Value, nil, r.done)
	}
	return nil
}

// take returns the next event, and counts and logs bad lines.
func (r *run) take(ctx context.Context, next func() item) (Event, error) {
	for {
		it := next()
		if it.err == io.EOF || ctx.Err() != nil {
			return Event{}, it.err
		}
		r.read.Add(1)
		if bad, ok := errors.AsType[*LineError](it.err); ok {
			r.noteBad(bad)
			continue
		}
		if it.err != nil {
			return Event{}, fmt.Errorf("read events: %w", it.err)
		}
		return it.event, nil
	}
}

// onDemand returns a function that takes the next item from src. Synthetic events are
// generated when they are taken. It reads in a goroutine, since a read may block for
// ever: the end of ctx ends the wait.
func onDemand(ctx context.Context, src Source) func() item {
	asks, items := make(chan struct{}), make(chan item)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-asks:
			}
			ev, err := src.Next()
			select {
			case <-ctx.Done():
				return
			case items <- item{ev, err}:
			}
		}
	}()
	return func() item {
		select {
		case <-ctx.Done():
		case asks <- struct{}{}:
		}
		select {
		case <-ctx.Done():
			return item{err: ctx.Err()}
		case it := <-items:
			return it
		}
	}
}

// done is the sink's callback for each event.
func (r *run) done(_ *kgo.Record, err error) {
	if err == nil {
		r.acked.Add(1)
		return
	}
	r.keep(fmt.Errorf("produce: %w", err))
	r.failed.Add(1)
}

func (r *run) noteBad(err *LineError) {
	if n := r.bad.Add(1); n <= maxErrors {
		r.log.Warn("no event; going on with the next line", "line", err.Line, "err", err.Err)
	}
	r.keep(err)
}

func (r *run) keep(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.errors) < maxErrors {
		r.errors = append(r.errors, err)
	}
}

// flush waits for the results of all events, or the end of the grace period.
func (r *run) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.Grace)
	defer cancel()
	if err := r.sink.Flush(ctx); err != nil {
		r.keep(err)
	}
}

func (r *run) report() Report {
	rep := Report{
		Read: r.read.Load(), Bad: r.bad.Load(), Sent: r.sent.Load(),
		Acked: r.acked.Load(), Failed: r.failed.Load(), Elapsed: time.Since(r.began),
	}
	if unknown := rep.Sent - rep.Acked - rep.Failed; unknown > 0 {
		r.keep(fmt.Errorf("%d events: %w", unknown, ErrUnknown))
		rep.Failed += unknown
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rep.Errors = append(rep.Errors, r.errors...)
	return rep
}
