package lane

import (
	"context"
	"errors"
	"fmt"
)

// Range asks for so many entries at a time: few at first, since a reader for
// whom most of them are takes only some KB at a time, and more with every page, of
// about pageBytes at most.
const (
	firstPage = 4
	lastPage  = 128
	pageBytes = 4 << 20
)

// Range passes the entries of a shard's lane of partition p that may hold offsets
// in [from, to), in order, and
// returns from where on the lane was complete after they had been read: if that
// is above from, entries were trimmed away; -1: the partition is unknown.
// ErrBehind: the partition is not at to, so that entries may be missing. If sink
// ends it, that holds for the entries passed.
func (r *Redis) Range(ctx context.Context, sh Shard, p int32, from, to int64, sink func(Entry) error) (first int64, err error) {
	first = -1
	start := offset(max(from, 0)) + "-0"
	for most := firstPage; ; most = min(2*most, lastPage) {
		n := min(most, r.reads.entries(pageBytes))
		page, err := r.readRange(ctx, sh, p, start, n)
		if err != nil {
			r.reads.failed(err)
			return 0, fmt.Errorf("redis range of partition %d: %w", p, err)
		}
		if page.pos.First < 0 {
			return -1, nil
		}
		// The highest of all pages: the lane may have been made anew between two.
		first = max(first, page.pos.First)
		r.reads.saw(page.entries)
		for _, e := range page.entries {
			if err := sink(e); err != nil {
				return first, err
			}
			if e.Last >= to-1 {
				return first, nil
			}
		}
		if len(page.entries) < n {
			if page.next < to {
				return first, fmt.Errorf("redis range of partition %d to %d, is at %d: %w", p, to, page.next, ErrBehind)
			}
			return first, nil
		}
		start = offset(page.entries[len(page.entries)-1].Last+1) + "-0"
	}
}

// page is a part of a lane: the position before the entries were read, the
// entries, the position afterwards.
type page struct {
	next    int64
	entries []Entry
	pos     Position
}

func (r *Redis) readRange(ctx context.Context, sh Shard, p int32, start string, n int) (page, error) {
	c, err := r.open(ctx)
	if err != nil {
		return page{}, err
	}
	do, b := c.DoMulti, c.B()
	if r.cluster {
		// It would send commands on to where a slot is moving one by one, and
		// so change their order. A dedicated client fails.
		dc, release := c.Dedicate()
		defer release()
		do = dc.DoMulti
	}
	res, err := pipeline(ctx, do,
		r.readPosition(b, sh, p),
		b.Xrange().Key(r.laneKey(sh, p)).Start(start).End("+").Count(int64(n)).Build(),
		r.readPosition(b, sh, p))
	if err != nil {
		return page{}, err
	}
	before, err1 := parsePosition(sh, p, res[0])
	after, err2 := parsePosition(sh, p, res[2])
	msgs, err3 := res[1].ToArray()
	if err := errors.Join(err1, err2, err3); err != nil {
		return page{}, err
	}
	out := page{next: before.Next, pos: after, entries: make([]Entry, len(msgs))}
	for i := range msgs {
		if out.entries[i], _, err = parseEntry(p, &msgs[i]); err != nil {
			return page{}, err
		}
	}
	return out, nil
}
