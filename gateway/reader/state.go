package reader

import (
	"context"
	"fmt"
	"slices"
	"time"

	"eventstream/event"
	"eventstream/gateway/position"
	"eventstream/gateway/uptime"
	"eventstream/lane"
)

// failed notes that reading failed, and where.
func (r *Reader) failed() {
	r.cfg.Failures.Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broke == nil {
		r.broke = r.next
	}
}

// BrokeAt returns where the reader was when reading first failed since the last
// call, nil if it has not.
func (r *Reader) BrokeAt() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	broke := r.broke
	r.broke = nil
	return broke
}

// Started has the reader begin, and returns when it reads.
func (r *Reader) Started(ctx context.Context) error {
	select {
	case r.wish <- struct{}{}:
	default:
	}
	for {
		r.mu.Lock()
		started, news := r.next != nil, r.news
		r.mu.Unlock()
		if started {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("start reading lanes of shard %s: %w", r.shard, ctx.Err())
		}
	}
}

// Settled waits until all lanes are matched with what was announced up to at, and
// returns from where on that is so.
func (r *Reader) Settled(ctx context.Context, at lane.ControlID) ([]int64, error) {
	for {
		r.mu.Lock()
		synced, next, news := slices.MinFunc(r.synced, lane.ControlID.Compare), r.next, r.news
		r.mu.Unlock()
		if synced.Compare(at) >= 0 {
			return next, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait until the seat is known everywhere: %w", ctx.Err())
		}
	}
}

// Unready returns why no client can join, or "".
func (r *Reader) Unready() string {
	if heard := r.heard.Load(); heard == 0 {
		if r.shard.Of == 1 {
			return "waiting for the filter service to take up every partition"
		}
		return ""
	} else if r.unreadable.Load() {
		return "the lanes have an entry that can't be read; see the log, and --skip-malformed"
	} else if age := uptime.Now() - time.Duration(heard); age > r.cfg.History.Timeout {
		return fmt.Sprintf("the lanes have not answered for %s", age.Round(time.Second))
	}
	return ""
}

// Stuck returns which partitions have not been looked after for longer than limit, or "",
// and whether all have not. A filter service shows every second that it looks after one.
func (r *Reader) Stuck(limit time.Duration) (reason string, all bool) {
	if why := r.waits.Load(); why != nil {
		return fmt.Sprintf("subscribers of shard %s can't connect: %v", r.shard, *why), true
	}
	var quiet []int
	ages := r.Ages()
	for p, age := range ages {
		if age > limit {
			quiet = append(quiet, p)
		}
	}
	if len(quiet) == 0 {
		return "", false
	}
	shard := ""
	if r.shard.Of > 1 {
		shard = " of shard " + r.shard.String()
	}
	return fmt.Sprintf("partition %d%s has not moved for %s: no filter service works on it, or the one that does can't reach Redis (%d of %d partitions)",
		quiet[0], shard, ages[quiet[0]].Round(time.Second), len(quiet), len(ages)), len(quiet) == len(ages)
}

// Ages returns how long ago each partition was last seen to be looked after; nil
// before the start.
func (r *Reader) Ages() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		return nil
	}
	ages := make([]time.Duration, len(r.beats))
	for p, b := range r.beats {
		ages[p] = time.Since(b.at)
	}
	return ages
}

// Positions returns how far the reader has come. The slice must not be changed.
func (r *Reader) Positions() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// Origin is where the reader started; nil if it has not.
func (r *Reader) Origin() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.began
}

// Reached waits until events are known to exist up to the given positions. The gateway that
// a client comes from may be ahead of us for a moment, and a store that lost writes is
// filled again. Only a partition's filter service can say that an event does not exist:
// two of its beats without it are taken for that.
func (r *Reader) Reached(ctx context.Context, seen []int64) error {
	p, beats, last := -1, 0, beat{}
	for {
		exist, at := r.exist()
		ahead := position.Below(exist, seen)
		if ahead < 0 {
			return nil
		}
		switch {
		case ahead != p:
			p, beats = ahead, 0
		case p < len(at) && at[p] != last:
			beats++
		}
		if beats > 1 { // the first may have been read before the client came
			return fmt.Errorf("there is no event %d-%d yet, the next one is %d-%d; %w", p, seen[p]-1, p, position.Of(exist, int32(p)), event.ErrSeen)
		}
		if p < len(at) {
			last = at[p]
		}
		if err := uptime.Sleep(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("wait until partition %d is at %d: %w", p, seen[p], err)
		}
	}
}

// exist returns positions below which events exist, and what the partitions' positions
// showed last.
func (r *Reader) exist() ([]int64, []beat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return position.Highest(r.next, r.ends), slices.Clone(r.beats)
}

// Exist returns positions below which events exist.
func (r *Reader) Exist() []int64 {
	exist, _ := r.exist()
	return exist
}

// Silence returns for how long the lanes have not answered; 0 if they are not read.
func (r *Reader) Silence() time.Duration {
	heard := r.heard.Load()
	if heard == 0 {
		return 0
	}
	return uptime.Now() - time.Duration(heard)
}
