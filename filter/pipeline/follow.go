package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"eventstream/event"
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

// follower keeps routes up to date with the control stream. One goroutine, run,
// reads for all workers.
type follower struct {
	control Control
	routes  *routes
	refresh func(ctx context.Context) error // brings in what changed in the filter store
	grace   time.Duration                   // see Config.AnnounceGrace
	log     *slog.Logger
	asks    chan chan<- synced
	doubted atomic.Bool

	// Only run touches these.
	at    lane.ControlID
	epoch string
	lost  bool // at is worth nothing: start again from the hashes
}

// synced is the answer to one ask.
type synced struct {
	at  lane.ControlID
	err error
}

func newFollower(c Control, r *routes, refresh func(context.Context) error, grace time.Duration, log *slog.Logger) *follower {
	return &follower{
		control: c, routes: r, refresh: refresh, grace: grace, log: log, lost: true,
		asks: make(chan chan<- synced, 256), // more partitions than that wait a moment longer
	}
}

// sync applies all that stands in the control stream at the time of the call,
// and returns how far that is.
func (f *follower) sync(ctx context.Context) (lane.ControlID, error) {
	answer := make(chan synced, 1)
	select {
	case f.asks <- answer:
	case <-ctx.Done():
		return lane.ControlID{}, ctx.Err()
	}
	select {
	case s := <-answer:
		return s.at, s.err
	case <-ctx.Done():
		return lane.ControlID{}, ctx.Err()
	}
}

// run answers asks until ctx ends. Those that came while a read was under way
// share the next one, which begins after all of them.
func (f *follower) run(ctx context.Context) error {
	var waiting []chan<- synced
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-f.asks:
			waiting = append(waiting[:0], a)
		}
		for more := true; more; {
			select {
			case a := <-f.asks:
				waiting = append(waiting, a)
			default:
				more = false
			}
		}
		err := f.read(ctx)
		for _, a := range waiting {
			a <- synced{f.at, err}
		}
	}
}

// read applies the changes since the last read.
func (f *follower) read(ctx context.Context) error {
	if f.lost || f.doubted.Load() {
		if err := f.restart(ctx); err != nil {
			return fmt.Errorf("read presence: %w", err)
		}
		f.lost = false
	}
	changes, at, err := f.control.ControlSince(ctx, f.at)
	if errors.Is(err, lane.ErrControlLost) {
		f.log.Warn("control stream lost its position; reading presence again", "pos", f.at)
		f.lost = true
		return f.read(ctx)
	}
	if err != nil {
		return fmt.Errorf("read control stream: %w", err)
	}
	f.routes.apply(changes)
	f.at = at
	return nil
}

// restart reads presence from the hashes. The end of the stream is read before
// them, so whatever they don't hold yet comes after it. Seats known already are
// kept: numbers are never reused, so at worst an event is addressed to nobody.
func (f *follower) restart(ctx context.Context) error {
	epoch, created, err := f.control.Epoch(ctx)
	if err != nil {
		return err
	}
	first, wiped := f.epoch == "", f.epoch != epoch
	if created || !first && (wiped || f.doubted.Swap(false)) {
		f.log.Info("store lost writes or is new; waiting for gateways to announce their seats", "epoch", epoch, "for", f.grace)
		if err := sleep(ctx, f.grace); err != nil {
			return err
		}
	}
	end, err := f.control.ControlEnd(ctx)
	if err != nil {
		return err
	}
	gateways, err := f.control.Gateways(ctx)
	if err != nil {
		return err
	}
	for _, g := range gateways {
		err := f.control.Seats(ctx, g, func(seated []lane.Seated) error {
			f.routes.join(g, seated)
			return nil
		})
		if err != nil {
			return err
		}
	}
	// Changes of filters before end are not read from the stream. While the
	// filter store is down, matching goes on with what is known.
	if err := f.refresh(ctx); err != nil {
		if first {
			return fmt.Errorf("read filters: %w", err)
		}
		f.log.Warn("filter store can't be read; filters as last known", "err", err)
	}
	f.at, f.epoch = end, epoch
	f.doubted.Store(false)
	return nil
}

// doubt is called when a lane is behind what was appended: the store has lost
// writes, and what gateways announced last may be among them.
func (f *follower) doubt() { f.doubted.Store(true) }

// expire drops gateways whose presence hash is gone, twice in a row: the hash
// outlives its gateway by the resume window, and a gateway that lost it to a
// wiped store announces itself within a heartbeat.
func (f *follower) expire(ctx context.Context, suspects map[event.Gateway]bool) (map[event.Gateway]bool, error) {
	alive, err := f.control.Gateways(ctx)
	if err != nil {
		return suspects, err
	}
	present := make(map[event.Gateway]bool, len(alive))
	for _, g := range alive {
		present[g] = true
	}
	missing := make(map[event.Gateway]bool)
	for _, g := range f.routes.knownGateways() {
		switch {
		case present[g]:
		case suspects[g]:
			f.log.Info("gateway is gone", "gateway", g.String())
			f.routes.dropGateway(g)
		default:
			missing[g] = true
		}
	}
	return missing, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
