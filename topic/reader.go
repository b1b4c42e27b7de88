package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/internal/trouble"
)

// reader fetches the partitions that this member owns, with a client that is in
// no group: there the position of a partition is exactly what we set. (A group's
// client ties it to the commits, and ignores positions that are set before the
// commits are loaded.)
//
// Only run polls, and only run changes what is fetched, between two polls: so
// no record of before a SeekTo is in anybody's hands when the SeekTo is applied, and
// what the client has buffered goes when it is given another position.
type reader struct {
	cl  *kgo.Client
	adm *kadm.Client
	cfg Config
	log *slog.Logger
	m   *consumerMetrics

	fail context.CancelCauseFunc // ends the Consumer

	mu       sync.Mutex
	owned    map[int32]*Partition
	dirty    bool               // something is to be looked at before the next poll
	stopPoll context.CancelFunc // ends the poll under way

	feeds    map[int32]*feed  // only run touches it
	fetching *trouble.Trouble // of what is of no partition of ours
}

func newReader(cl *kgo.Client, cfg Config, log *slog.Logger, m *consumerMetrics, fail context.CancelCauseFunc) *reader {
	return &reader{
		cl: cl, adm: kadm.NewClient(cl), cfg: cfg, log: log, m: m, fail: fail,
		fetching: trouble.NewError(log, "fetching failed", "fetching works again"),
		owned:    make(map[int32]*Partition),
		feeds:    make(map[int32]*feed),
	}
}

// own adds a partition that was assigned to us.
func (r *reader) own(id int32) *Partition {
	p := newPartition(id, r.cfg.QueueBytes/4, r.wake)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owned[id] = p
	r.m.partitions.Set(float64(len(r.owned)))
	return p
}

// disown removes it. Nothing is put into it any more after the next poll.
func (r *reader) disown(p *Partition) {
	r.mu.Lock()
	if r.owned[p.ID] == p {
		delete(r.owned, p.ID)
	}
	r.m.partitions.Set(float64(len(r.owned)))
	r.mu.Unlock()
	r.wake()
}

// wake makes run look at the partitions. It doesn't block.
func (r *reader) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirty = true
	if r.stopPoll != nil {
		r.stopPoll()
	}
}

func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		// From here on a wake ends the poll, so that none is missed.
		poll, stop := context.WithCancel(ctx)
		r.setStop(stop)
		r.reconcile()
		r.poll(ctx, poll)
		stop()
	}
}

func (r *reader) setStop(stop context.CancelFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopPoll = stop
}

// poll waits for records until its context ends, or a partition's time has come.
func (r *reader) poll(ctx, poll context.Context) {
	if due := r.nextDue(); !due.IsZero() {
		var stop context.CancelFunc
		poll, stop = context.WithDeadline(poll, due)
		defer stop()
	}
	r.cl.PollFetches(poll).EachPartition(func(fetched kgo.FetchTopicPartition) {
		r.deliver(ctx, fetched)
	})
}

// deliver takes what was fetched of one partition.
func (r *reader) deliver(ctx context.Context, fetched kgo.FetchTopicPartition) {
	f := r.feeds[fetched.Partition]
	if f == nil || fetched.Topic != r.cfg.Topic {
		if fetched.Err != nil && !isEnd(fetched.Err) {
			r.fetching.Failed(fetched.Err)
		}
		return
	}
	if !f.fetching {
		return
	}
	r.fetching.Worked()
	if n := len(fetched.Records); n > 0 {
		r.m.records.Add(float64(n))
		r.m.bytes.Add(float64(size(fetched.Records) - n*recordOverhead))
		f.arrived(time.Now())
	}
	end := fetched.HighWatermark
	if !r.cfg.Uncommitted {
		end = fetched.LastStableOffset
	}
	if end >= 0 && fetched.Err == nil {
		f.p.end.Store(end)
	}
	if f.p.put(fetched.Records) >= r.cfg.QueueBytes {
		r.pause(f)
	}
	if fetched.Err != nil {
		r.failed(ctx, f, fetched.Err)
	}
}

// failed handles an error of one partition: it isn't fetched for a while.
func (r *reader) failed(ctx context.Context, f *feed, err error) {
	log := r.log.With("partition", f.p.ID)
	if isEnd(err) {
		return
	}
	if loss, ok := errors.AsType[*kgo.ErrDataLoss](err); ok {
		// The client goes on where the logs parted. Of the records there, those
		// with offsets that the worker already has are dropped.
		if want := f.p.wanted(); loss.ResetTo < want {
			f.p.strayed.Store(&Stray{want, loss.ResetTo})
		}
		log.Error("Kafka lost records of this partition", "pos", loss.ConsumedTo, "end", loss.ResetTo)
		return
	}
	r.m.errors.Inc()
	f.failures++
	f.removed()
	r.cl.RemoveConsumePartitions(map[string][]int32{r.cfg.Topic: {f.p.ID}})
	f.retry = time.Now().Add(backoff(f.failures))
	_, answer := errors.AsType[*kerr.Error](err)
	switch {
	case errors.Is(err, kerr.OffsetOutOfRange):
		r.outOfRange(ctx, f, log)
	case errors.Is(err, kerr.UnknownTopicID): // the client has tried for some seconds
		r.fail(fmt.Errorf("read topic %s: %w: %w", r.cfg.Topic, ErrTopicGone, err))
	case answer, isA[*net.OpError](err), isA[*kgo.ErrFirstReadEOF](err), r.cfg.Access.refusal(err) != nil:
		f.trouble.Failed(fmt.Errorf("it is not served: %w", err))
	default:
		r.undecodable(ctx, f, err, log)
	}
}

// isEnd reports errors that only say that polling ended.
func isEnd(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kgo.ErrClientClosed)
}

func (r *reader) partitions() []*Partition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.owned))
}
