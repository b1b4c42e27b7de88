package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"time"

	"github.com/google/uuid"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/filter/index"
	"eventstream/replay"
)

const (
	// explainsAtOnce bounds what the looks for one subscriber's filters among all cost.
	explainsAtOnce = 2
	maxExplained   = 2000 // filters of one answer
	// scanAtOnce is how many filters are looked at while the lock is held: some 10 µs.
	scanAtOnce   = 100
	explainAfter = time.Second // events that wait for the control stream are matched no sooner
)

// Explain tells what is in memory of a subscriber's filters: which of them match an event,
// by which revision, and whether such an event goes to the subscriber's connections. It
// holds up nobody: locks are held for some filters at a time.
func (s *Service) Explain(ctx context.Context, q replay.Question) (a replay.Live, err error) {
	if !s.cfg.Shard.Holds(q.Subscriber) {
		return a, fmt.Errorf("%w: this process serves shard %s", replay.ErrElsewhere, s.cfg.Shard)
	}
	if !s.loaded.Load() {
		return a, replay.Busy(refuseFor, errors.New("filters are not loaded yet"))
	}
	select {
	case s.explaining <- struct{}{}:
		defer func() { <-s.explaining }()
	default:
		return a, replay.Busy(refuseFor, fmt.Errorf("%d such questions are being answered, which is the most", explainsAtOnce))
	}
	a = replay.Live{Shard: s.cfg.Shard.String(), Filters: []replay.LiveFilter{}}
	if err := s.upToDate(ctx); err != nil {
		a.Waits = err.Error()
	}
	var seats int
	if a.Addressed, seats, err = s.routes.addressed(q.Subscriber, q.Event, s.cfg.Source.Mapping()); err != nil {
		return a, fmt.Errorf("%w: event: %w", replay.ErrRequest, err)
	}
	a.Seats = seats
	keys, err := s.routes.filtersOf(ctx, q)
	if err != nil {
		return a, replay.Busy(refuseFor, err)
	}
	if a.More = len(keys) > maxExplained; a.More {
		keys = keys[:maxExplained]
	}
	a.Filters, err = s.routes.explain(keys, q.Event, s.cfg.Source.Mapping())
	return a, err
}

// upToDate applies what stands in the control stream, as before a match.
func (s *Service) upToDate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, explainAfter)
	defer cancel()
	if _, err := s.follower.sync(ctx); err != nil {
		return err
	}
	return s.routes.understood()
}

// addressed matches an event as a worker does, and looks for the subscriber among the
// recipients.
func (r *routes) addressed(subscriber string, data []byte, m *event.Mapping) (yes bool, seats int, err error) {
	r.mu.Lock()
	v := r.published.Load()
	var slot index.Slot
	if s := r.subscribers[subscriber]; s != nil {
		slot, seats = s.slot, s.seats
	}
	r.mu.Unlock()
	matched, err := slots(v.index, data, m)
	return seats > 0 && matched[slot], seats, err
}

// slots matches an event.
func slots(in *index.Snapshot, data []byte, mapping *event.Mapping) (map[index.Slot]bool, error) {
	var d event.Decoder
	ev, err := d.DecodeMapped(data, in.Paths(), mapping, nil)
	if err != nil {
		return nil, err
	}
	var m index.Matcher
	m.Match(in, ev)
	found := make(map[index.Slot]bool)
	for base, mask := range m.All() {
		for ; mask != 0; mask &= mask - 1 {
			found[base+index.Slot(bits.TrailingZeros64(mask))] = true
		}
	}
	return found, nil
}

// filtersOf finds a subscriber's filters by looking at all, some at a time, in the order
// of their IDs. The map may change in between: what comes or goes meanwhile may be found
// or not.
func (r *routes) filtersOf(ctx context.Context, q replay.Question) (keys []key, err error) {
	after, upTo := key{}, slices.Repeat([]byte{255}, len(key{}))
	if q.After != "" {
		after = keyOf(q.After)
	}
	if q.UpTo != "" {
		k := keyOf(q.UpTo)
		upTo = k[:]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for k, f := range r.filters {
		if n++; n%scanAtOnce == 0 {
			r.mu.Unlock()
			runtime.Gosched() // or who waits for the lock might not get it for a millisecond
			err := ctx.Err()
			r.mu.Lock()
			if err != nil {
				return nil, err
			}
		}
		if f.condition != nil && f.subscriber.id == q.Subscriber && bytes.Compare(k[:], after[:]) > 0 && bytes.Compare(k[:], upTo) <= 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	return keys, nil
}

// explain tells of filters, by an index of their own, which of them match.
func (r *routes) explain(keys []key, data []byte, m *event.Mapping) ([]replay.LiveFilter, error) {
	out, x := []replay.LiveFilter{}, index.New(index.Options{})
	for _, k := range keys {
		f, wants, ok := r.lookUp(k)
		if !ok {
			continue // it was deleted just now
		}
		x.Add(x.InternPortable(wants), index.Slot(len(out)))
		out = append(out, replay.LiveFilter{ID: filter.ID(uuid.UUID(k).String()), Revision: f.revision})
	}
	matched, err := slots(x.Snapshot(), data, m)
	for i := range out {
		out[i].Matches = matched[index.Slot(i)]
	}
	return out, err
}

// lookUp returns a filter, unless it is deleted, and what it asks for.
func (r *routes) lookUp(k key) (f known, wants index.Portable, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f = r.filters[k]; f.condition == nil {
		return f, wants, false
	}
	return f, r.index.Export(f.condition), true
}
