// Package reader reads the lanes of one shard of the subscribers, finds what is for this
// gateway's seats, and posts it to the workers that own the seats' connections. It knows
// seats, and no connection.
//
// A reader's position passes an event only when that was posted. So the positions that
// come with a post say what its worker has, and a seat that joins between two batches gets
// all that the later ones address to it.
package reader

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
	"eventstream/gateway/history"
	"eventstream/gateway/position"
	"eventstream/gateway/uptime"
	"eventstream/internal/trouble"
	"eventstream/lane"
)

// Store holds the lanes: Redis, or memory.
type Store interface {
	history.Store
	Positions(ctx context.Context, sh lane.Shard, partitions int32) ([]lane.Position, error)
	Require(ctx context.Context, sh lane.Shard, partitions int32, synced lane.ControlID) ([]lane.Position, error)
	Tail(ctx context.Context, sh lane.Shard, from []int64, sink func(lane.Batch) error) error
}

// Worker takes what is for its seats: of n workers, seat s is the one's at s%n.
type Worker interface{ Post(Post) }

// Post is what a batch holds for one worker.
type Post struct {
	Deliveries []Delivery
	Reader     int            // the Index of who posts
	Next       []int64        // positions after Deliveries; nil if unchanged
	Settled    lane.ControlID // addresses announced up to here are in use everywhere; zero if nothing new
}

// Delivery is an event and the seats of a worker that it is for.
type Delivery struct {
	Event *history.Event
	Seats []event.Seat
}

// Config is what a Reader needs.
type Config struct {
	Gateway event.Gateway
	Workers []Worker
	History history.Config // of the lanes' past; Timeout and SkipMalformed are those of reading, too

	Sure   func(context.Context, time.Time) // waits until it is known that the store had not lost our seats then
	Missed func()                           // events were trimmed before they were read
	Lost   func(*Reader, Losses)            // Kafka lost events; called between two batches

	Failures, Malformed, Misses prometheus.Counter // of the store, of entries, and calls of Missed
}

// Reader reads the lanes of one shard. Unless it is the only one, it begins when the first
// of its subscribers comes.
type Reader struct {
	cfg   Config
	store Store
	index int
	shard lane.Shard
	past  *history.Lanes
	log   *slog.Logger
	wish  chan struct{} // somebody needs it; capacity 1

	unreadable atomic.Bool // the lanes hold an entry that can't be read
	lost       atomic.Pointer[Losses]
	trouble    *trouble.Trouble      // of reading
	garbled    *trouble.Trouble      // of what was read
	waits      atomic.Pointer[error] // why it can't begin, once somebody has asked for it; nil if it has, or nobody did
	heard      atomic.Int64          // when the lanes last answered, uptime; 0 if never
	follows    follows

	mu     sync.Mutex         // held during a batch: a join falls between two
	tail   context.CancelFunc // ends the reading under way
	next   []int64            // positions: every event below has been posted; replaced, never changed; nil before start
	began  []int64            // where it started
	broke  []int64            // where it was when reading first failed since BrokeAt; nil if it did not
	synced []lane.ControlID
	ends   []int64 // of the partitions in Kafka at some time before: what is below was produced by then
	beats  []beat
	news   chan struct{} // closed when positions came, or it started

	// Only Run touches these.
	unpacker   lane.Unpacker
	seats      []event.Seat
	deliveries [][]Delivery // by worker
}

// beat is what a partition's position showed last, and since when.
type beat struct {
	value int64
	at    time.Time
}

// New returns a Reader of a shard's lanes, of so many partitions. Its posts say its index.
func New(store Store, index int, sh lane.Shard, partitions int32, cfg Config, log *slog.Logger) *Reader {
	r := &Reader{
		cfg: cfg, store: store, index: index, shard: sh, log: log,
		past:    history.NewLanes(store, sh, cfg.History),
		trouble: trouble.New(log.With("shard", sh.String()), "reading lanes failed; retrying", "reading lanes works again"),
		garbled: trouble.NewError(log.With("shard", sh.String()), "what is in a lane can't be understood", "what is in the lanes can be understood again"),
		wish:    make(chan struct{}, 1), news: make(chan struct{}),
		synced: make([]lane.ControlID, partitions), ends: make([]int64, partitions),
		deliveries: make([][]Delivery, len(cfg.Workers)),
	}
	if sh.Of == 1 {
		r.wish <- struct{}{}
	}
	return r
}

// Index is the number that the reader's posts say.
func (r *Reader) Index() int { return r.index }

// Shard returns whose lanes are read.
func (r *Reader) Shard() lane.Shard { return r.shard }

// Past returns the past of the lanes.
func (r *Reader) Past() *history.Lanes { return r.past }

// Lock returns the lock that is held while a batch is divided, to be watched.
func (r *Reader) Lock() sync.Locker { return &r.mu }

// Run begins when it is asked to, and reads until ctx ends. A store that fails is
// asked again.
func (r *Reader) Run(ctx context.Context) error {
	select {
	case <-r.wish:
	case <-ctx.Done():
		return nil
	}
	r.begin(ctx)
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 2*time.Second) {
		began := time.Now()
		err, grown := r.read(ctx)
		if ctx.Err() != nil {
			break
		}
		if grown {
			r.cfg.Sure(ctx, time.Now()) // it may have failed at the same time
			continue
		}
		if time.Since(began) > 10*time.Second {
			wait = 100 * time.Millisecond
		}
		r.failed()
		r.trouble.Failed(err, "in", wait)
		failed := time.Now()
		uptime.Sleep(ctx, wait)
		r.cfg.Sure(ctx, failed)
	}
	return nil
}

// read reads on from where the reader is. It ends when that failed, or when there are
// more partitions to be read.
func (r *Reader) read(ctx context.Context) (err error, grown bool) {
	tail, stop := context.WithCancel(ctx)
	defer stop()
	r.mu.Lock()
	next := r.next
	r.tail = stop
	r.mu.Unlock()
	err = r.store.Tail(tail, r.shard, next, func(b lane.Batch) error {
		err := r.Batch(b)
		r.garbled.Saw(err)
		if err == nil {
			r.trouble.Worked()
		}
		return err
	})
	return err, tail.Err() != nil
}

// Grow takes up the partitions that the topic was given, up to n of them, from their
// Start on: those who are connected get what was written there before. Whoever was
// announced when a filter service began with them is addressed in them from there on;
// for those that come later see topics.look in package gateway.
func (r *Reader) Grow(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n <= len(r.synced) {
		return
	}
	r.synced = append(r.synced, make([]lane.ControlID, n-len(r.synced))...)
	r.ends = position.Extend(r.ends, n)
	if r.next == nil {
		return // it begins with all of them
	}
	r.takeLocked(position.Extend(r.next, n))
	if r.tail != nil {
		r.tail()
	}
}

// takeLocked takes the partitions up that next has more than there were, and tells the
// workers where all are.
func (r *Reader) takeLocked(next []int64) {
	for len(r.beats) < len(next) {
		r.beats = append(r.beats, beat{at: time.Now()})
	}
	r.past.Start(next)
	for _, w := range r.cfg.Workers {
		w.Post(Post{Reader: r.index, Next: next})
	}
	r.next = next
	close(r.news)
	r.news = make(chan struct{})
}

// Require has the lanes refuse what is matched with less of the control stream, and
// returns where they are.
func (r *Reader) Require(ctx context.Context, synced lane.ControlID) ([]lane.Position, error) {
	return r.store.Require(ctx, r.shard, r.partitions(), synced)
}

// begin waits until a filter service has taken up all lanes, and starts there.
func (r *Reader) begin(ctx context.Context) {
	said := ""
	for ; ctx.Err() == nil; uptime.Sleep(ctx, retryEvery) {
		positions, err := r.claimed(ctx)
		if err == nil {
			r.Start(positions)
			r.waits.Store(nil)
			if said != "" {
				r.log.Info("lanes can be read", "shard", r.shard.String())
			}
			return
		}
		r.waits.Store(&err)
		if err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			r.log.Info("lanes can't be read yet; waiting", "shard", r.shard.String(), "err", err)
		}
	}
}

// claimed returns the positions, once there is one for each partition.
func (r *Reader) claimed(ctx context.Context) ([]lane.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.History.Timeout)
	defer cancel()
	positions, err := r.store.Positions(ctx, r.shard, r.partitions())
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(positions, func(p lane.Position) bool { return p.Next < 0 }) {
		return nil, errors.New("a filter service has yet to take up every partition")
	}
	return positions, nil
}

// Start begins to read at the given positions.
func (r *Reader) Start(positions []lane.Position) {
	next := make([]int64, len(positions))
	for _, p := range positions {
		next[p.Partition] = p.Next
	}
	r.heard.Store(int64(uptime.Now()))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range positions {
		r.ends[p.Partition] = p.End
	}
	r.noteLost(positions)                          // for who joins
	r.began = position.Extend(next, len(r.synced)) // there may be more since
	r.takeLocked(r.began)
}

// partitions returns how many the topic has, as far as is known.
func (r *Reader) partitions() int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int32(len(r.synced))
}

// retryEvery is the pause between two looks for the filter service.
const retryEvery = 250 * time.Millisecond
