package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
	"eventstream/internal/trouble"
	"eventstream/internal/watchdog"
	"eventstream/lane"
)

// Control is what the service reads of presence and of the control stream.
type Control interface {
	Epoch(ctx context.Context) (epoch string, created bool, err error)
	ControlEnd(ctx context.Context) (lane.ControlID, error)
	ControlSince(ctx context.Context, after lane.ControlID) ([]lane.Change, lane.ControlID, error)
	Gateways(ctx context.Context) ([]event.Gateway, error)
	Seats(ctx context.Context, g event.Gateway, sink func([]lane.Seated) error) error
}

const (
	expireEvery = 30 * time.Second // looks for gateways that are gone
	// A restart of Redis between two calls goes unnoticed, as the client connects
	// anew by itself. So a follower reads also when nobody asks, more often than
	// Redis can restart, and has its doubts when it could not for a while.
	readEvery   = 250 * time.Millisecond
	readAtLeast = time.Second
)

// follower keeps routes up to date with the control stream. One goroutine, run,
// reads for all workers.
type follower struct {
	control  Control
	routes   *routes
	refresh  func(ctx context.Context) error // brings in what changed in the filter store
	grace    time.Duration                   // see Config.AnnounceGrace
	failures prometheus.Counter
	emptied  prometheus.Counter
	log      *slog.Logger
	epochs   *trouble.Trouble // of the reading of the store's epoch
	known    *trouble.Trouble // of the filter store, when presence is read
	pulse    *watchdog.Part   // of run

	asks    chan chan<- synced
	doubts  atomic.Uint64             // how often there was reason to think that the store lost writes
	waiting atomic.Bool               // for gateways to announce themselves
	waited  atomic.Pointer[time.Time] // when the last wait that led to a reading began; nil if there was none

	// Only run touches these.
	at       lane.ControlID
	lost     bool                   // at is worth nothing
	last     time.Time              // when the last read without an error began
	settled  uint64                 // doubts that presence was read after; 0 before the first time
	epoch    string                 // of the store, when it was last read; "" if it never was
	suspects map[event.Gateway]bool // had no hash when we last looked
	gone     []event.Gateway        // being dropped, some seats at a time
}

// synced is the answer to one ask.
type synced struct {
	at  lane.ControlID
	err error
}

func newFollower(c Control, r *routes, refresh func(context.Context) error, grace time.Duration, m *metrics, log *slog.Logger) *follower {
	f := &follower{
		control: c, routes: r, refresh: refresh, grace: grace, failures: m.redisFailures, emptied: m.emptied, log: log,
		known:  trouble.New(log, "filter store can't be read; going on with the filters known", "filters are up to date again"),
		epochs: trouble.New(log, "epoch of the store can't be read or written; going on without", "epoch of the store can be read and written again"),
		asks:   make(chan chan<- synced, 256), // more partitions than that wait a moment longer
		lost:   true,
	}
	return f
}

// doubt says that the store may have lost writes. What gateways announced last,
// and nobody has read yet, may be among them.
func (f *follower) doubt() { f.doubts.Add(1) }

// behind says that the store is behind what it held at a time. All partitions
// find that out, one after the other: those that had no news of the store since
// before the last wait for gateways don't make it wait again.
func (f *follower) behind(held time.Time) {
	if waited := f.waited.Load(); waited == nil || !waited.After(held) {
		f.doubt()
	}
}

// sync applies all that stands in the control stream at the time of the call,
// and returns how far that is.
func (f *follower) sync(ctx context.Context) (lane.ControlID, error) {
	answer := make(chan synced, 1)
	select {
	case f.asks <- answer:
	case <-ctx.Done():
		return lane.ControlID{}, f.late(ctx)
	}
	select {
	case s := <-answer:
		return s.at, s.err
	case <-ctx.Done():
		return lane.ControlID{}, f.late(ctx)
	}
}

func (f *follower) late(ctx context.Context) error {
	if f.waiting.Load() {
		return fmt.Errorf("waiting for gateways to announce their seats: %w", ctx.Err())
	}
	return fmt.Errorf("read control stream: %w", ctx.Err())
}

// run reads once, so that the wait for gateways goes by while the partitions are
// being assigned, and then answers asks until ctx ends. Those that came while a
// read was under way share the next one, which begins after all of them.
func (f *follower) run(ctx context.Context) error {
	expire, idle := time.NewTicker(expireEvery), time.NewTicker(readEvery)
	defer expire.Stop()
	defer idle.Stop()
	var waiting []chan<- synced
	for {
		f.pulse.Beat()
		err := f.read(ctx)
		for _, a := range waiting {
			a <- synced{f.at, err}
		}
		waiting = waiting[:0]
		select {
		case <-ctx.Done():
			return nil
		case a := <-f.asks:
			waiting = append(waiting, a)
		case <-idle.C:
		case <-expire.C:
			f.expire(ctx)
		case <-f.dropping():
			f.drop()
		}
		for more := true; more; {
			select {
			case a := <-f.asks:
				waiting = append(waiting, a)
			default:
				more = false
			}
		}
	}
}

// read applies the changes since the last read.
func (f *follower) read(ctx context.Context) error {
	if time.Since(f.last) > readAtLeast {
		f.doubt()
	}
	settled := f.settled
	err := f.catchUp(ctx)
	if errors.Is(err, lane.ErrControlLost) {
		f.log.Warn("control stream lost its position; reading presence again", "pos", f.at)
		f.lost = true
		if settled == f.settled {
			f.doubt() // otherwise gateways have had their time just now
		}
		err = f.catchUp(ctx)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, errBulk) {
		f.failures.Inc()
		f.doubt()
	}
	return err
}

// errBulk reports that the filter store could not be read, though the control
// stream says that it must be. Events wait for it: matched without the filters
// that it holds, they would be lost to somebody.
var errBulk = errors.New("many filters changed at once, and the filter store can't be read")

func (f *follower) catchUp(ctx context.Context) error {
	if f.lost || f.doubts.Load() != f.settled {
		if err := f.restart(ctx); err != nil {
			return fmt.Errorf("read presence: %w", err)
		}
	}
	began := time.Now()
	changes, at, err := f.control.ControlSince(ctx, f.at)
	if err != nil {
		return fmt.Errorf("read control stream: %w", err)
	}
	f.last = began
	if slices.ContainsFunc(changes, func(c lane.Change) bool { return c.Bulk }) {
		if err := f.refreshWatching(ctx); err != nil {
			return fmt.Errorf("%w: %w", errBulk, err)
		}
	}
	for _, c := range changes {
		f.back(c.Gateway)
	}
	f.routes.apply(changes)
	f.at = at
	return nil
}

// refreshWatching is refresh with an eye on the control stream: a hundred thousand
// filters take a second to read, and not to have read the stream for so long is a
// reason to wait for gateways.
func (f *follower) refreshWatching(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- f.refresh(ctx) }()
	look := time.NewTicker(readEvery)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-look.C:
		}
		began := time.Now()
		if _, err := f.control.ControlEnd(ctx); err != nil {
			f.doubt()
		}
		f.last = began
	}
}

// restart reads presence from the hashes. If there is a doubt, gateways first get
// time to see that the store lost their announcements: they look every second.
// If the control stream can't be followed from where we were, it is followed from
// its end, which is read before the hashes: whatever those don't hold yet comes
// after it. Seats known already are kept: numbers are never reused, so at worst
// an event is addressed to nobody.
func (f *follower) restart(ctx context.Context) error {
	doubts, at, began := f.doubts.Load(), f.at, time.Now()
	seen, err := f.look(ctx)
	if err != nil {
		return err
	}
	if doubts != f.settled {
		f.log.Info("reading presence once gateways had time to announce their seats", "in", f.grace, "epoch", seen.epoch)
		if err := f.wait(ctx, seen); err != nil {
			return err
		}
	}
	if f.lost {
		at = seen.end
	}
	if err := f.readSeats(ctx); err != nil {
		return err
	}
	// The store may have lost changes of filters as well, and those before the
	// end are not read from the stream. While the filter store is down, matching
	// goes on with what is known, but it doesn't begin.
	if err := f.refresh(ctx); err != nil {
		if f.settled == 0 || ctx.Err() != nil {
			return fmt.Errorf("read filters: %w", err)
		}
		f.known.Failed(err)
	} else {
		f.known.Worked()
	}
	if doubts != f.settled {
		f.waited.Store(&began)
	}
	f.at, f.lost, f.settled = at, false, doubts
	return nil
}

// glimpse is by what a store is known.
type glimpse struct {
	epoch string // "" if it could not be written, as when the store is full
	end   lane.ControlID
}

func (f *follower) look(ctx context.Context) (g glimpse, err error) {
	if g.end, err = f.control.ControlEnd(ctx); err != nil {
		return g, err
	}
	g.epoch, _, err = f.control.Epoch(ctx)
	if f.epochs.Saw(err); err != nil {
		return g, nil
	}
	if f.epoch != "" && g.epoch != f.epoch {
		f.emptied.Inc()
		f.log.Error("Redis was emptied, or another one took its place: presence is read again, and lanes are filled again from Kafka", "epoch", g.epoch, "before", f.epoch)
	}
	f.epoch = g.epoch
	return g, nil
}

var errLostAgain = errors.New("the store lost writes again, while gateways were waited for")

// wait gives gateways time, and looks all the while whether the store still is
// what it was.
func (f *follower) wait(ctx context.Context, seen glimpse) error {
	f.waiting.Store(true)
	defer f.waiting.Store(false)
	for over := time.Now().Add(f.grace); time.Now().Before(over); {
		if err := sleep(ctx, min(readEvery, time.Until(over))); err != nil {
			return err
		}
		now, err := f.look(ctx)
		if err != nil {
			return err
		}
		if now.end.Compare(seen.end) < 0 || now.epoch != "" && seen.epoch != "" && now.epoch != seen.epoch {
			return errLostAgain
		}
		seen = now
	}
	return nil
}

func (f *follower) readSeats(ctx context.Context) error {
	gateways, err := f.control.Gateways(ctx)
	if err != nil {
		return err
	}
	for _, g := range gateways {
		f.back(g)
		err := f.control.Seats(ctx, g, func(seated []lane.Seated) error {
			f.pulse.Beat()
			f.routes.join(g, seated)
			return nil
		})
		if err != nil {
			return err
		}
	}
	f.routes.publish()
	return nil
}

// expire begins to drop gateways whose presence hash is gone, twice in a row: the hash
// outlives its gateway by the resume window, and a gateway that lost it to a
// wiped store announces itself within a heartbeat. One that announces itself
// meanwhile is read after this, as only run does both.
func (f *follower) expire(ctx context.Context) {
	alive, err := f.control.Gateways(ctx)
	if err != nil {
		return // the read that comes next tells
	}
	present := make(map[event.Gateway]bool, len(alive))
	for _, g := range alive {
		present[g] = true
	}
	missing := make(map[event.Gateway]bool)
	for _, g := range f.routes.knownGateways() {
		switch {
		case present[g] || slices.Contains(f.gone, g):
		case f.suspects[g]:
			f.log.Info("gateway is gone", "gateway", g.String())
			f.gone = append(f.gone, g)
		default:
			missing[g] = true
		}
	}
	f.suspects = missing
}

// dropAtOnce is how many seats are dropped between two reads: some milliseconds'
// work, for which whoever asks may have to wait.
const dropAtOnce = 500

var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// dropping can be received from while there are gateways to be dropped.
func (f *follower) dropping() <-chan struct{} {
	if len(f.gone) == 0 {
		return nil
	}
	return always
}

// drop forgets some seats of a gateway that is gone.
func (f *follower) drop() {
	if !f.routes.dropSeats(f.gone[0], dropAtOnce) {
		f.gone = f.gone[1:]
	}
}

// back keeps a gateway that is there after all from being dropped further. It has
// announced all its seats again, or is about to: its hash was gone.
func (f *follower) back(g event.Gateway) {
	f.gone = slices.DeleteFunc(f.gone, func(o event.Gateway) bool { return o == g })
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
